"""The options that commands share, and what follows from them alone.

Knows nothing of what a command does with them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from adafocus_cli.errors import ModelError, UsageError

if TYPE_CHECKING:
    from adafocus_cli.engine.local import Options
    from adafocus_cli.tagger import Tagger
    from adafocus_cli.video.limits import Limits

# The model that is used when none is asked for.
DEFAULT_MODEL = "motion"

# The exit status when some videos failed and the rest is done.
SOME_FAILED = 3

Format = Literal["table", "json", "jsonl", "csv"]
ReportFormat = Literal["table", "json"]
Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
RuntimeName = Literal["auto", "torch", "openvino"]
Decoder = Literal["auto", "pyav", "decord"]
Decode = Literal["exact", "fast"]

# Panels of the help.
MODEL = "Model"
EXITS = "Leaving early"
ANSWER = "Answer"
OUTPUT = "Output"
INPUT = "Videos"


def _checked_device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        raise typer.BadParameter(f"{value!r} is not a device; auto, cpu, cuda, cuda:0 (1, …) and mps are")
    return value


def _checked_memory(value: float) -> float:
    if not 0 < value < float("inf"):
        raise typer.BadParameter(f"{value:g} is no amount of memory; give GiB above 0")
    return value


def checked_time(value: float) -> float:
    if not 0 < value < float("inf"):
        raise typer.BadParameter(f"{value:g} is not a time; give seconds above 0")
    return value


Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUTS",
        help="Videos, folders of videos, patterns such as '*.mp4', addresses such as s3://bucket/, or - for a list.",
    ),
]
FilesFrom = Annotated[
    str | None,
    typer.Option(
        "--files-from",
        metavar="FILE",
        rich_help_panel=INPUT,
        help="Read paths from FILE, one a line; - is stdin.",
    ),
]
Null = Annotated[
    bool,
    typer.Option("--null", "-0", metavar="", rich_help_panel=INPUT, help="Paths in the list end with NUL."),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        show_default=DEFAULT_MODEL,
        rich_help_panel=MODEL,
        help="A model by name, or a file.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", "-w", metavar="FILE", rich_help_panel=MODEL, help="A checkpoint file; wins over a name."),
]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|NAME",
        rich_help_panel=MODEL,
        help="The names of the classes: a text file with one a line, or the data set of a packaged list.",
    ),
]
PatchSize = Annotated[
    int | None,
    typer.Option(
        metavar="PIXELS", min=1, rich_help_panel=MODEL, help="The side of a patch, where the file does not say it."
    ),
]
ViewsOption = Annotated[
    int | None,
    typer.Option(
        "--views",
        metavar="1|10|30",
        rich_help_panel=MODEL,
        help="How often a network over whole clips sees a video: 10 clips of it, 30 with 3 squares of each.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        callback=_checked_device,
        rich_help_panel=MODEL,
        help="Where the model runs: auto, cpu, cuda, cuda:N or mps.",
    ),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option("--precision", rich_help_panel=MODEL, help="What the networks calculate with; auto is fp32."),
]
RuntimeOption = Annotated[
    RuntimeName,
    typer.Option(
        "--runtime",
        rich_help_panel=MODEL,
        help="What runs the networks; auto is OpenVINO on a processor, if installed and fit for the model.",
    ),
]
TopK = Annotated[
    int, typer.Option("--top-k", "-k", metavar="N", min=1, rich_help_panel=ANSWER, help="How many labels at most.")
]
MinScore = Annotated[
    float,
    typer.Option(
        metavar="SCORE", min=0, max=1, rich_help_panel=ANSWER, help="Leave out labels with a lower score (0 to 1)."
    ),
]
Logits = Annotated[
    bool, typer.Option("--logits", metavar="", rich_help_panel=ANSWER, help="Add the raw answers to json and jsonl.")
]
ExitFile = Annotated[
    Path | None,
    typer.Option(
        "--exit",
        metavar="FILE",
        rich_help_panel=EXITS,
        help="Thresholds calibrated for this model: stop looking at a video once the answer is good enough.",
    ),
]
MaxGmacs = Annotated[
    float | None,
    typer.Option(
        metavar="N",
        rich_help_panel=EXITS,
        help="A hard cap on every video's cost, in 10⁹ multiply-adds: the best answer that fits under it.",
    ),
]
Window = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        rich_help_panel=ANSWER,
        help="Tag each stretch of so many seconds as a clip of its own: what happens when, in long videos.",
    ),
]
Stride = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        show_default="half a window",
        rich_help_panel=ANSWER,
        help="From the start of one window to that of the next.",
    ),
]
DecoderOption = Annotated[
    Decoder,
    typer.Option(rich_help_panel=INPUT, help="What reads the videos; auto takes the one that suits."),
]
DecodeOption = Annotated[
    Decode,
    typer.Option(
        "--decode", rich_help_panel=INPUT, help="fast takes the nearest keyframes instead of the exact frames."
    ),
]
DecodeTimeout = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        callback=checked_time,
        rich_help_panel=INPUT,
        help="Give up on a video of which one step, opening or decoding, takes longer.",
    ),
]
DecodeMemory = Annotated[
    float,
    typer.Option(
        metavar="GIB",
        callback=_checked_memory,
        rich_help_panel=INPUT,
        help="How much memory a process that decodes may take, where the system can limit it.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        show_default="half the cores",
        rich_help_panel=INPUT,
        help="How many videos are decoded at a time.",
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        show_default="as suits the device",
        rich_help_panel=MODEL,
        help="How many videos an accelerator takes at a time; a processor takes them one by one.",
    ),
]
ReportFormatOption = Annotated[
    ReportFormat, typer.Option("--format", "-f", rich_help_panel=OUTPUT, help="For people or for programs.")
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", metavar="", rich_help_panel=OUTPUT, help="Say nothing but errors."),
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", metavar="", rich_help_panel=OUTPUT, help="Say more, with a traceback for errors."),
]


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """Which model, as asked for; `load` brings in torch."""

    source: str
    patch_size: int | None = None
    views: int | None = None
    labels: str | None = None
    device: str = "auto"
    precision: Precision = "auto"
    batch_size: int | None = None
    runtime: RuntimeName = "auto"

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> ModelChoice:
        """From a command's parameters, by their names."""
        names = ("patch_size", "views", "labels", "device", "precision", "batch_size", "runtime")
        return cls(source=chosen_model(given["model"], given["weights"]), **{n: given[n] for n in names if n in given})

    def load(self) -> Tagger:
        from adafocus_cli.tagger import Tagger

        return Tagger.load(
            self.source,
            patch_size=self.patch_size,
            views=self.views,
            labels=self.labels,
            device=self.device,
            precision=self.precision,
            batch_size=self.batch_size,
            runtime=self.runtime,
        )


