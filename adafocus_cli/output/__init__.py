"""Results on their way out: writers by format (formats.py), where they write (sink.py), safe names (escape.py)."""
