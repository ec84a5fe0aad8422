"""Files beside the results that players and libraries of media read: subtitles, chapters, XMP.

Made of records, so that it does not matter where they come from. Knows nothing of how videos are tagged. All text from
outside is escaped as each format wants it.
"""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from adafocus_cli.errors import AdaFocusError
from adafocus_cli.files import replacing
from adafocus_cli.output.escape import printable
from adafocus_cli.output.records import Record, is_flat
from adafocus_cli.output.tag_map import TagMap
from adafocus_cli.schema import path_of

# Players take these in SRT, which knows no escapes, for markup.
_LOOKALIKES = str.maketrans({"<": "‹", ">": "›", "{": "(", "}": ")"})
# What FFmpeg obeys in its metadata.
_OBEYED, _WITH_SLASH = re.compile(r"[=;#\\]"), r"\\\g<0>"
_NAMESPACES = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "lr": "http://ns.adobe.com/lightroom/1.0/",
    "xmpDM": "http://ns.adobe.com/xmp/1.0/DynamicMedia/",
}
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Span:
    """From when to when, in milliseconds, what is shown then, and how sure that is."""

    start: int
    end: int
    text: str
    score: float


def vtt(record: Record, tags: TagMap) -> str:
    """Subtitles for the web."""
    cues = (f"{_clock(s.start, '.')} --> {_clock(s.end, '.')}\n{html.escape(s.text)}\n" for s in spans(record, tags))
    return "\n".join(("WEBVTT\n", *cues))


def srt(record: Record, tags: TagMap) -> str:
    """Subtitles for players."""
    return "\n".join(
        f"{number}\n{_clock(s.start, ',')} --> {_clock(s.end, ',')}\n{s.text.translate(_LOOKALIKES)}\n"
        for number, s in enumerate(spans(record, tags), 1)
    )


def chapters(record: Record, tags: TagMap) -> str:
    """FFmpeg's metadata: ffmpeg -i video.mp4 -i FILE -map_metadata 1 -codec copy out.mp4."""
    parts = (
        f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={s.start}\nEND={s.end}\ntitle={_OBEYED.sub(_WITH_SLASH, s.text)}\n"
        for s in spans(record, tags)
    )
    return "\n".join((";FFMETADATA1\n", *parts))


def xmp(record: Record, tags: TagMap) -> str:
    """Tags as `dc:subject`, with their parents as Lightroom writes them, and spans as markers of a track."""
    root = ET.Element(_name("x:xmpmeta"))
    about = _below(_below(root, "rdf:RDF"), "rdf:Description", {"rdf:about": ""})
    labels = _labels(record)
    _list(about, "dc:subject", "rdf:Bag", dict.fromkeys(name for label in labels for name in tags.all_of(label)))
    paths = dict.fromkeys(path for label in labels for path in tags.paths_of(label))
    if paths:
        _list(about, "lr:hierarchicalSubject", "rdf:Bag", paths)
    if found := spans(record, tags):
        track = _below(_below(_below(about, "xmpDM:Tracks"), "rdf:Bag"), "rdf:li", {"rdf:parseType": "Resource"})
        _below(track, "xmpDM:trackName").text = "adafocus"
        _below(track, "xmpDM:frameRate").text = "f1000"  # what times are counted in: 1000 a second
        markers = _below(_below(track, "xmpDM:markers"), "rdf:Seq")
        for span in found:
            marker = _below(markers, "rdf:li", {"rdf:parseType": "Resource"})
            _below(marker, "xmpDM:startTime").text = str(span.start)
            _below(marker, "xmpDM:duration").text = str(span.end - span.start)
            _below(marker, "xmpDM:name").text = _NOT_IN_XML.sub("\ufffd", span.text)
            _below(marker, "xmpDM:comment").text = f"score {span.score:.3f}"
    ET.indent(root)
    packet = ET.tostring(root, encoding="unicode")
    return f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n{packet}\n<?xpacket end="w"?>\n'


# What a kind's files end in, and what is in them.
KINDS: Mapping[str, tuple[str, Callable[[Record, TagMap], str]]] = {
    "vtt": (".vtt", vtt),
    "srt": (".srt", srt),
    "chapters": (".chapters.txt", chapters),
    "xmp": (".xmp", xmp),
}


@dataclass(frozen=True)
class Sidecars:
    """Some kinds of files for each record, below a folder, where the path of the video says."""

    folder: Path
    kinds: tuple[str, ...]
    tags: TagMap

    def write(self, record: Record) -> None:
        """Nothing for a failure, nor for a row of CSV, which has no segments."""
        if record["status"] != "ok" or is_flat(record):
            return
        for kind in self.kinds:
            ending, content = KINDS[kind]
            path = beside(self.folder, path_of(record), ending)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(path) as file:
                    file.write(content(record, self.tags).encode("utf-8", "backslashreplace"))
            except OSError as error:
                text = f"cannot write {path}: {error.strerror}; give another folder with --sidecars"
                raise AdaFocusError(text) from error


def beside(folder: Path, video: str, ending: str) -> Path:
    """Below the folder as the video is below where paths begin; its own ending stays, lest two videos share a file.

    >>> beside(Path("tags"), "../films/a.mp4", ".vtt").as_posix()
    'tags/_/films/a.mp4.vtt'
    """
    path = PurePath(*(part.rstrip(":") for part in video.split("://", 1)))
    parts = ["_" if part == ".." else part for part in path.parts if part != path.anchor]
    return folder.joinpath(*parts[:-1], parts[-1] + ending)


def spans(record: Record, tags: TagMap) -> list[Span]:
    """The segments of a record that have a tag, by the names that the map gives them."""
    found = []
    for segment in record.get("segments", ()):
        if names := tags.of(segment["label"]):
            start, end = (round(1000 * segment[name]) for name in ("start", "end"))
            # A single frame is shown for no time, which players take for a mistake.
            found.append(Span(start, max(end, start + 1), printable(", ".join(names)), segment["score"]))
    return found


def _labels(record: Record) -> list[str]:
    """What the video is about: the labels of its segments; without windows, the best label."""
    source = record.get("segments") or record["labels"][:1]
    return list(dict.fromkeys(each["label"] for each in source))


def _clock(milliseconds: int, point: str) -> str:
    """
    >>> _clock(3_723_004, ".")
    '01:02:03.004'
    """
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"


def _name(name: str) -> str:
    prefix, _, local = name.partition(":")
    return f"{{{_NAMESPACES[prefix]}}}{local}"


def _below(parent: ET.Element, name: str, attributes: Mapping[str, str] | None = None) -> ET.Element:
    return ET.SubElement(parent, _name(name), {_name(key): value for key, value in (attributes or {}).items()})


def _list(parent: ET.Element, name: str, kind: str, items: Iterable[Any]) -> None:
    entries = _below(_below(parent, name), kind)
    for item in items:
        _below(entries, "rdf:li").text = _NOT_IN_XML.sub("\ufffd", printable(str(item)))


for _prefix, _address in _NAMESPACES.items():
    ET.register_namespace(_prefix, _address)
