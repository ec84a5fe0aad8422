"""What players and libraries of media read: subtitles, chapters, XMP and NFO in files, and XMP inside videos.

Made of records, so that it does not matter where they come from. A tag map, read from a file, gives the labels
names of one's own and the categories above them. All text from outside is escaped as each format wants it.
"""

from __future__ import annotations

import csv
import html
import io
import logging
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from errno import EACCES, ENAMETOOLONG, EPERM, EROFS
from pathlib import Path, PurePath
from typing import Any

import yaml

from adafocus_cli.errors import AdaFocusError, UsageError, VideoError, printable
from adafocus_cli.files import replacing
from adafocus_cli.labels import LabelSet
from adafocus_cli.output.embedded import write_tags
from adafocus_cli.output.records import is_flat
from adafocus_cli.output.texts import clock, percent, subtitle_clock
from adafocus_cli.schema import Record, path_of
from adafocus_cli.video.remote import is_remote

_HOW = "label: tag, label: [tags], or label: {tags: [tags], parents: [categories]}"


@dataclass(frozen=True)
class TagMapEntry:
    """A label's own names, and the categories that they are in, the widest first."""

    tags: tuple[str, ...]
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class TagMap:
    """A label that it does not name stays as it is; one with an empty list of tags is left out."""

    entries: Mapping[str, TagMapEntry] = field(default_factory=dict)
    source: str = ""

    def of(self, label: str) -> tuple[str, ...]:
        return self._entry(label).tags

    def all_of(self, label: str) -> tuple[str, ...]:
        """Its tags and the categories above them."""
        entry = self._entry(label)
        return (*entry.tags, *entry.parents) if entry.tags else ()

    def paths_of(self, label: str) -> tuple[str, ...]:
        """Each tag with its categories, the widest first, separated by `|`; none where there are no categories."""
        entry = self._entry(label)
        return tuple("|".join((*entry.parents, tag)) for tag in entry.tags if entry.parents)

    def fitted(self, labels: LabelSet) -> TagMap:
        """With what it says of a parent said of each label below it that has no entry of its own.

        Refuses a name that is neither a label of the model nor the parent of one.
        """
        parents = dict(zip(labels.names, labels.parents, strict=False))
        self._check({*labels.names, *filter(None, parents.values())})
        below = {label: self.entries[parent] for label, parent in parents.items() if parent and parent in self.entries}
        return replace(self, entries={**below, **self.entries})

    def _check(self, known: Collection[str]) -> None:
        for name in self.entries:
            if name not in known:
                near = get_close_matches(name, known, 1, 0.0)
                hint = f"; the nearest is {near[0]!r}" if near else ""
                raise UsageError(f"{self.source} maps {printable(name)!r}, which is not a label of the model{hint}")

    def _entry(self, label: str) -> TagMapEntry:
        return self.entries.get(label, TagMapEntry((label,)))


def read_tag_map(path: Path) -> TagMap:
    """YAML, or CSV with the columns label, tags, and parents, in which `|` separates several."""
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read tag map {path}: {error.strerror}; check the path (--map FILE)") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text; save it as UTF-8") from error
    entries = _from_csv(text, path) if path.suffix.lower() == ".csv" else _from_yaml(text, path)
    return TagMap(entries, str(path))


def _from_csv(text: str, path: Path) -> dict[str, TagMapEntry]:
    rows = csv.DictReader(io.StringIO(text))
    if not {"label", "tags"} <= set(rows.fieldnames or ()):
        raise UsageError(f"{path} needs a first line with the columns label,tags or label,tags,parents")
    return {row["label"]: TagMapEntry(_split(row["tags"]), _split(row.get("parents"))) for row in rows}


def _split(cell: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (cell or "").split("|") if name.strip())


def _from_yaml(text: str, path: Path) -> dict[str, TagMapEntry]:
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not YAML; lines are {_HOW}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} maps nothing; lines are {_HOW}")
    return {str(label): _entry(value, str(label), path) for label, value in values.items()}


def _entry(value: Any, label: str, path: Path) -> TagMapEntry:
    parts = value if isinstance(value, dict) else {"tags": value}
    if not parts.keys() <= {"tags", "parents"} or "tags" not in parts:
        raise UsageError(f"{path}: {printable(label)!r} has more than tags and parents, or no tags; lines are {_HOW}")
    return TagMapEntry(*(_names(parts.get(name), label, path) for name in ("tags", "parents")))


def _names(value: Any, label: str, path: Path) -> tuple[str, ...]:
    names = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(name, str | int | float) for name in names):
        raise UsageError(f"{path}: {printable(label)!r} is mapped to something that is not a name; lines are {_HOW}")
    return tuple(map(str, names))


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


_TOOL = "adafocus"


