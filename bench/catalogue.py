"""What the catalogue offers: the table and the picture at the beginning of docs/models.md.

    python bench/catalogue.py table                       released models of which none of lower cost is as accurate
    python bench/catalogue.py picture docs/models.png     accuracy against multiply-adds of all models

Costs are counted by the layers, times the views that the published accuracy was measured with; the models that come
with adafocus say theirs.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from PIL import Image

from adafocus_cli.benchmark.bench_model import spec_of
from adafocus_cli.drawing import BLUE, FAINT, FONT, INK, LINE, PALE, SMALL_FONT, Axis, Colour, Pen
from adafocus_cli.flops import cost_of
from adafocus_cli.library import catalogue
from adafocus_cli.library.catalogue import INCLUDED, CatalogueEntry
from adafocus_cli.spec import ModelSpec

HEADING = (
    "| model | labels | GMACs | accuracy | download | licence |",
    "| --- | --- | --- | --- | --- | --- |",
)


@dataclass(frozen=True)
class Offer:
    """A model of the catalogue and what a video costs, with all views of its accuracy."""

    entry: CatalogueEntry
    gmacs: float

    @classmethod
    def of(cls, entry: CatalogueEntry) -> Offer:
        if entry.name in INCLUDED:  # whose networks only their files tell
            return cls(entry, float(entry.gmacs or 0))
        return cls(entry, _gmacs(replace(spec_of(entry, None), dataset=None)) * (entry.views or 1))

    @property
    def row(self) -> str:
        return row(self.entry, f"{self.gmacs:.1f}")


@cache
def _gmacs(spec: ModelSpec) -> float:
    return cost_of(spec).gmacs


def row(entry: CatalogueEntry, gmacs: str) -> str:
    """Of the table, with what only counting tells."""
    labels = entry.label_set()
    count = f"{len(labels)}, " if labels else ""
    accuracy = "–" if entry.accuracy is None else f"{entry.accuracy} {entry.metric}"
    views = f" ({entry.views} views)" if entry.views else ""
    size = "–" if entry.megabytes is None else f"{entry.megabytes:.0f} MB"
    get = "included" if entry.name in INCLUDED else f"{size}, {'`pull`' if entry.url else 'by hand'}"
    licence = (entry.licence or "–").partition(":")[0]
    return f"| `{entry.name}` | {count}{entry.dataset} | {gmacs} | {accuracy}{views} | {get} | {licence} |"


def released(entry: CatalogueEntry) -> bool:
    return entry.name in INCLUDED or bool(entry.url or entry.page)


def best(offers: Sequence[Offer]) -> list[Offer]:
    """By data set, the released ones with which no cheaper one of the same labels keeps up; without a number, only
    included ones."""

    def beaten(offer: Offer) -> bool:
        return any(
            other.entry.dataset == offer.entry.dataset
            and (other.entry.accuracy or 0) >= (offer.entry.accuracy or 0)
            and (other.gmacs, other.entry.name) < (offer.gmacs, offer.entry.name)
            for other in there
        )

    there = [each for each in offers if released(each.entry) and (each.entry.accuracy or each.entry.name in INCLUDED)]
    datasets = list(dict.fromkeys(each.entry.dataset for each in there))
    left = [offer for offer in there if not beaten(offer)]
    return sorted(left, key=lambda offer: (datasets.index(offer.entry.dataset), offer.gmacs))


# The picture: a diagram for each list of labels, all with the same costs from left to right.

COLUMNS, WIDTH, HEIGHT, HEADING_HEIGHT = 2, 560, 300, 60
LEFT, RIGHT, TOP, BOTTOM = 56, 132, 44, 40  # of a diagram, around the plot
COSTS = (0.1, 10_000.0)
COLOURS: tuple[tuple[str, str, Colour], ...] = (
    ("adafocus-v1", "AdaFocus", (200, 80, 30)),
    ("adafocus-v2", "AdaFocus V2", (50, 140, 70)),
    ("uni-", "Uni-AdaFocus", BLUE),
    ("", "whole clips", (130, 70, 160)),
)


def colour_of(entry: CatalogueEntry) -> Colour:
    return next(colour for begins, _, colour in COLOURS if entry.family.startswith(begins))


def draw(offers: Sequence[Offer]) -> Image.Image:
    measured = [offer for offer in offers if offer.entry.accuracy is not None]
    datasets = list(dict.fromkeys(offer.entry.dataset for offer in measured))
    pen = Pen((COLUMNS * WIDTH, HEADING_HEIGHT + -(-len(datasets) // COLUMNS) * HEIGHT))
    pen.text((16, 28), "Accuracy, %, against 10⁹ multiply-adds a video", INK, FONT, "ls")
    x = 16.0
    for _, name, colour in COLOURS:
        pen.dot((x + 5, 47), colour, 5)
        x = pen.text((x + 16, 52), name, FAINT, SMALL_FONT, "ls") + 20
    pen.dot((x + 5, 47), PALE, 5)
    pen.text((x + 16, 52), "not released", FAINT, SMALL_FONT, "ls")
    for place, dataset in enumerate(datasets):
        row, column = divmod(place, COLUMNS)
        members = [offer for offer in measured if offer.entry.dataset == dataset]
        _draw_dataset(pen, members, column * WIDTH, HEADING_HEIGHT + row * HEIGHT)
    return pen.picture()


def _draw_dataset(pen: Pen, offers: Sequence[Offer], left: int, top: int) -> None:
    entry = offers[0].entry
    pen.text((left + LEFT, top + 30), f"{entry.dataset}, {entry.metric}", INK, FONT, "ls")
    low, high = map(math.log10, COSTS)
    across = Axis(low, high, left + LEFT, left + WIDTH - RIGHT)
    accuracies = [float(offer.entry.accuracy or 0) for offer in offers]
    up = Axis.around(accuracies, top + HEIGHT - BOTTOM, top + TOP, least=8)
    for power in range(round(low), round(high) + 1):
        pen.line([(across.at(power), up.end), (across.at(power), up.start)], LINE, 1)
        pen.text((across.at(power), up.start + 8), f"{10.0**power:g}", FAINT, SMALL_FONT, "mt")
    for value in up.ticks():
        pen.line([(across.start, up.at(value)), (across.end, up.at(value))], LINE, 1)
        pen.text((across.start - 8, up.at(value)), f"{value:g}", FAINT, SMALL_FONT, "rm")
    lowest: float = up.start + SMALL_FONT
    named = best(offers)
    for offer in sorted(offers, key=lambda each: -(each.entry.accuracy or 0)):
        at = across.at(math.log10(offer.gmacs)), up.at(offer.entry.accuracy or 0)
        pen.dot(at, colour_of(offer.entry) if released(offer.entry) else PALE, 4)
        if offer in named:
            lowest = max(at[1], up.end) if lowest > up.start else max(at[1], lowest + SMALL_FONT)
            pen.text((across.end + 10, lowest), short_name(offer.entry), colour_of(offer.entry), SMALL_FONT, "lm")


def short_name(entry: CatalogueEntry) -> str:
    """Without the data set, which stands above.

    >>> short_name(CatalogueEntry(name="v2-jester-p128", family="adafocus-v2-tsm", file="f", dataset="jester"))
    'v2-p128'
    """
    return entry.name.replace(f"-{entry.dataset}", "").removesuffix("-k400")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("table", "picture"))
    parser.add_argument("output", type=Path, nargs="?", help="of the picture")
    given = parser.parse_args()
    offers = [Offer.of(entry) for entry in catalogue.packaged().entries]
    if given.what == "table":
        print("\n".join((*HEADING, *(offer.row for offer in best(offers)))))
    else:
        draw(offers).save(given.output or parser.error("picture needs the name of a file"), optimize=True)


if __name__ == "__main__":
    main()
