"""Models by name: the catalogue of what was published, where installed models live, and how they get there."""
