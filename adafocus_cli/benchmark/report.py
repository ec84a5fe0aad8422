"""What was measured: compared rows and curves, as a record, as tables for a terminal, and as diagrams.

Seconds are those of one video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any

from PIL import Image
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from adafocus_cli.benchmark.interleaved import Timing, ratio
from adafocus_cli.drawing import BLUE, FAINT, FONT, INK, PALE, SMALL_FONT, Axis, Colour, Pen
from adafocus_cli.errors import printable

SCHEMA = "adafocus-bench/1"
REFERENCE = "plain path"


@dataclass(frozen=True, kw_only=True)
class BenchSetting:
    """What was measured and on what machine; `load` is its load average before."""

    model: str
    made_up_weights: bool
    family: str
    patch_size: int
    glance_frames: int
    focus_frames: int
    gmacs: float
    device: str
    hardware: str
    cores: int
    threads: int
    batch: int
    load: float | None
    rounds: int

    @property
    def threads_in_words(self) -> str:
        return f"{self.threads} thread{'s' if self.threads != 1 else ''}"

    @property
    def busy(self) -> bool:
        return self.load is not None and self.load > 0.25 * self.cores


@dataclass(frozen=True, kw_only=True)
class Row:
    """The timing of one task. `ratio` is to the reference; `shares` are of the machine's peak, by stage or as `all`."""

    name: str
    timing: Timing
    ratio: float | None = None
    shares: Mapping[str, float] | None = None

    @classmethod
    def compared_with(
        cls, other: str, name: str, timings: Mapping[str, Timing], shares: Mapping[str, Mapping[str, float]]
    ) -> Row:
        """Compared round by round with a task of the same run or, if timed only once, with its median."""
        timing, reference = timings[name], timings[other]
        together = len(timing.rounds) == len(reference.rounds)
        against = ratio(timing.seconds(), reference.seconds()) if together else timing.median / reference.median
        return cls(name=name, timing=timing, ratio=against, shares=shares.get(name))

    def to_dict(self) -> dict[str, Any]:
        timing, parts = self.timing, self.timing.parts
        return {
            "name": self.name,
            "seconds": round(timing.median, 6),
            "rounds": [round(seconds, 6) for seconds in timing.seconds()],
            "spread": round(timing.spread, 4),
            "videos_per_second": round(1 / timing.median, 4),
            "ratio_to_plain": self.ratio and round(self.ratio, 4),
            "share_of_peak": self.shares and {name: round(share, 4) for name, share in self.shares.items()},
            **({"stages": {name: round(part, 6) for name, part in parts.items()}} if len(parts) > 1 else {}),
        }


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Seconds over something that was varied; `lines` are the points of each task."""

    varied: str
    unit: str
    lines: Mapping[str, tuple[tuple[float, float], ...]]

    def to_dict(self) -> dict[str, Any]:
        lines = {
            name: [{"value": value, "seconds": round(seconds, 6)} for value, seconds in points]
            for name, points in self.lines.items()
        }
        return {"varied": self.varied, "unit": self.unit, "lines": lines}


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """`peak` is in 10⁹ multiply-adds a second, by precision; `videos` says what was decoded."""

    setting: BenchSetting
    peak: Mapping[str, float]
    model_only: tuple[Row, ...]
    stages: tuple[Row, ...]
    videos: str
    decoding: tuple[Row, ...]
    end_to_end: tuple[Row, ...]
    curves: tuple[Curve, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "setting": asdict(self.setting),
            "peak_gmacs_per_second": {precision: round(gmacs, 2) for precision, gmacs in self.peak.items()},
            "model_only": [row.to_dict() for row in self.model_only],
            "stages": [row.to_dict() for row in self.stages],
            "videos": self.videos,
            "decoding": [row.to_dict() for row in self.decoding],
            "end_to_end": [row.to_dict() for row in self.end_to_end],
            "curves": [curve.to_dict() for curve in self.curves],
        }


def layout(report: BenchReport) -> RenderableType:
    parts: list[RenderableType] = [_heading(report.setting)]
    parts += [
        _title("The model only, on decoded frames", "compared with the plain path: as its authors run it"),
        _indented(_compared(report.model_only)),
    ]
    peaks = ", ".join(f"{gmacs:,.0f} GMACs/s in {precision}" for precision, gmacs in report.peak.items())
    parts.append(
        _indented(Text(f"peak: a matrix product on this machine in the same rounds, up to {peaks}", style="dim"))
    )
    parts += [_title("Time by stage", "ms, and the share of the peak"), _indented(_stages(report.stages))]
    parts += [_title("Decoding", f"{report.videos}, one decoder at a time"), _indented(_compared(report.decoding))]
    parts += [_title("From file to answer", report.videos), _indented(_compared(report.end_to_end))]
    for curve in report.curves:
        parts += [_title(f"Over {curve.varied}", f"ms a video, by {curve.unit}"), _indented(_curve(curve))]
    return Group(*parts)


def _heading(setting: BenchSetting) -> Text:
    text = Text(printable(setting.model), style="bold")
    text.append(f" on {setting.device}: {printable(setting.hardware)}, {setting.threads_in_words}", style="not bold")
    at_a_time = f"{setting.batch} at a time; " if setting.batch > 1 else ""
    rounds = "one round" if setting.rounds == 1 else f"medians of {setting.rounds} rounds"
    details = f"{setting.gmacs:.2f} GMACs a video; {at_a_time}{rounds}"
    text.append(f"\n  {details}", style="dim")
    if setting.made_up_weights:
        text.append("\n  not installed: measured with random weights, which does not change the speed", style="dim")
    if setting.busy:
        text.append(
            f"\n  The machine is busy (load {setting.load:.1f} on {setting.cores} cores): trust ratios, not seconds.",
            style="yellow",
        )
    return text


def _compared(rows: Sequence[Row]) -> Table:
    """One line per row, without empty columns."""
    table = _table("")
    ratios, shares = (any(getattr(row, name) for row in rows) for name in ("ratio", "shares"))
    columns = ("ms", "±", "videos/s", *(["× plain"] if ratios else []), *(["of peak"] if shares else []))
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        timing = row.timing
        cells = [_ms(timing.median), f"{timing.spread:.0%}", f"{1 / timing.median:,.2f}"]
        cells += ["" if row.ratio is None else f"{row.ratio:.2f}"] if ratios else []
        cells += [f"{row.shares['all']:.0%}" if row.shares else ""] if shares else []
        table.add_row(row.name, *cells, style="bold" if row.shares else "")
    return table


def _stages(rows: Sequence[Row]) -> Table:
    table = _table("")
    for row in rows:
        table.add_column(row.name.removesuffix(", by stage").removeprefix("adafocus "), justify="right")
        table.add_column("", style="dim")
    for stage in rows[0].timing.parts:
        cells = []
        for row in rows:
            share = (row.shares or {}).get(stage)
            cells += [_ms(row.timing.parts[stage]), "" if share is None else f"{share:.0%}"]
        table.add_row(stage, *cells)
    networks = [cell for row in rows for cell in ("", f"{(row.shares or {})['networks']:.0%}")]
    table.add_row("glance + focus", *networks, style="dim")
    return table


def _curve(curve: Curve) -> Table:
    table = _table("")
    for value, _ in next(iter(curve.lines.values())):
        table.add_column(f"{value:g}", justify="right", no_wrap=True)
    for name, points in curve.lines.items():
        table.add_row(name, *(_ms(seconds) for _, seconds in points))
    return table


def _table(first: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(first, overflow="fold")
    return table


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.1f}"


def _title(text: str, more: str) -> Text:
    return Text(f"\n{text}", style="bold").append(f"  {more}", style="dim not bold")


def _indented(block: RenderableType) -> Padding:
    return Padding(block, (0, 0, 0, 2))


WIDTH, _ROW, _HEADING = 960, 330, 56
_COLUMNS = 2
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 24, 64, 56  # of a diagram, around the plot
_KEY_LINE = 18
_COLOURS: tuple[Colour, ...] = (BLUE, (200, 80, 30), (50, 140, 70), (130, 70, 160))


def draw(report: BenchReport) -> Image.Image:
    rows = -(-len(report.curves) // _COLUMNS)
    pen = Pen((WIDTH, _HEADING + rows * _ROW))
    setting = report.setting
    pen.text((16, 34), f"Seconds a video: {setting.model} on {setting.device}", INK, FONT, "ls")
    pen.text((WIDTH - _RIGHT, 34), f"{setting.hardware}, {setting.threads_in_words}", FAINT, SMALL_FONT, "rs")
    for place, curve in enumerate(report.curves):
        row, column = divmod(place, _COLUMNS)
        _draw_curve(pen, curve, column * WIDTH // _COLUMNS, _HEADING + row * _ROW)
    return pen.picture()


def _draw_curve(pen: Pen, curve: Curve, x: int, y: int) -> None:
    points = [point for line in curve.lines.values() for point in line]
    across = Axis.around((value for value, _ in points), x + _LEFT, x + WIDTH // _COLUMNS - _RIGHT, least=1)
    # From zero, so that heights compare.
    up = Axis(0, 1.1 * max(seconds for _, seconds in points), y + _ROW - _BOTTOM, y + _TOP)
    pen.grid(across, up)
    pen.text(((across.start + across.end) / 2, up.start + 44), f"{curve.varied}, {curve.unit}", INK, FONT, "ms")
    ours = cycle(_COLOURS)
    for number, (name, line) in enumerate(curve.lines.items()):
        colour = PALE if name == REFERENCE else next(ours)
        places = [(across.at(value), up.at(seconds)) for value, seconds in line]
        pen.line(places, colour, 3)
        for place in places:
            pen.dot(place, colour, 5)
        key = (x + _LEFT + number % 2 * 190, y + _TOP - 30 + number // 2 * _KEY_LINE)
        pen.dot(key, colour, 5)
        pen.text((key[0] + 12, key[1]), name, INK, SMALL_FONT, "lm")
