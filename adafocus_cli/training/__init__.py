"""Teaching a tagger: labelled clips and a recipe → a model file.

`recipes` says what is trained in which order, `learner` and its children what a step minimises, `fit` is the loop.
"""
