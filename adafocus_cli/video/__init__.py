"""Reading videos: which frames, the exact frames, and the squares that a model sees.

Native decoders run in a child process (`process`, `worker`); the rest of the program imports no decoder.
"""
