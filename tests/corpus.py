"""A library of videos as libraries are: good clips, and files that no decoder gets a picture from, each in its own way.

Everything follows from a seed. Whether the tagger copes is for the tests to say; that a file is hopeless follows from
how it was made, not from what our reader thinks of it.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.clips import cut_off, numbered_clip

QUICK = {"preset": "ultrafast"}
MPEG = {"g": "15", "bf": "2", "b": "800k"}

Maker = Callable[[Path, "Originals", random.Random], None]


@dataclass(frozen=True)
class Corpus:
    good: tuple[Path, ...]
    bad: tuple[Path, ...]

    @property
    def paths(self) -> list[str]:
        """Good and bad ones in any order, but always in the same."""
        paths = [str(path) for path in (*self.good, *self.bad)]
        random.Random(0).shuffle(paths)
        return paths


class Originals:
    """Whole clips to be damaged, as bytes; each is made once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, bytes] = {}

    def __getitem__(self, name: str) -> bytes:
        if name not in self._made:
            codec = {"avi": "rawvideo", "ts": "mpeg4"}.get(name, "libx264")
            options = {"libx264": QUICK, "mpeg4": MPEG}.get(codec)
            path = numbered_clip(self._folder / f"whole.{name}", frames=25, codec=codec, options=options)
            self._made[name] = path.read_bytes()
            path.unlink()
        return self._made[name]


