"""A video with what the model did drawn into it. A child process decodes, draws and encodes; see `process.py`."""
