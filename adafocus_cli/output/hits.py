"""What was found, in the formats of `adafocus find`: a table, lines of JSON, CSV, paths, and a playlist.

A playlist is M3U in UTF-8, with the options by which VLC begins and ends where it is told to.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from adafocus_cli.errors import printable
from adafocus_cli.output.search import FoundVideo, Hit
from adafocus_cli.output.texts import clock_to_tenths, percent
from adafocus_cli.output.writers import Cell, Sink, dumps, line_of
from adafocus_cli.video.remote import is_remote

HitFormat = Literal["table", "jsonl", "json", "csv", "paths", "m3u"]
FORMAT_OF: dict[str, HitFormat] = {
    **{".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv"},
    **{".txt": "paths", ".m3u": "m3u", ".m3u8": "m3u"},
}
HIT_COLUMNS = (
    *("path", "label", "parent", "score", "start", "end", "duration"),
    *("looks", "time", "left", "top", "right", "bottom"),
)


def write_hits(videos: Sequence[FoundVideo], form: HitFormat, sink: Sink, *, pad: float, null: bool) -> None:
    """`pad` are seconds before and after each hit in a playlist; with `null` a path ends with NUL, not with a line."""
    if form == "table":
        return _write_table(videos, sink)
    if form == "paths":
        for path in dict.fromkeys(video.path for video in videos):
            sink.write(os.fsencode(path) + (b"\0" if null else b"\n"))
        return None
    for piece in _PIECES[form]([hit for video in videos for hit in video.hits], pad):
        sink.write(piece)
    return None


def padded(hit: Hit, pad: float) -> tuple[float, float | None]:
    """From when to when a hit is shown, with some time around it; without an end, to that of the video."""
    start = max((hit.start or 0.0) - pad, 0.0)
    end = hit.duration if hit.end is None else hit.end + pad
    return start, end if hit.duration is None or end is None else min(end, hit.duration)


def _json_lines(hits: Sequence[Hit], pad: float) -> Iterator[str]:
    return (dumps(hit.to_dict()) + "\n" for hit in hits)


def _json(hits: Sequence[Hit], pad: float) -> Iterator[str]:
    yield "[\n" + ",\n".join(dumps(hit.to_dict()) for hit in hits) + "\n]\n"


def _csv(hits: Sequence[Hit], pad: float) -> Iterator[str]:
    yield line_of(HIT_COLUMNS)
    yield from (line_of(_row(hit)) for hit in hits)


def _row(hit: Hit) -> list[Cell]:
    """With the place of the first look."""
    where: list[Cell] = [None] * 5
    if hit.looks:
        look = hit.looks[0].to_dict()
        where = [look["time"], *look["box"]]
    about: list[Cell] = [hit.path, hit.label, hit.parent, hit.score, hit.start, hit.end, hit.duration]
    return [*about, len(hit.looks), *where]


def _playlist(hits: Sequence[Hit], pad: float) -> Iterator[str]:
    yield "#EXTM3U\n"
    for hit in hits:
        start, end = padded(hit, pad)
        length = -1 if end is None else round(end - start)
        name = printable(f"{hit.label} · {Path(hit.path).name}")
        yield f"#EXTINF:{length},{name}\n#EXTVLCOPT:start-time={start:.3f}\n"
        if end is not None:
            yield f"#EXTVLCOPT:stop-time={end:.3f}\n"
        yield f"{_address(hit.path)}\n"


def _address(path: str) -> str:
    """A path from the root, lest it depend on where the playlist is; as a URL where a line cannot hold it."""
    if is_remote(path):
        return path
    whole = os.path.abspath(path)  # noqa: PTH100  (Path.absolute keeps `..`)
    return whole if printable(whole) == whole else Path(whole).as_uri()


_PIECES: dict[str, Callable[[Sequence[Hit], float], Iterable[str]]] = {
    **{"jsonl": _json_lines, "json": _json, "csv": _csv, "m3u": _playlist},
}


_NARROW = 80  # columns of a terminal; below it, where a hit is stands below its name


def _write_table(videos: Sequence[FoundVideo], sink: Sink) -> None:
    """A line for each hit, below the path of its video."""
    import io

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout if sink.is_terminal else io.StringIO())
    columns: list[dict[str, Any]] = [{"justify": "right", "no_wrap": True}, {"no_wrap": True}, {"overflow": "fold"}]
    narrow = console.width < _NARROW
    for video in videos:
        table = Table.grid(padding=(0, 2, 0, 0))
        for options in columns if narrow else [*columns, {}]:
            table.add_column(**options)
        for hit in video.hits:
            score = "" if hit.score is None else percent(hit.score, digits=0)
            name, where = Text(printable(_named(hit))), Text(_where(hit), style="dim")
            if narrow:
                table.add_row(f"  {score}", _when(hit), Text("\n").join(filter(None, (name, where))))
            else:
                table.add_row(f"  {score}", _when(hit), name, where)
        with console.capture() as capture:
            console.print(Text(printable(video.path), style="bold", overflow="fold"))
            console.print(table)
        sink.write("".join(f"{line.rstrip(' ')}\n" for line in capture.get().splitlines()))


def _named(hit: Hit) -> str:
    return hit.label if hit.parent is None else f"{hit.label} ({hit.parent})"


def _when(hit: Hit) -> str:
    if hit.start is None or hit.end is None:
        return ""
    start, end = clock_to_tenths(hit.start), clock_to_tenths(hit.end)
    return start if start == end else f"{start}–{end}"


def _where(hit: Hit) -> str:
    """The box of the first look, and how many there are."""
    if not hit.looks:
        return ""
    left, top, right, bottom = (round(value) for value in hit.looks[0].box)
    more = f" and {len(hit.looks) - 1} more" if len(hit.looks) > 1 else ""
    return f"{left},{top} – {right},{bottom}{more}"
