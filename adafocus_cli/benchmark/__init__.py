"""How fast a model is on this machine, compared with its reference and with other networks."""
