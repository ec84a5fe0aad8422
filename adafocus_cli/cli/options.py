"""The options that commands share, each declared once, and the requests that they fill.

A command names groups of them: a parameter that is annotated with a group receives the request that the group's options
fill, and `with_shared_options` shows Typer the options in its place. To add an option to several commands: declare it
here, add it to `_SHARED` and to the groups of these commands, and give its value to a request.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer

from adafocus_cli.cli.inputs import Sources
from adafocus_cli.cli.parameters import OptionValueError
from adafocus_cli.cli.terminal import Terminal
from adafocus_cli.errors import ModelError, UsageError
from adafocus_cli.requests import DEFAULT_MODEL, ModelRequest, Precision, RuntimeName, TagRequest
from adafocus_cli.video import Decode, Decoder
from adafocus_cli.video.limits import Limits

if TYPE_CHECKING:
    from adafocus_cli.output.records import Mode
    from adafocus_cli.output.sidecars import Sidecars

# The exit status when some videos failed and the rest is done.
SOME_FAILED = 3

Format = Literal["table", "json", "jsonl", "csv"]
ReportFormat = Literal["table", "json"]

# Panels of the help, in the order in which they are shown.
MODEL = "Model"
ANSWER = "Answer"
EXITS = "Leaving early"
INPUT = "Videos"
BATCH = "Batch"
LIVE = "How long"
ENGINE = "Engine"
OUTPUT = "Output"
SIDECARS = "Files for players and media libraries"
FILTERS = "What is found"
CLIPS = "Clips and playlists"
TRAIN_DATA = "Labelled videos"
TRAIN_MODEL = "The model"
TRAIN_METHOD = "How it learns"
TRAIN_RUN = "The run"
PANELS = (
    *(TRAIN_DATA, TRAIN_MODEL, TRAIN_METHOD, TRAIN_RUN),
    *(MODEL, ANSWER, EXITS, INPUT, BATCH, LIVE, ENGINE, FILTERS, OUTPUT, CLIPS, SIDECARS),
)


def _checked_device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        raise OptionValueError("is not a device; give auto, cpu, cuda, cuda:N or mps")
    return value


def _checked_memory(value: float) -> float:
    if not 0 < value < float("inf"):
        raise OptionValueError("is not an amount of memory; give GiB above 0")
    return value


def checked_time(value: float) -> float:
    if not 0 < value < float("inf"):
        raise OptionValueError("is not a time; give seconds above 0")
    return value


score_option = partial(typer.Option, metavar="SCORE", min=0, max=1)

Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUTS",
        help="Videos, folders of videos, patterns such as '*.mp4', URLs such as s3://bucket/, or - to read a list.",
    ),
]
FilesFrom = Annotated[
    str | None,
    typer.Option(
        "--files-from",
        metavar="FILE",
        rich_help_panel=INPUT,
        help="Read paths from FILE, one per line; - reads stdin.",
    ),
]
Null = Annotated[
    bool,
    typer.Option("--null", "-0", metavar="", rich_help_panel=INPUT, help="Paths in the list end with NUL."),
]
Stdin = Annotated[
    bool,
    typer.Option("--stdin", metavar="", rich_help_panel=INPUT, help="Tag the one video on standard input."),
]
Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA", help="A folder with one folder per class, a list, or world:NAME, a synthetic world."
    ),
]
Root = Annotated[
    Path | None,
    typer.Option(
        "--root",
        metavar="FOLDER",
        rich_help_panel=INPUT,
        help="Folder of the videos of a list, or of folders of their frames.",
        show_default="that of the list",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        min=1,
        rich_help_panel=INPUT,
        help="Use a sample of N videos, balanced over the classes; of a synthetic world, N scenes.",
        show_default="all; 500 scenes",
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        show_default=DEFAULT_MODEL,
        rich_help_panel=MODEL,
        help="Name of a model, or a checkpoint file.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        "-w",
        metavar="FILE|RUN",
        rich_help_panel=MODEL,
        help="Checkpoint file, or the folder of a training run; overrides --model.",
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        "--labels",
        metavar="FILE|NAME",
        rich_help_panel=MODEL,
        help="Names of the classes: a text file with one per line, or a packaged list, by the name of its data set.",
    ),
]
PatchSize = Annotated[
    int | None,
    typer.Option(
        "--patch-size",
        metavar="PIXELS",
        min=1,
        rich_help_panel=MODEL,
        help="Side of a patch, if the checkpoint does not say it.",
    ),
]
Views = Annotated[
    int | None,
    typer.Option(
        "--views",
        metavar="1|3|10|30",
        rich_help_panel=MODEL,
        help="Views of a video that a whole-clip model averages: 10 clips, or 30 (3 square crops of each); of "
        "Uni-AdaFocus on X3D: 3 square crops.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME",
        callback=_checked_device,
        rich_help_panel=MODEL,
        help="Run the model on auto, cpu, cuda, cuda:N or mps.",
    ),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        "--precision",
        rich_help_panel=MODEL,
        help="Number format of the networks; auto is fp32. int8 needs a model file that `models quantize` wrote.",
    ),
]
RuntimeOption = Annotated[
    RuntimeName,
    typer.Option(
        "--runtime",
        rich_help_panel=MODEL,
        help="Library that runs the networks; auto is OpenVINO on a CPU, if installed and the model allows it.",
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        min=1,
        show_default="as suits the device",
        rich_help_panel=MODEL,
        help="Videos that an accelerator processes at a time; a CPU processes one.",
    ),
]
TopK = Annotated[
    int, typer.Option("--top-k", "-k", metavar="N", min=1, rich_help_panel=ANSWER, help="Maximum number of labels.")
]
MinScore = Annotated[
    float | None,
    score_option(
        "--min-score",
        rich_help_panel=ANSWER,
        show_default="the model's own",
        help="Leave out labels with a lower score (0 to 1).",
    ),
]
Window = Annotated[
    float | None,
    typer.Option(
        "--window",
        metavar="SECONDS",
        rich_help_panel=ANSWER,
        help="Tag each window of this length by itself, to find what happens when in long videos.",
    ),
]
Stride = Annotated[
    float | None,
    typer.Option(
        "--stride",
        metavar="SECONDS",
        show_default="half a window",
        rich_help_panel=ANSWER,
        help="Time from the start of one window to the start of the next.",
    ),
]
Logits = Annotated[
    bool,
    typer.Option(
        "--logits", metavar="", rich_help_panel=ANSWER, help="Add the logits of all classes to json and jsonl."
    ),
]
ExitFile = Annotated[
    Path | None,
    typer.Option(
        "--exit",
        metavar="FILE",
        rich_help_panel=EXITS,
        help="Stop looking at a video once the answer is certain enough, by the thresholds in FILE.",
    ),
]
MaxGmacs = Annotated[
    float | None,
    typer.Option(
        "--max-gmacs",
        metavar="N",
        rich_help_panel=EXITS,
        help="Maximum cost of each video, in 10⁹ multiply-adds.",
    ),
]
DecoderOption = Annotated[
    Decoder,
    typer.Option("--decoder", rich_help_panel=INPUT, help="Library that decodes the videos; auto picks one."),
]
DecodeOption = Annotated[
    Decode,
    typer.Option(
        "--decode", rich_help_panel=INPUT, help="fast decodes the nearest keyframes instead of the exact frames."
    ),
]
DecodeTimeout = Annotated[
    float,
    typer.Option(
        "--decode-timeout",
        metavar="SECONDS",
        callback=checked_time,
        rich_help_panel=INPUT,
        help="Time limit for each step of a video: fetching it, opening it, decoding the frames that are needed.",
    ),
]
DecodeMemory = Annotated[
    float,
    typer.Option(
        "--decode-memory",
        metavar="GIB",
        callback=_checked_memory,
        rich_help_panel=INPUT,
        help="Memory limit of a decoding process, where the system can enforce it.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        show_default="half the cores",
        rich_help_panel=INPUT,
        help="Number of videos that are decoded at a time.",
    ),
]
ReportFormatOption = Annotated[
    ReportFormat, typer.Option("--format", "-f", rich_help_panel=OUTPUT, help="Output for people or for programs.")
]
NumbersOutput = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", rich_help_panel=OUTPUT, help="Also write all numbers to FILE, as JSON."
    ),
]
RecordsOutput = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        rich_help_panel=OUTPUT,
        help="Write to FILE, as its ending says: .jsonl, .csv (each also .gz or .zst), .json, .parquet, .sqlite, .db.",
    ),
]
MovedVideos = Annotated[
    Path | None,
    typer.Option("--videos", metavar="FOLDER", rich_help_panel=INPUT, help="Folder of the videos, if they have moved."),
]
SegmentsFile = Annotated[
    Path | None,
    typer.Option(
        "--segments",
        metavar="FILE",
        rich_help_panel=OUTPUT,
        help="Also write a CSV file with one row per segment, from when to when which label holds; needs --window.",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", metavar="", rich_help_panel=OUTPUT, help="Replace existing output files.")
]
Append = Annotated[
    bool,
    typer.Option(
        "--append",
        metavar="",
        rich_help_panel=OUTPUT,
        help="Add to FILE even if it was made with other settings.",
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", metavar="", rich_help_panel=OUTPUT, help="Print nothing but errors."),
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", metavar="", rich_help_panel=OUTPUT, help="Print more, and a traceback for errors."),
]
Subtitles = Annotated[
    Literal["vtt", "srt"] | None,
    typer.Option("--subtitles", rich_help_panel=SIDECARS, help="Write segments as subtitles; needs --window."),
]
SubtitleMinScore = Annotated[
    float,
    score_option(
        "--subtitle-min-score",
        rich_help_panel=SIDECARS,
        help="Leave out of subtitles, chapters and markers what has a lower score (0 to 1).",
    ),
]
SubtitleScores = Annotated[
    bool,
    typer.Option(
        "--subtitle-scores", metavar="", rich_help_panel=SIDECARS, help="Show scores in subtitles and chapters."
    ),
]
Chapters = Annotated[
    bool,
    typer.Option(
        "--chapters",
        metavar="",
        rich_help_panel=SIDECARS,
        help="Write segments as chapters for FFmpeg; needs --window.",
    ),
]
Xmp = Annotated[
    bool,
    typer.Option("--xmp", metavar="", rich_help_panel=SIDECARS, help="Write tags, and segments as markers, as XMP."),
]
Nfo = Annotated[
    bool,
    typer.Option(
        "--nfo",
        metavar="",
        rich_help_panel=SIDECARS,
        help="Write tags, and segments as a plot, as NFO for media centres such as Kodi.",
    ),
]
WriteTags = Annotated[
    bool,
    typer.Option(
        "--write-tags",
        metavar="",
        rich_help_panel=SIDECARS,
        help="Write the XMP into the video files, MP4 and MOV; each is replaced by a copy with the tags in it.",
    ),
]
SidecarFolder = Annotated[
    Path | None,
    typer.Option(
        "--sidecars",
        metavar="FOLDER",
        show_default="where -o FILE is",
        rich_help_panel=SIDECARS,
        help="Write these files below FOLDER, under the paths of their videos; . is beside the videos.",
    ),
]
TagMapFile = Annotated[
    Path | None,
    typer.Option(
        "--map",
        metavar="FILE",
        rich_help_panel=SIDECARS,
        help="Rename labels in these files, as FILE (YAML or CSV) says.",
    ),
]
# Shared by evaluate and calibrate; the seed of train is of a whole run.
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        metavar="N",
        min=0,
        rich_help_panel=INPUT,
        help="Random seed: for --limit, for synthetic worlds, and for everything else that is random.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class SidecarRequest:
    """Which files to write beside the results, and where; without a folder, where the results go."""

    subtitles: Literal["vtt", "srt"] | None
    chapters: bool
    xmp: bool
    subtitle_min_score: float
    subtitle_scores: bool
    nfo: bool
    write_tags: bool
    folder: Path | None
    map: Path | None

    def open(self, output: Path | None, request: TagRequest) -> Sidecars | None:
        """The writer of these files, for results in `output`; None if none are wanted."""
        timed = [*filter(None, [self.subtitles]), *(["chapters"] if self.chapters else [])]
        kinds = (*timed, *(["xmp"] if self.xmp else []), *(["nfo"] if self.nfo else []))
        if not kinds and not self.write_tags:
            for option, value in (("--sidecars", self.folder), ("--map", self.map)):
                if value is not None:
                    raise UsageError(f"{option} {value} is for files beside the results; add --subtitles vtt or --xmp")
            return None
        if timed:
            check_windows(request, "--chapters" if self.subtitles is None else f"--subtitles {self.subtitles}")
        if kinds and self.folder is None and output is None:
            raise UsageError("no folder for the files beside the results; give one with --sidecars")
        from adafocus_cli.output.sidecars import CueStyle, Sidecars, TagMap, read_tag_map

        folder = self.folder or (output or Path()).absolute().parent  # `.` would be beside the videos
        tags = TagMap() if self.map is None else read_tag_map(self.map)
        style = CueStyle(self.subtitle_min_score, self.subtitle_scores)
        return Sidecars(folder, kinds, tags, style, into_videos=self.write_tags)


# The parameters of commands that stand for these options. Their defaults are those of the requests.
_SHARED: dict[str, Any] = {
    "inputs": Inputs,
    "files_from": FilesFrom,
    "null": Null,
    "stdin": Stdin,
    "model": ModelName,
    "weights": Weights,
    "labels": Labels,
    "patch_size": PatchSize,
    "views": Views,
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
    "subtitle_min_score": SubtitleMinScore,
    "subtitle_scores": SubtitleScores,
    "chapters": Chapters,
    "xmp": Xmp,
    "nfo": Nfo,
    "write_tags": WriteTags,
    "sidecars_": SidecarFolder,
    "map_": TagMapFile,
    "quiet": Quiet,
    "verbose": Verbose,
}
_GIB = 1 << 30
_DEFAULTS = {
    **{each.name: each.default for each in (*fields(ModelRequest), *fields(TagRequest)) if each.default is not MISSING},
    **dict.fromkeys(("null", "stdin", "subtitle_scores", "chapters", "xmp", "nfo", "write_tags"), False),
    **{"quiet": False, "verbose": False, "workers": None, "subtitle_min_score": 0.3},
    **{"decode_timeout": Limits.seconds, "decode_memory": Limits.memory_bytes / _GIB},
}


@dataclass(frozen=True)
class Group:
    """Options, by the names of their parameters, and what makes a request of their values."""

    names: tuple[str, ...]
    make: Callable[[Mapping[str, Any]], Any]


def with_shared_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer sees it: with the options of each group in place of the group, sorted by panels."""
    parameters: list[inspect.Parameter] = []
    groups: dict[str, Group] = {}
    takes_context = False
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        group = _group_of(parameter.annotation)
        if group is not None:
            groups[parameter.name] = group
            parameters += map(_parameter, group.names)
        elif parameter.annotation is typer.Context:
            takes_context = True
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    parameters.sort(key=_panel_index)
    parameters.insert(0, inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context))
    of_groups = {name for group in groups.values() for name in group.names}

    @wraps(command)
    def run(context: typer.Context, **given: Any) -> None:
        own = {name: value for name, value in given.items() if name not in of_groups}
        if takes_context:
            own["context"] = context
        made = {name: group.make({**given, "context": context}) for name, group in groups.items()}
        command(**own, **made)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _panel_index(parameter: inspect.Parameter) -> int:
    panel = getattr(get_args(parameter.annotation)[-1], "rich_help_panel", None)
    return PANELS.index(panel) if panel else -1


