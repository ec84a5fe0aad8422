"""`adafocus doctor`: checks what works on this machine, and says what to install for what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from adafocus_cli.cli import options
from adafocus_cli.cli.terminal import report_console, write_json
from adafocus_cli.errors import counted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from adafocus_cli.diagnose import DoctorReport

NOT_READY = 1

HELP = """Check what works on this machine, and what to install for what does not.

Short clips are encoded with many codecs and decoded, to check that the right frames come back. Takes a few seconds."""

EXAMPLES = """[bold]Examples[/bold]

  [cyan]adafocus doctor[/cyan]
  [cyan]adafocus doctor --format json > machine.json[/cyan]

[bold]Exit status[/bold]

0 videos can be tagged here · 1 they cannot"""


@options.with_shared_options
def doctor(terminal: options.VerboseOption, format_: options.ReportFormatOption = "table") -> None:
    from adafocus_cli.diagnose import diagnose

    report = diagnose()
    if format_ == "json":
        write_json(report.to_dict())
    else:
        with report_console() as console:
            _show(console, report)
    if not report.ready:
        raise typer.Exit(NOT_READY)


def _show(console: Console, report: DoctorReport) -> None:
    for title, table in (
        ("Versions", _versions(report)),
        ("Machine", _machine(report)),
        ("Decoding", _decoding(report)),
    ):
        console.print(title, style="bold")
        console.print(table)
        console.print()
    _show_advice(console, report)


def _show_advice(console: Console, report: DoctorReport) -> None:
    from rich.text import Text

    for advice in report.advice:
        console.print(Text(f"• {advice}", style="yellow"))
    if report.ready:
        console.print(Text("✓ Videos can be tagged here.", style="bold green"))
    else:
        console.print(Text("✗ Videos cannot be tagged here yet.", style="bold red"))


def _versions(report: DoctorReport) -> Table:
    from adafocus_cli.diagnose import OPTIONAL

    table = _grid()
    for name, version in report.versions.items():
        absent = "[dim]not installed, optional[/dim]" if name in OPTIONAL else "[red]not installed[/red]"
        if name == "decord":
            absent = "[dim]not installed, the second decoder[/dim]"
        table.add_row(name, version or absent)
    return table


def _machine(report: DoctorReport) -> Table:
    machine = report.machine
    table = _grid()
    table.add_row("system", machine.system)
    table.add_row("cpu", f"{machine.cpu}, {counted(machine.cores, 'core')}")
    if machine.memory_gib is not None:
        table.add_row("memory", f"{machine.memory_gib} GiB")
    kernels = f"; torch uses {machine.torch_kernels}" if machine.torch_kernels else ""
    table.add_row("features", (" ".join(machine.cpu_features) or "none that matter") + kernels)
    for accelerator in report.accelerators:
        memory = f", {accelerator.memory_gib} GiB" if accelerator.memory_gib is not None else ""
        table.add_row(accelerator.device, f"{accelerator.name}{memory}{', bf16' if accelerator.bf16 else ''}")
    if not report.accelerators:
        table.add_row("gpu", "[dim]none; models run on the CPU[/dim]")
    return table


def _decoding(report: DoctorReport) -> Table:
    from rich.text import Text

    table = _grid()
    for check in report.codecs:
        if not check.tested:
            table.add_row(check.codec, "[dim]not tested: no encoder for a test clip[/dim]")
            continue
        parts = [_verdict(name, result) for name, result in check.decoders.items()]
        table.add_row(check.codec, Text("   ").join(parts))
    if not report.codecs:
        table.add_row("", "[red]not tested: PyAV cannot be loaded[/red]")
    return table


def _verdict(decoder: str, result: str) -> Text:
    from rich.text import Text

    if result == "ok":
        return Text(f"✓ {decoder}", style="green")
    style = "dim" if result == "not installed" else "yellow"
    reason = result.partition(";")[0].removeprefix(f"{decoder} ")
    return Text(f"✗ {decoder}: {reason}", style=style)


def _grid() -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", min_width=11)
    table.add_column(overflow="fold")
    return table
