"""The options for files beside the results: subtitles, chapters, XMP, and one's own names for labels.

Knows nothing of what is in the files (output/sidecars.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from adafocus_cli.errors import UsageError

if TYPE_CHECKING:
    from adafocus_cli.output.sidecars import Sidecars

PANEL = "Files for players and media libraries"

Subtitles = Annotated[
    Literal["vtt", "srt"] | None,
    typer.Option("--subtitles", rich_help_panel=PANEL, help="Segments as subtitles; needs --window."),
]
Chapters = Annotated[
    bool,
    typer.Option(
        "--chapters", metavar="", rich_help_panel=PANEL, help="Segments as chapters for FFmpeg; needs --window."
    ),
]
Xmp = Annotated[
    bool, typer.Option("--xmp", metavar="", rich_help_panel=PANEL, help="Tags, and segments as markers, as XMP.")
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--sidecars",
        metavar="FOLDER",
        show_default="where -o FILE is",
        rich_help_panel=PANEL,
        help="Where these files go, each below it as its video is named; with . they lie beside the videos.",
    ),
]
Map = Annotated[
    Path | None,
    typer.Option(
        "--map", metavar="FILE", rich_help_panel=PANEL, help="Names of your own for labels in these files: YAML or CSV."
    ),
]


def chosen(given: Mapping[str, Any], output: Path | None) -> Sidecars | None:
    """From a command's parameters, by their names; None if no such file is wanted."""
    from adafocus_cli.output.sidecars import Sidecars, TagMap, read_tag_map

    timed = [*filter(None, [given["subtitles"]]), *(["chapters"] if given["chapters"] else [])]
    kinds = (*timed, *(["xmp"] if given["xmp"] else []))
    if not kinds:
        for name in ("sidecars", "map"):
            if given[f"{name}_"] is not None:
                raise UsageError(
                    f"--{name} {given[f'{name}_']} is of files beside the results; add --subtitles vtt or --xmp"
                )
        return None
    if timed and given["window"] is None:
        option = "--chapters" if given["subtitles"] is None else f"--subtitles {given['subtitles']}"
        raise UsageError(f"{option} shows what happens when; add --window SECONDS")
    if given["sidecars_"] is None and output is None:
        raise UsageError("where shall the files beside the results go? give a folder with --sidecars")
    folder = given["sidecars_"] or (output or Path()).parent
    return Sidecars(folder, kinds, TagMap() if given["map_"] is None else read_tag_map(given["map_"]))