def _group_of(annotation: Any) -> Group | None:
    metadata = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return next((each for each in metadata if isinstance(each, Group)), None)


def _parameter(name: str) -> inspect.Parameter:
    keyword_only = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword_only, default=_DEFAULTS.get(name), annotation=_SHARED[name])


def _model_request(given: Mapping[str, Any]) -> ModelRequest:
    names = {"patch_size", "views", "labels", "device", "precision", "runtime", "batch_size"} & given.keys()
    return ModelRequest(source=given["weights"] or given["model"], **{name: given[name] for name in names})


def _checked_model_request(given: Mapping[str, Any]) -> ModelRequest:
    if given["weights"] is not None:
        given = {**given, "weights": check_weights(given["weights"])}
    return _model_request(given)


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
    return Sources(tuple(given["inputs"] or ()), given["files_from"], given["null"], given.get("stdin", False))


def _sidecars(given: Mapping[str, Any]) -> SidecarRequest:
    return SidecarRequest(folder=given["sidecars_"], map=given["map_"], **{name: given[name] for name in _BESIDE})


def _terminal(given: Mapping[str, Any]) -> Terminal:
    terminal: Terminal = given["context"].obj
    terminal.quiet, terminal.verbose = given.get("quiet", False), given["verbose"]
    return terminal