@dataclass(frozen=True)
class Cue:
    """From when to when, in milliseconds, what is shown then, and how sure that is."""

    start: int
    end: int
    text: str
    score: float


@dataclass(frozen=True)
class CueStyle:
    """Which segments are shown, and whether with their scores; one with a low score is a guess."""

    min_score: float = 0.3
    scores: bool = False


DEFAULT_STYLE = CueStyle()


def vtt(record: Record, tags: TagMap, style: CueStyle = DEFAULT_STYLE) -> str:
    """Subtitles for the web."""
    lines = (
        f"{subtitle_clock(s.start, '.')} --> {subtitle_clock(s.end, '.')}\n{html.escape(s.text)}\n"
        for s in cues(record, tags, style)
    )
    return "\n".join(("WEBVTT\n", *lines))


def srt(record: Record, tags: TagMap, style: CueStyle = DEFAULT_STYLE) -> str:
    """Subtitles for players."""
    return "\n".join(
        f"{number}\n{subtitle_clock(s.start, ',')} --> {subtitle_clock(s.end, ',')}\n{s.text.translate(_LOOKALIKES)}\n"
        for number, s in enumerate(cues(record, tags, style), 1)
    )


def chapters(record: Record, tags: TagMap, style: CueStyle = DEFAULT_STYLE) -> str:
    """FFmpeg's metadata: ffmpeg -i video.mp4 -i FILE -map_metadata 1 -codec copy out.mp4."""
    parts = (
        f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={s.start}\nEND={s.end}\ntitle={_OBEYED.sub(_WITH_SLASH, s.text)}\n"
        for s in cues(record, tags, style)
    )
    return "\n".join((";FFMETADATA1\n", *parts))


def xmp(record: Record, tags: TagMap, style: CueStyle = DEFAULT_STYLE) -> str:
    """Tags as `dc:subject`, with their parents as Lightroom writes them, and segments as markers of a track."""
    root = ET.Element(_name("x:xmpmeta"), {_name("x:xmptk"): _TOOL})
    about = _below(_below(root, "rdf:RDF"), "rdf:Description", {"rdf:about": ""})
    labels = _labels(record)
    _list(about, "dc:subject", "rdf:Bag", dict.fromkeys(name for label in labels for name in tags.all_of(label)))
    paths = dict.fromkeys(path for label in labels for path in tags.paths_of(label))
    if paths:
        _list(about, "lr:hierarchicalSubject", "rdf:Bag", paths)
    if found := cues(record, tags, CueStyle(style.min_score)):
        track = _below(_below(_below(about, "xmpDM:Tracks"), "rdf:Bag"), "rdf:li", {"rdf:parseType": "Resource"})
        _below(track, "xmpDM:trackName").text = "adafocus"
        _below(track, "xmpDM:frameRate").text = "f1000"  # what times are counted in: 1000 a second
        markers = _below(_below(track, "xmpDM:markers"), "rdf:Seq")
        for cue in found:
            marker = _below(markers, "rdf:li", {"rdf:parseType": "Resource"})
            _below(marker, "xmpDM:startTime").text = str(cue.start)
            _below(marker, "xmpDM:duration").text = str(cue.end - cue.start)
            _below(marker, "xmpDM:name").text = _NOT_IN_XML.sub("\ufffd", cue.text)
            _below(marker, "xmpDM:comment").text = f"score {cue.score:.3f}"
    ET.indent(root)
    packet = ET.tostring(root, encoding="unicode")
    return f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n{packet}\n<?xpacket end="w"?>\n'


def nfo(record: Record, tags: TagMap, style: CueStyle = DEFAULT_STYLE) -> str:
    """For Kodi, Jellyfin and other media centres: the name, tags, the categories above them, and what happens when."""
    root = ET.Element("movie")
    root.append(ET.Comment(_TOOL))
    labels, found = _labels(record), cues(record, tags, style)
    entries = [("title", printable(PurePath(path_of(record)).stem))]
    if found:
        entries.append(("plot", "\n".join(f"{clock(cue.start / 1000)} {cue.text}" for cue in found)))
    names = dict.fromkeys(name for label in labels for name in tags.of(label))
    wider = dict.fromkeys(name for label in labels for name in tags.all_of(label) if name not in names)
    entries += [*(("tag", printable(name)) for name in names), *(("genre", printable(name)) for name in wider)]
    for name, text in entries:
        ET.SubElement(root, name).text = _NOT_IN_XML.sub("\ufffd", text)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n{ET.tostring(root, encoding="unicode")}\n'


# What a kind's files end in, and what is in them.
KINDS: Mapping[str, tuple[str, Callable[[Record, TagMap, CueStyle], str]]] = {
    "vtt": (".vtt", vtt),
    "srt": (".srt", srt),
    "chapters": (".chapters.txt", chapters),
    "xmp": (".xmp", xmp),
    "nfo": (".nfo", nfo),
}
# Other programs write files of these names, too; ours say whose they are.
_SHARED_NAMES = {"xmp": f'x:xmptk="{_TOOL}"', "nfo": f"<!--{_TOOL}-->"}


