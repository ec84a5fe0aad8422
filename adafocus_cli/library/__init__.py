"""Models by name: the catalogue of published models, the folder of installed ones, and how to install them."""
