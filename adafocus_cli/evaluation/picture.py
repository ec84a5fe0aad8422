"""A confusion matrix as a picture: rows are what videos show, columns what they were taken for.

The shade of a cell is its share of the row: blue where the answer is right, orange where it is not. Knows nothing of
models.
"""

from __future__ import annotations

import math

from PIL import Image, ImageDraw, ImageFont

from adafocus_cli.evaluation.report import Confusion
from adafocus_cli.output.escape import drawable

_RIGHT, _WRONG, _EMPTY = (23, 85, 160), (214, 88, 8), (255, 255, 255)
_INK, _FAINT, _LINE = (30, 30, 30), (110, 110, 110), (225, 225, 225)
_BODY = 960  # pixels that the cells of a middling matrix take
_CELL = range(11, 65)  # sides at which a name still fits beside a cell, and at which a cell is no poster
_MOST_NAMED = 400  # above it cells shrink, and only every so-manieth class has its number
_LARGEST_BODY = 6000
_LONGEST_NAME = 30
_MARGIN = 16
_CAPTION = "row: what the videos show    column: what they were taken for    shade: share of the row"


def draw(confusion: Confusion) -> Image.Image:
    count = len(confusion.labels)
    cell = _side_of_cell(count)
    font = ImageFont.load_default(max(10, min(16, cell - 2)))
    names = _names(confusion)
    left = math.ceil(max(font.getlength(name) for name in names)) + 2 * _MARGIN
    top = left + _MARGIN
    width = max(left + count * cell + _MARGIN, math.ceil(font.getlength(_CAPTION)) + 2 * _MARGIN)
    image = Image.new("RGB", (width, top + count * cell + _MARGIN), _EMPTY)
    pen = ImageDraw.Draw(image)
    pen.text((_MARGIN, _MARGIN / 2), _CAPTION, _FAINT, font)
    _draw_cells(pen, confusion, left, top, cell)
    for place, name in enumerate(names):
        middle = place * cell + cell // 2
        pen.text((left - _MARGIN / 2, top + middle), name, _INK, font, anchor="rm")
        _draw_upright(image, name, font, left + middle, top - _MARGIN // 2)
    return image


def _side_of_cell(count: int) -> int:
    if count > _MOST_NAMED:
        return max(1, min(_CELL[0], _LARGEST_BODY // count))
    return min(max(_BODY // count, _CELL[0]), _CELL[-1])


def _names(confusion: Confusion) -> list[str]:
    """One for each class; empty where there is no room for it."""
    if len(confusion.labels) <= _MOST_NAMED:
        return [
            drawable(name, index, longest=_LONGEST_NAME)
            for name, index in zip(confusion.labels, confusion.indices, strict=True)
        ]
    every = math.ceil(len(confusion.labels) / 100)
    return [str(index) if place % every == 0 else "" for place, index in enumerate(confusion.indices)]


def _draw_cells(pen: ImageDraw.ImageDraw, confusion: Confusion, left: int, top: int, cell: int) -> None:
    gap = 1 if cell >= _CELL[0] else 0
    numbers = ImageFont.load_default(max(10, cell // 3))
    side = len(confusion.labels) * cell
    pen.rectangle((left - 1, top - 1, left + side, top + side), outline=_LINE)
    for row, counts in enumerate(confusion.counts):
        videos = sum(counts)
        for column, count in enumerate(counts):
            if not count and row != column:
                continue
            x, y = left + column * cell, top + row * cell
            share = count / videos if videos else 0.0
            colour = _shade(_RIGHT if row == column else _WRONG, share)
            pen.rectangle((x, y, x + cell - 1 - gap, y + cell - 1 - gap), colour, _LINE if gap else None)
            if count and numbers.getlength(str(count)) < cell - 4 and cell >= 24:
                ink = _EMPTY if share > 0.5 else _INK
                pen.text((x + cell / 2, y + cell / 2), str(count), ink, numbers, anchor="mm")


def _shade(colour: tuple[int, int, int], share: float) -> tuple[int, ...]:
    """From a hint of the colour, so that a single video in a row of many is seen, to all of it."""
    strength = 0.15 + 0.85 * share if share else 0.0
    return tuple(round(empty + (full - empty) * strength) for empty, full in zip(_EMPTY, colour, strict=True))


def _draw_upright(
    image: Image.Image, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, x: int, bottom: int
) -> None:
    """A name that is read from bottom to top, its middle at `x`."""
    if not text:
        return
    left, top, right, below = (math.ceil(value) for value in font.getbbox(text))
    strip = Image.new("RGB", (right + 1, below + 1), _EMPTY)
    ImageDraw.Draw(strip).text((0, 0), text, _INK, font)
    upright = strip.crop((left, top, right + 1, below + 1)).rotate(90, expand=True)
    image.paste(upright, (x - upright.width // 2, bottom - upright.height))
