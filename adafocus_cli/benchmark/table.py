"""A report for people at a terminal. Knows nothing of how it was measured."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from adafocus_cli.benchmark.report import Curve, Report, Row, Setting
from adafocus_cli.output.escape import printable


def layout(report: Report) -> RenderableType:
    parts: list[RenderableType] = [_heading(report.setting)]
    parts += [
        _title("A video that is decoded", "beside the plain path: as the authors run it"),
        _indented(_compared(report.model_only)),
    ]
    peaks = ", ".join(f"{gmacs:,.0f} GMACs/s in {precision}" for precision, gmacs in report.peak.items())
    parts.append(
        _indented(Text(f"peak: a matrix product on this machine at the same time, up to {peaks}", style="dim"))
    )
    parts += [_title("Where its time goes", "ms, and the share of the peak"), _indented(_stages(report.stages))]
    parts += [_title("Decoding", f"{report.videos}, one decoder at a time"), _indented(_compared(report.decoding))]
    parts += [_title("From file to answer", report.videos), _indented(_compared(report.end_to_end))]
    for curve in report.curves:
        parts += [_title(f"Over {curve.varied}", f"ms a video, by {curve.unit}"), _indented(_curve(curve))]
    return Group(*parts)


def _heading(setting: Setting) -> Text:
    text = Text(printable(setting.model), style="bold")
    text.append(f" on {setting.device}: {printable(setting.hardware)}, {setting.threads_in_words}", style="not bold")
    at_a_time = f"{setting.batch} at a time; " if setting.batch > 1 else ""
    rounds = "one round" if setting.rounds == 1 else f"medians of {setting.rounds} rounds"
    details = f"{setting.gmacs:.2f} GMACs a video; {at_a_time}{rounds}"
    text.append(f"\n  {details}", style="dim")
    if setting.made_up_weights:
        text.append("\n  not installed: its weights are made up, which the speed does not show", style="dim")
    if setting.busy:
        text.append(
            f"\n  The machine is busy (load {setting.load:.1f} on {setting.cores} cores): trust ratios, not seconds.",
            style="yellow",
        )
    return text


def _compared(rows: Sequence[Row]) -> Table:
    """One line each, without columns that nobody has anything in."""
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
