"""Records as a page to look at: one file, no network, nothing from a record trusted.

Knows records and video files; nothing of models.
"""
