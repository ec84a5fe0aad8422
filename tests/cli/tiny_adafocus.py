"""`python -m tests.cli.tiny_adafocus batch …` is `adafocus` with a tiny model in the place of any that is named."""

from __future__ import annotations

from adafocus_cli.tagger import ClipTagger
from tests.tiny import tiny_tagger

if __name__ == "__main__":
    ClipTagger.of = lambda request: tiny_tagger("adafocus-v2")  # type: ignore[method-assign]
    from adafocus_cli.__main__ import main

    main()