def engine_options(given: Mapping[str, Any]) -> Options:
    """From a command's parameters, by their names; what it has no parameter for is as usual."""
    from adafocus_cli.engine.local import Options
    from adafocus_cli.video.windows import Windowing

    chosen = {name: given[name] for name in ("decoder", "decode", "top_k", "min_score", "max_gmacs") if name in given}
    if given["workers"] is not None:
        chosen["workers"] = given["workers"]
    windows = Windowing.of(given.get("window"), given.get("stride"))
    return Options(limits=limits_of(given), exits=given.get("exit_"), windows=windows, **chosen)


def limits_of(given: Mapping[str, Any]) -> Limits:
    """What one video may cost, from a command's parameters."""
    from adafocus_cli.video.limits import Limits

    limits = {"seconds": given["decode_timeout"]}
    if "decode_memory" in given:
        limits["memory_bytes"] = round(given["decode_memory"] * (1 << 30))
    return Limits(**limits)


def chosen_model(model: str | None, weights: Path | None) -> str:
    """A name or a file; the file is known to be there, before anything is started for it."""
    if weights is None:
        return model or DEFAULT_MODEL
    if str(weights) == "-":
        raise UsageError("--weights - is not possible: weights are not read from standard input; give a file")
    if weights.is_dir():
        raise ModelError(f"{weights} is a folder, not a checkpoint; name the file in it with --weights FILE")
    if not weights.exists():
        raise ModelError(f"there is no checkpoint {weights}; check the path after --weights")
    return str(weights)
