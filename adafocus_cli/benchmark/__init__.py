"""How fast a model is on this machine, beside what else one could take: measured in rounds, reported, drawn."""
