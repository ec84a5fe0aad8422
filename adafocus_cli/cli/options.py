"""The options that commands share, each declared once, and the requests that they fill.

A command names groups of them: a parameter that is annotated with a group gets the value that the group's options
make, and `with_shared_options` shows Typer the options in its place. Knows nothing of what a command does with them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from adafocus_cli.cli.inputs import Sources
from adafocus_cli.cli.sidecars import SidecarRequest
from adafocus_cli.cli.terminal import Terminal
from adafocus_cli.errors import ModelError, UsageError
from adafocus_cli.requests import DEFAULT_MODEL, ModelRequest, Precision, RuntimeName, TagRequest
from adafocus_cli.video import Decode, Decoder
from adafocus_cli.video.limits import Limits

# The exit status when some videos failed and the rest is done.
SOME_FAILED = 3

Format = Literal["table", "json", "jsonl", "csv"]
ReportFormat = Literal["table", "json"]

# Panels of the help.
MODEL = "Model"
EXITS = "Leaving early"
ANSWER = "Answer"
OUTPUT = "Output"
INPUT = "Videos"
SIDECARS = "Files for players and media libraries"


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
    float | None,
    typer.Option(
        metavar="SCORE",
        min=0,
        max=1,
        rich_help_panel=ANSWER,
        show_default="the model's own",
        help="Leave out labels with a lower score (0 to 1).",
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
        help="How long each step of a video may take: to fetch it, to open it, to decode frames that are asked for.",
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
Overwrite = Annotated[
    bool, typer.Option("--overwrite", metavar="", rich_help_panel=OUTPUT, help="Replace FILE, whatever it is.")
]
ReportFormatOption = Annotated[
    ReportFormat, typer.Option("--format", "-f", rich_help_panel=OUTPUT, help="For people or for programs.")
]
Subtitles = Annotated[
    Literal["vtt", "srt"] | None,
    typer.Option("--subtitles", rich_help_panel=SIDECARS, help="Segments as subtitles; needs --window."),
]
Chapters = Annotated[
    bool,
    typer.Option(
        "--chapters", metavar="", rich_help_panel=SIDECARS, help="Segments as chapters for FFmpeg; needs --window."
    ),
]
Xmp = Annotated[
    bool, typer.Option("--xmp", metavar="", rich_help_panel=SIDECARS, help="Tags, and segments as markers, as XMP.")
]
SidecarFolder = Annotated[
    Path | None,
    typer.Option(
        "--sidecars",
        metavar="FOLDER",
        show_default="where -o FILE is",
        rich_help_panel=SIDECARS,
        help="Where these files go, each below it as its video is named; with . they lie beside the videos.",
    ),
]
TagMapFile = Annotated[
    Path | None,
    typer.Option(
        "--map",
        metavar="FILE",
        rich_help_panel=SIDECARS,
        help="Names of your own for labels in these files: YAML or CSV.",
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", metavar="", rich_help_panel=OUTPUT, help="Say nothing but errors."),
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", metavar="", rich_help_panel=OUTPUT, help="Say more, with a traceback for errors."),
]


# What the parameters of commands are called, and what Typer is told of them. The defaults are those of the requests.
_SHARED: dict[str, Any] = {
    "inputs": Inputs,
    "files_from": FilesFrom,
    "null": Null,
    "model": ModelName,
    "weights": Weights,
    "labels": Labels,
    "patch_size": PatchSize,
    "views": ViewsOption,
    "device": Device,
    "precision": PrecisionOption,
    "runtime": RuntimeOption,
    "batch_size": BatchSize,
    "top_k": TopK,
    "min_score": MinScore,
    "exit_": ExitFile,
    "max_gmacs": MaxGmacs,
    "window": Window,
    "stride": Stride,
    "decoder": DecoderOption,
    "decode": DecodeOption,
    "decode_timeout": DecodeTimeout,
    "decode_memory": DecodeMemory,
    "workers": Workers,
    "subtitles": Subtitles,
    "chapters": Chapters,
    "xmp": Xmp,
    "sidecars_": SidecarFolder,
    "map_": TagMapFile,
    "quiet": Quiet,
    "verbose": Verbose,
}
_GIB = 1 << 30
_DEFAULTS = {
    **{field.name: field.default for request in (ModelRequest, TagRequest) for field in fields(request)},
    **{"null": False, "chapters": False, "xmp": False, "quiet": False, "verbose": False, "workers": None},
    **{"decode_timeout": Limits.seconds, "decode_memory": Limits.memory_bytes / _GIB},
}


@dataclass(frozen=True)
class Group:
    """Options by the names of their parameters, and the value that a command gets of them."""

    names: tuple[str, ...]
    make: Callable[[Mapping[str, Any]], Any]


def with_shared_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer is to see it: in place of each group, its options."""
    parameters: list[inspect.Parameter] = []
    groups: dict[str, Group] = {}
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        group = _group_of(parameter.annotation)
        if group is None:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        else:
            groups[parameter.name] = group
            parameters += map(_parameter, group.names)
    of_groups = {name for group in groups.values() for name in group.names}

    @wraps(command)
    def run(context: typer.Context, **given: Any) -> None:
        own = {name: value for name, value in given.items() if name not in of_groups}
        made = {name: group.make({**given, "context": context}) for name, group in groups.items()}
        command(**own, **made)

    if parameters[0].name != "context":
        parameters.insert(0, inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context))
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _group_of(annotation: Any) -> Group | None:
    metadata = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return next((each for each in metadata if isinstance(each, Group)), None)