_BESIDE = ("subtitles", "subtitle_min_score", "subtitle_scores", "chapters", "xmp", "nfo", "write_tags")
_NAMED = ("model", "weights")
_MODEL = (*_NAMED, "labels", "patch_size")
_RUN = ("device", "precision", "runtime", "batch_size")
_LEAVE = ("exit_", "max_gmacs")
_ANSWER = ("top_k", "min_score", *_LEAVE, "window", "stride")
_LIMITS = ("decode_timeout", "decode_memory")

ModelOptions = Annotated[ModelRequest, Group((*_MODEL, "views", *_RUN), _checked_model_request)]
CalibrateModelOptions = Annotated[ModelRequest, Group((*_MODEL, *_RUN), _checked_model_request)]
RenderModelOptions = Annotated[ModelRequest, Group((*_MODEL, "device", "precision", "runtime"), _checked_model_request)]
# What flops refuses of its own options comes before the file is looked for.
FlopsModelOptions = Annotated[ModelRequest, Group((*_NAMED, "patch_size", "views"), _model_request)]
BenchModelOptions = Annotated[
    ModelRequest, Group((*_NAMED, "patch_size", "device", "batch_size"), _checked_model_request)
]

TagOptions = Annotated[TagRequest, Group((*_ANSWER, "decoder", "decode", *_LIMITS, "workers"), _tag_request)]
BatchTagOptions = Annotated[TagRequest, Group((*_ANSWER, "decoder", "decode", *_LIMITS), _tag_request)]
LiveTagOptions = Annotated[TagRequest, Group((*_ANSWER, *_LIMITS), _tag_request)]
EvaluateTagOptions = Annotated[
    TagRequest, Group((*_LEAVE, "decoder", "decode", "decode_timeout", "workers"), _tag_request)
]
CalibrateTagOptions = Annotated[TagRequest, Group(("decoder", "decode_timeout", "workers"), _tag_request)]
RenderTagOptions = Annotated[TagRequest, Group((*_LEAVE, *_LIMITS), _tag_request)]

