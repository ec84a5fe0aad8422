"""How good a model is on videos whose classes are known."""
