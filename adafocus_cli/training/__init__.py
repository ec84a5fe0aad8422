"""Training: labelled clips and a recipe → a model file.

`recipes` says what is trained in which order, `learner` and its subclasses what a step minimises; `fit` is the loop.
"""