def make(folder: Path, *, good: int, bad: int) -> Corpus:
    """Different clips of several kinds, and damaged files of every kind in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    originals = Originals(folder)
    damaged = []
    for number in range(bad):
        name, ending, make_one = KINDS[number % len(KINDS)]
        path = folder / f"bad-{number:03}-{name}.{ending}"
        make_one(path, originals, random.Random(number))
        damaged.append(path)
    return Corpus(tuple(good_clip(folder, number) for number in range(good)), tuple(damaged))


def good_clip(folder: Path, number: int) -> Path:
    ending = ("mp4", "mkv", "avi", "ts")[number % 4]
    codec, options = ("mpeg4", MPEG) if number % 3 == 2 else ("libx264", QUICK)
    frames = 10 + number % 17
    path = folder / f"good-{number:04}.{ending}"
    return numbered_clip(path, frames=frames, codec=codec, options=options, first_number=number)


# Cut off, flipped.


def _cut_mp4(path: Path, originals: Originals, chance: random.Random) -> None:
    """Its index is at the end."""
    path.write_bytes(originals["mp4"])
    cut_off(path, chance.uniform(0.01, 0.9))


def _cut_header(ending: str) -> Maker:
    def make_one(path: Path, originals: Originals, chance: random.Random) -> None:
        path.write_bytes(originals[ending][: chance.randrange(1, 180)])

    return make_one


def _flipped(ending: str, every: int) -> Maker:
    """At such a rate no header and no picture is left."""

    def make_one(path: Path, originals: Originals, chance: random.Random) -> None:
        data = bytearray(originals[ending])
        for place in range(chance.randrange(every), len(data), every):
            data[place] ^= chance.randrange(1, 256)
        path.write_bytes(data)

    return make_one


def _flipped_index(path: Path, originals: Originals, chance: random.Random) -> None:
    """Of the boxes that say where pictures are, some bytes of every ten."""
    data = bytearray(originals["mp4"])
    for place in range(data.index(b"moov"), len(data)):
        if chance.random() < 0.3:
            data[place] ^= chance.randrange(1, 256)
    path.write_bytes(data)


# What a file says of itself.


def _noise_after(start: bytes) -> Maker:
    def make_one(path: Path, originals: Originals, chance: random.Random) -> None:
        path.write_bytes(start + chance.randbytes(chance.randrange(100, 50_000)))

    return make_one


def _huge_raw_picture(path: Path, originals: Originals, chance: random.Random) -> None:
    data = bytearray(originals["avi"])
    struct.pack_into("<ii", data, data.index(b"strf") + 12, *chance.sample(range(30_000, 32_000), 2))
    path.write_bytes(data)


def _huge_y4m_picture(path: Path, originals: Originals, chance: random.Random) -> None:
    width, height = chance.sample(range(20_000, 32_000), 2)
    path.write_bytes(f"YUV4MPEG2 W{width} H{height} F25:1 C420jpeg\nFRAME\n".encode() + bytes(1000))


def _huge_box(path: Path, originals: Originals, chance: random.Random) -> None:
    """The index claims to be larger than any disk."""
    data = bytearray(originals["mp4"])
    place = data.index(b"moov") - 4
    box = struct.pack(">I4sQ", 1, b"moov", 1 << chance.randrange(50, 63))
    path.write_bytes(data[:place] + box + data[place + 8 : place + 100])


def _no_frames_avi(path: Path, originals: Originals, chance: random.Random) -> None:
    """A header that promises thousands of frames, and none of them."""
    data = bytearray(originals["avi"])
    struct.pack_into("<I", data, data.index(b"avih") + 24, chance.randrange(1000, 1 << 31))
    path.write_bytes(data[: data.index(b"movi") + 4])


def _no_frames_mp4(path: Path, originals: Originals, chance: random.Random) -> None:
    """More samples than the file has bytes."""
    data = bytearray(originals["mp4"])
    struct.pack_into(">I", data, data.index(b"stsz") + 12, chance.randrange(1 << 28, 1 << 32))
    path.write_bytes(data)


def _unknown_codec(path: Path, originals: Originals, chance: random.Random) -> None:
    name = bytes(chance.choices(range(0x61, 0x7B), k=3))
    path.write_bytes(originals["mp4"].replace(b"avc1", b"q" + name).replace(b"avcC", b"q" + name))


def _sound(path: Path, originals: Originals, chance: random.Random) -> None:
    samples = chance.randbytes(4000)
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 4036, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", 4000
    )
    path.write_bytes(header + samples)


def _playlist(path: Path, originals: Originals, chance: random.Random) -> None:
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{chance.random()}.mp4\n#EXT-X-ENDLIST\n")


# No files at all.


def _text(path: Path, originals: Originals, chance: random.Random) -> None:
    path.write_text(f"Good morning {chance.random()}\n" * chance.randrange(1, 1000))


def _empty(path: Path, originals: Originals, chance: random.Random) -> None:
    path.touch()


def _pipe(path: Path, originals: Originals, chance: random.Random) -> None:
    os.mkfifo(path)


def _unreadable(path: Path, originals: Originals, chance: random.Random) -> None:
    """Root may read what is closed to others, but a link to itself is closed to all."""
    path.symlink_to(path.name)


def _closed(path: Path, originals: Originals, chance: random.Random) -> None:
    path.write_bytes(b"" if os.geteuid() == 0 else originals["mp4"])
    path.chmod(0)


def _gone(path: Path, originals: Originals, chance: random.Random) -> None:
    path.symlink_to(f"nowhere-{chance.random()}.mp4")


KINDS: tuple[tuple[str, str, Maker], ...] = (
    ("cut", "mp4", _cut_mp4),
    ("cut-header", "mkv", _cut_header("mkv")),
    ("cut-header", "ts", _cut_header("ts")),
    ("flipped-every-2", "mp4", _flipped("mp4", 2)),
    ("flipped-every-3", "mkv", _flipped("mkv", 3)),
    ("flipped-every-5", "ts", _flipped("ts", 5)),
    ("flipped-index", "mp4", _flipped_index),
    ("noise", "mp4", _noise_after(b"")),
    ("mp4-noise", "mp4", _noise_after(b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41")),
    ("mkv-noise", "mkv", _noise_after(b"\x1a\x45\xdf\xa3")),
    ("avi-noise", "avi", _noise_after(b"RIFF\xff\xff\xff\x7fAVI LIST")),
    ("zip", "mp4", _noise_after(b"PK\x03\x04")),
    ("huge-picture", "avi", _huge_raw_picture),
    ("huge-picture", "y4m", _huge_y4m_picture),
    ("huge-box", "mp4", _huge_box),
    ("no-frames", "avi", _no_frames_avi),
    ("no-frames", "mp4", _no_frames_mp4),
    ("unknown-codec", "mp4", _unknown_codec),
    ("sound", "mp4", _sound),
    ("playlist", "mp4", _playlist),
    ("text", "mp4", _text),
    ("empty", "mp4", _empty),
    ("pipe", "mp4", _pipe),
    ("unreadable", "mp4", _unreadable),
    ("closed", "mp4", _closed),
    ("gone", "mp4", _gone),
)