@dataclass
class Sidecars:
    """Some kinds of files for each record, below a folder, where the path of the video says; and XMP in the video."""

    folder: Path
    kinds: tuple[str, ...]
    tags: TagMap
    style: CueStyle = field(default_factory=CueStyle)
    into_videos: bool = False
    _told: set[str] = field(default_factory=set)

    def fit(self, labels: LabelSet) -> None:
        """Learns the model's labels, before the first record; refuses a map with names that it does not know."""
        self.tags = self.tags.fitted(labels)

    def write(self, record: Record) -> None:
        """Nothing for a failure, nor for a row of CSV, which has no segments."""
        if record["status"] != "ok" or is_flat(record):
            return
        for kind in self.kinds:
            ending, content = KINDS[kind]
            video = path_of(record)
            # Media centres look for the name of the video without its ending.
            path = beside(self.folder, os.path.splitext(video)[0] if kind == "nfo" else video, ending)  # noqa: PTH122
            try:
                if _is_of_others(path, kind):
                    _LOG.warning("%s is of another program, and stays as it is", path)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(path) as file:
                    file.write(content(record, self.tags, self.style).encode("utf-8", "backslashreplace"))
            except OSError as error:
                if not self._is_about_one(error):
                    text = f"cannot write {path}: {error.strerror}; give another folder with --sidecars"
                    raise AdaFocusError(text) from error
                _LOG.warning(
                    "cannot write %s: %s; its video is tagged without it", printable(str(path)), error.strerror
                )
        if self.into_videos:
            self._write_into_video(record)

    def _is_about_one(self, error: OSError) -> bool:
        """It says nothing of the files of other videos, of which a library has thousands."""
        return error.errno == ENAMETOOLONG or (self.folder == Path() and error.errno in (EACCES, EPERM, EROFS))

    def _write_into_video(self, record: Record) -> None:
        """A video that cannot have tags is told of: of those that are of a kind that cannot, the first."""
        path = path_of(record)
        ending = PurePath(path).suffix.lower()
        if is_remote(path) or ending not in _TAGGED:
            kind = "videos on other storage" if is_remote(path) else f"{printable(ending) or 'such'} files"
            if kind not in self._told:
                self._told.add(kind)
                _LOG.warning("tags are not written into %s, only into MP4 and MOV; --xmp writes them beside", kind)
            return
        try:
            write_tags(path, xmp(record, self.tags, self.style).encode("utf-8", "backslashreplace"))
        except VideoError as error:
            _LOG.warning("%s", error)
        except OSError as error:
            _LOG.warning("cannot write tags into %s: %s; it is as it was", printable(path), error.strerror)


_LOG = logging.getLogger("adafocus")
_TAGGED = (".mp4", ".m4v", ".mov", ".qt")


def _is_of_others(path: Path, kind: str) -> bool:
    if kind not in _SHARED_NAMES or not path.exists():
        return False
    return _SHARED_NAMES[kind].encode() not in path.read_bytes()


def beside(folder: Path, video: str, ending: str) -> Path:
    """Below the folder as the video is below where paths begin; with `.` for a folder, where the video is.

    Its own ending stays, lest two videos share a file.

    >>> beside(Path("tags"), "../films/a.mp4", ".vtt").as_posix()
    'tags/_/films/a.mp4.vtt'
    >>> beside(Path("."), "../films/a.mp4", ".vtt").as_posix()
    '../films/a.mp4.vtt'
    """
    if folder == Path() and not is_remote(video):
        return Path(video + ending)
    path = PurePath(*(part.rstrip(":") for part in video.split("://", 1)))
    parts = ["_" if part == ".." else part for part in path.parts if part != path.anchor]
    return folder.joinpath(*parts[:-1], parts[-1] + ending)


def cues(record: Record, tags: TagMap, style: CueStyle) -> list[Cue]:
    """The segments of a record that have a tag and are sure enough, by the names that the map gives them."""
    found = []
    for segment in record.get("segments", ()):
        names = tags.of(segment["label"])
        if names and segment["score"] >= style.min_score:
            start, end = (round(1000 * segment[name]) for name in ("start", "end"))
            # A single frame is shown for no time, which players take for a mistake.
            text = printable(", ".join(names)) + (f" {percent(segment['score'], digits=0)}" if style.scores else "")
            found.append(Cue(start, max(end, start + 1), text, segment["score"]))
    return found


def _labels(record: Record) -> list[str]:
    """What the video is about: the labels of its segments; without windows, the best label."""
    source = record.get("segments") or record["labels"][:1]
    return list(dict.fromkeys(each["label"] for each in source))


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