def _parameter(name: str) -> inspect.Parameter:
    default = _DEFAULTS.get(name)
    default = None if default is MISSING else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=_SHARED[name])


def _model_request(given: Mapping[str, Any]) -> ModelRequest:
    names = {"patch_size", "views", "labels", "device", "precision", "runtime", "batch_size"} & given.keys()
    weights = given["weights"]
    if weights is not None:
        _check_weights(weights)
    return ModelRequest(source=weights or given["model"], **{name: given[name] for name in names})


def _tag_request(given: Mapping[str, Any]) -> TagRequest:
    from adafocus_cli.video.windows import Windowing

    names = {"top_k", "min_score", "max_gmacs", "decoder", "decode"} & given.keys()
    if given.get("workers") is not None:
        names.add("workers")
    limits = {"seconds": given["decode_timeout"]}
    if "decode_memory" in given:
        limits["memory_bytes"] = round(given["decode_memory"] * _GIB)
    return TagRequest(
        exits=given.get("exit_"),
        windows=Windowing.of(given.get("window"), given.get("stride")),
        limits=Limits(**limits),
        **{name: given[name] for name in names},
    )


def _sources(given: Mapping[str, Any]) -> Sources:
    return Sources(tuple(given["inputs"] or ()), given["files_from"], given["null"])


def _sidecars(given: Mapping[str, Any]) -> SidecarRequest:
    names = ("subtitles", "chapters", "xmp")
    return SidecarRequest(folder=given["sidecars_"], map=given["map_"], **{name: given[name] for name in names})


def _terminal(given: Mapping[str, Any]) -> Terminal:
    terminal: Terminal = given["context"].obj
    terminal.quiet, terminal.verbose = given.get("quiet", False), given["verbose"]
    return terminal


_NAMED = ("model", "weights")
_MODEL = (*_NAMED, "labels", "patch_size")
_RUN = ("device", "precision", "runtime", "batch_size")
_LEAVE = ("exit_", "max_gmacs")
_ANSWER = ("top_k", "min_score", *_LEAVE, "window", "stride")
_LIMITS = ("decode_timeout", "decode_memory")

ModelOptions = Annotated[ModelRequest, Group((*_MODEL, "views", *_RUN), _model_request)]
CalibrateModelOptions = Annotated[ModelRequest, Group((*_MODEL, *_RUN), _model_request)]
RenderModelOptions = Annotated[ModelRequest, Group((*_MODEL, "device", "precision", "runtime"), _model_request)]
FlopsModelOptions = Annotated[ModelRequest, Group((*_NAMED, "patch_size", "views"), _model_request)]
BenchModelOptions = Annotated[ModelRequest, Group((*_NAMED, "patch_size", "device", "batch_size"), _model_request)]

TagOptions = Annotated[TagRequest, Group((*_ANSWER, "decoder", "decode", *_LIMITS, "workers"), _tag_request)]
BatchTagOptions = Annotated[TagRequest, Group((*_ANSWER, "decoder", "decode", *_LIMITS), _tag_request)]
EvaluateTagOptions = Annotated[
    TagRequest, Group((*_LEAVE, "decoder", "decode", "decode_timeout", "workers"), _tag_request)
]
CalibrateTagOptions = Annotated[TagRequest, Group(("decoder", "decode_timeout", "workers"), _tag_request)]
RenderTagOptions = Annotated[TagRequest, Group((*_LEAVE, *_LIMITS), _tag_request)]

SourceOptions = Annotated[Sources, Group(("inputs", "files_from", "null"), _sources)]
SidecarOptions = Annotated[SidecarRequest, Group(("subtitles", "chapters", "xmp", "sidecars_", "map_"), _sidecars)]
TerminalOptions = Annotated[Terminal, Group(("quiet", "verbose"), _terminal)]
VerboseOption = Annotated[Terminal, Group(("verbose",), _terminal)]


def files_read(sources: Sources, model: ModelRequest, request: TagRequest) -> tuple[str | Path, ...]:
    """The files that a command reads, and must not write."""
    named = (model.source, model.labels, request.exits, sources.files_from, *sources.inputs)
    return tuple(name for name in named if isinstance(name, str | Path))


def _check_weights(weights: Path) -> None:
    """That the file is there, before anything is started for it."""
    if str(weights) == "-":
        raise UsageError("--weights - is not possible: weights are not read from standard input; give a file")
    if weights.is_dir():
        raise ModelError(f"{weights} is a folder, not a checkpoint; name the file in it with --weights FILE")
    if not weights.exists():
        raise ModelError(f"there is no checkpoint {weights}; check the path after --weights")
