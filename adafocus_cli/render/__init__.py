"""Draws a result into its video. A child process decodes, draws and encodes; see `process.py`."""
