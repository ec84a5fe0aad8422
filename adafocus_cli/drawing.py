"""Lines, points, and words of any script on a picture, and the axes of a diagram. Knows nothing of what is drawn."""

from __future__ import annotations

import math
import shutil
import subprocess
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

Place = tuple[float, float]
Colour = tuple[int, int, int]

FONT, SMALL_FONT = 16, 14
INK, FAINT, PALE = (30, 30, 30), (90, 90, 90), (160, 160, 160)
BLUE = (23, 85, 160)
LINE = (225, 225, 225)
_EMPTY = (255, 255, 255)
_FINER = 3  # drawn larger and made smaller, so that slanted lines are smooth
_HEADROOM = 0.08  # of the range, on either side
_TICKS = 6  # round values on an axis, about


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Fonts with many scripts, by their file names on Linux, macOS and Windows, for systems without fontconfig.
_SYSTEM_FONTS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "DroidSansFallbackFull.ttf"),
    *("wqy-microhei.ttc", "unifont.otf", "Arial Unicode.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc"),
    *("AppleSDGothicNeo.ttc", "segoeui.ttf", "msyh.ttc", "msgothic.ttc", "malgun.ttf", "Nirmala.ttf"),
)
_NO_LETTER = "\uffff"  # drawn as what a font shows for letters that it has not


def font_for(text: str, size: int) -> Font:
    """Pillow's own font, or one of the system's if only that has all letters of the text."""
    name = _font_file("".join(sorted(set(text))))
    return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)


def drawable(name: str, index: int, *, longest: int) -> str:
    """A label for a picture: what no font of the system can show is written in plain letters, or by its number.

    >>> drawable("a label of many letters", 7, longest=10)
    'a label o…'
    """
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    for text in (name, plain):
        if text.isprintable() and _font_file("".join(sorted(set(text)))) is not None:
            return text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…"
    return f"class {index}"


@lru_cache(maxsize=1024)
def _font_file(letters: str) -> str | None:
    """A font with all of these letters: empty for Pillow's own, None if there is none."""
    if letters.isascii() or _has(ImageFont.load_default(16), letters):
        return ""
    return next((name for name in _candidates(letters) if _file_has(name, letters)), None)


def _candidates(letters: str) -> Iterator[str]:
    if shutil.which("fc-list"):
        charset = " ".join(f"{ord(letter):x}" for letter in letters)
        try:
            done = subprocess.run(
                ["fc-list", f":charset={charset}", "file"], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return
        files = sorted(line.rstrip(": ") for line in done.stdout.splitlines())
        yield from sorted(files, key=lambda file: ("Sans" not in file, "Bold" in file or "Oblique" in file, len(file)))
    yield from _SYSTEM_FONTS


def _file_has(name: str, letters: str) -> bool:
    try:
        return _has(ImageFont.truetype(name, 16), letters)
    except OSError:
        return False


def _has(font: Font, letters: str) -> bool:
    missing = bytes(font.getmask(_NO_LETTER))
    return all(letter.isspace() or bytes(font.getmask(letter)) != missing for letter in letters)


@dataclass(frozen=True)
class Axis:
    """From values to pixels."""

    low: float
    high: float
    start: int
    end: int

    @classmethod
    def around(cls, values: Iterable[float], start: int, end: int, *, least: float) -> Axis:
        """With room at both ends; a range of at least `least`."""
        values = list(values)
        spare = max(_HEADROOM * (max(values) - min(values)), (least - max(values) + min(values)) / 2)
        return cls(min(values) - spare, max(values) + spare, start, end)

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """About as many round values as suit."""
        rough = (self.high - self.low) / _TICKS
        power = 10 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
        return [step * place for place in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


class Pen:
    """Draws in the pixels of the finished picture."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._image = Image.new("RGB", (size[0] * _FINER, size[1] * _FINER), _EMPTY)
        self._draw = ImageDraw.Draw(self._image)

    def line(self, places: Sequence[Place], colour: Colour, width: int) -> None:
        self._draw.line([_finer(place) for place in places], colour, width * _FINER, joint="curve")

    def dot(self, place: Place, colour: Colour, radius: int) -> None:
        """With a rim, so that it stands out from a line."""
        x, y = _finer(place)
        for r, fill in ((radius + 1.5, _EMPTY), (radius, colour)):
            self._draw.ellipse([x - r * _FINER, y - r * _FINER, x + r * _FINER, y + r * _FINER], fill)

    def text(self, place: Place, text: str, colour: Colour, size: int, anchor: str) -> float:
        """With a rim, too; where it ends, if it begins at the place."""
        font = font_for(text, size * _FINER)
        self._draw.text(_finer(place), text, colour, font, anchor=anchor, stroke_width=2 * _FINER, stroke_fill=_EMPTY)
        return place[0] + font.getlength(text) / _FINER

    def grid(self, across: Axis, up: Axis) -> None:
        """Lines at round values, and what they are."""
        for value in across.ticks():
            self.line([(across.at(value), up.end), (across.at(value), up.start)], LINE, 1)
            self.text((across.at(value), up.start + 8), f"{value:.6g}", FAINT, SMALL_FONT, "mt")
        for value in up.ticks():
            self.line([(across.start, up.at(value)), (across.end, up.at(value))], LINE, 1)
            self.text((across.start - 8, up.at(value)), f"{value:.6g}", FAINT, SMALL_FONT, "rm")

    def picture(self) -> Image.Image:
        return self._image.resize(self._size, Image.Resampling.LANCZOS)


def _finer(place: Place) -> Place:
    return place[0] * _FINER, place[1] * _FINER