_SOURCES = ("inputs", "files_from", "null")
SourceOptions = Annotated[Sources, Group(_SOURCES, _sources)]
ClassifySourceOptions = Annotated[Sources, Group((*_SOURCES, "stdin"), _sources)]
SidecarOptions = Annotated[SidecarRequest, Group((*_BESIDE, "sidecars_", "map_"), _sidecars)]
TerminalOptions = Annotated[Terminal, Group(("quiet", "verbose"), _terminal)]
VerboseOption = Annotated[Terminal, Group(("verbose",), _terminal)]


def files_read(sources: Sources, model: ModelRequest, request: TagRequest) -> tuple[str | Path, ...]:
    """The files that a command reads, and must not overwrite."""
    named = (model.source, model.labels, request.exits, sources.files_from, *sources.inputs)
    return tuple(name for name in named if isinstance(name, str | Path))


def check_weights(weights: Path) -> Path:
    """Checks that the file exists, before anything is started; of a run's folder, it is the run's model."""
    from adafocus_cli.library.store import model_of_run

    if str(weights) == "-":
        raise UsageError("--weights - is not possible: weights are not read from standard input; give a file")
    if not weights.exists():
        raise ModelError(f"there is no checkpoint {weights}; check the path after --weights")
    if not weights.is_dir():
        return weights
    if (model := model_of_run(weights)) is None:
        raise ModelError(
            f"{weights} is neither a checkpoint nor the folder of a training run with a model in it; name a file, or a "
            "run, with --weights"
        )
    return model


def check_windows(request: TagRequest, option: str) -> None:
    if request.windows is None:
        raise UsageError(f"{option} shows what happens when; add --window SECONDS")


def check_results(path: Path, *, by: str = "classify or batch") -> None:
    if not path.is_file():
        raise UsageError(f"there is no file {path}; give a file that adafocus {by} has written")


def check_moved(videos: Path | None) -> None:
    if videos is not None and not videos.is_dir():
        raise UsageError(f"--videos {videos} is not a folder; give the one that holds the videos")


def check_new(output: Path, *, overwrite: bool) -> None:
    if output.exists() and not overwrite:
        raise UsageError(f"{output} exists; give another file, or --overwrite to replace it")


def check_folder_of(output: Path) -> None:
    if not output.parent.is_dir():
        raise UsageError(f"there is no folder {output.parent}; make it, or give another file")


def records_mode(overwrite: bool, append: bool) -> Mode:
    """What becomes of the records that a file has already."""
    if overwrite and append:
        raise UsageError("--overwrite and --append exclude each other; give one of them, or none to go on")
    return "overwrite" if overwrite else "append" if append else "resume"
