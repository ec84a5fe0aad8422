"""Files beside the results, as asked for: subtitles, chapters, XMP, and one's own names for labels.

Knows nothing of what is in the files (output/sidecars.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from adafocus_cli.errors import UsageError

if TYPE_CHECKING:
    from adafocus_cli.output.sidecars import Sidecars
    from adafocus_cli.requests import TagRequest


@dataclass(frozen=True, kw_only=True)
class SidecarRequest:
    """Which of these files to write, and where; without a folder, where the results go."""

    subtitles: Literal["vtt", "srt"] | None
    chapters: bool
    xmp: bool
    folder: Path | None
    map: Path | None

    def open(self, output: Path | None, request: TagRequest) -> Sidecars | None:
        """What writes them beside the results in `output`; None if no such file is wanted."""
        from adafocus_cli.output.sidecars import Sidecars, TagMap, read_tag_map

        timed = [*filter(None, [self.subtitles]), *(["chapters"] if self.chapters else [])]
        kinds = (*timed, *(["xmp"] if self.xmp else []))
        if not kinds:
            for option, value in (("--sidecars", self.folder), ("--map", self.map)):
                if value is not None:
                    raise UsageError(f"{option} {value} is of files beside the results; add --subtitles vtt or --xmp")
            return None
        if timed and request.windows is None:
            option = "--chapters" if self.subtitles is None else f"--subtitles {self.subtitles}"
            raise UsageError(f"{option} shows what happens when; add --window SECONDS")
        if self.folder is None and output is None:
            raise UsageError("where shall the files beside the results go? give a folder with --sidecars")
        folder = self.folder or (output or Path()).parent
        return Sidecars(folder, kinds, TagMap() if self.map is None else read_tag_map(self.map))
