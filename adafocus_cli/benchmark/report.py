"""What was measured, as a record and as tables for a terminal. Seconds are those of one video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from adafocus_cli.benchmark.interleaved import Timing
from adafocus_cli.errors import counted, printable
from adafocus_cli.output.texts import percent

SCHEMA = "adafocus-bench/2"


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
    def busy(self) -> bool:
        return self.load is not None and self.load > 0.25 * self.cores


@dataclass(frozen=True)
class MachinePeak:
    """The best rate in any round, of which kernel, and what processor and clock allow; 10⁹ multiply-adds a second."""

    gmacs: float
    kernel: str
    theoretical: float | None = None

    def text(self, precision: str) -> str:
        beside = "" if self.theoretical is None else f" (in theory {self.theoretical:,.0f})"
        return f"{self.gmacs:,.0f} GMACs/s in {precision}{beside}"


@dataclass(frozen=True)
class Row:
    """The timing of one task. `shares` are of the machine's peak, by stage or as `all`."""

    name: str
    timing: Timing
    shares: Mapping[str, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        timing, parts = self.timing, self.timing.parts
        return {
            "name": self.name,
            "seconds": round(timing.median, 6),
            "rounds": [round(seconds, 6) for seconds in timing.seconds()],
            "spread": round(timing.spread, 4),
            "videos_per_second": round(1 / timing.median, 4),
            "share_of_peak": self.shares and {name: round(share, 4) for name, share in self.shares.items()},
            **({"stages": {name: round(part, 6) for name, part in parts.items()}} if len(parts) > 1 else {}),
        }


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """`peaks` are by precision; `videos` says what was decoded."""

    setting: BenchSetting
    peaks: Mapping[str, MachinePeak]
    model_only: tuple[Row, ...]
    stages: tuple[Row, ...]
    videos: str
    decoding: tuple[Row, ...]
    end_to_end: tuple[Row, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "setting": asdict(self.setting),
            "peak_gmacs_per_second": {precision: round(peak.gmacs, 2) for precision, peak in self.peaks.items()},
            "peak_kernel": {precision: peak.kernel for precision, peak in self.peaks.items()},
            "theoretical_gmacs_per_second": {
                precision: round(peak.theoretical, 2)
                for precision, peak in self.peaks.items()
                if peak.theoretical is not None
            },
            "model_only": [row.to_dict() for row in self.model_only],
            "stages": [row.to_dict() for row in self.stages],
            "videos": self.videos,
            "decoding": [row.to_dict() for row in self.decoding],
            "end_to_end": [row.to_dict() for row in self.end_to_end],
        }


def layout(report: BenchReport) -> RenderableType:
    parts: list[RenderableType] = [_heading(report.setting)]
    parts += [
        _title("The model only", "on decoded frames"),
        _indented(_rows(report.model_only)),
    ]
    peaks = ", ".join(peak.text(precision) for precision, peak in report.peaks.items())
    parts.append(_indented(Text(f"peak: the best kernel of this machine in each round, up to {peaks}", style="dim")))
    parts += [_title("Time by stage", "ms, and the share of the peak"), _indented(_stages(report.stages))]
    parts += [_title("Decoding", f"{report.videos}, one decoder at a time"), _indented(_rows(report.decoding))]
    parts += [_title("From file to answer", report.videos), _indented(_rows(report.end_to_end))]
    return Group(*parts)


def _heading(setting: BenchSetting) -> Text:
    text = Text(printable(setting.model), style="bold")
    threads = counted(setting.threads, "thread")
    text.append(f" on {setting.device}: {printable(setting.hardware)}, {threads}", style="not bold")
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


def _rows(rows: Sequence[Row]) -> Table:
    table = _table("")
    shares = any(row.shares for row in rows)
    for column in ("ms", "±", "videos/s", *(["of peak"] if shares else [])):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        timing = row.timing
        cells = [_ms(timing.median), percent(timing.spread, digits=0), f"{1 / timing.median:,.2f}"]
        cells += [percent(row.shares["all"], digits=0)] if row.shares else []
        table.add_row(row.name, *cells)
    return table


def _stages(rows: Sequence[Row]) -> Table:
    table = _table("")
    for row in rows:
        table.add_column(row.name.removesuffix(", by stage").replace(", ", "\n"), justify="right")
        table.add_column("", style="dim")
    for stage in rows[0].timing.parts:
        cells = []
        for row in rows:
            share = (row.shares or {}).get(stage)
            cells += [_ms(row.timing.parts[stage]), "" if share is None else percent(share, digits=0)]
        table.add_row(stage, *cells)
    networks = [cell for row in rows for cell in ("", percent((row.shares or {})["networks"], digits=0))]
    table.add_row("networks", *networks, style="dim")
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
