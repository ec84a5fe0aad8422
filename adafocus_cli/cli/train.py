"""`adafocus train`: trains a model on labelled videos, and shows how the training goes: a live line, a line an epoch,
TensorBoard curves."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from adafocus_cli.cli import labelled, options
from adafocus_cli.cli.terminal import ProgressBar, Terminal
from adafocus_cli.errors import AdaFocusError, UsageError, counted
from adafocus_cli.output.texts import duration, percent
from adafocus_cli.requests import TorchPrecision

if TYPE_CHECKING:
    from adafocus_cli.training.fit import RunningMeans
    from adafocus_cli.training.run_folder import Epoch


HELP = """Train a model on your own classes, straight from video files.

DATA is a folder with one folder of videos per class, a list of path,label rows, or a synthetic world (world:motion)."""

EXAMPLES = """[bold]Examples[/bold]

A few clips in a folder of each class: minutes on a laptop:
  [cyan]adafocus train clips/ -o mine[/cyan]
Clips of a recording (seq03 in their names) tested together:
  [cyan]adafocus train clips/ -o mine --group 'seq\\d+'[/cyan]
A published recipe, for thousands of videos and a GPU:
  [cyan]adafocus train videos/ --recipe v2 -o run[/cyan]
From a pretrained model:
  [cyan]adafocus train train.csv --val val.csv -o run \\
    --init v2-activitynet-p128-mbv2[/cyan]
A network over whole clips, for your own classes:
  [cyan]adafocus train videos/ --recipe dense --init x3d-m-k400 -o run[/cyan]
Resume an interrupted run:
  [cyan]adafocus train --resume run[/cyan]
On four GPUs:
  [cyan]torchrun --nproc-per-node 4 -m adafocus_cli train videos/ -o run[/cyan]

[bold]Exit status[/bold]

0 trained · 1 nothing could be done · 2 wrong usage
3 trained, but some videos could not be read · 130 interrupted"""

# Panels of the help.
_data_option = partial(typer.Option, rich_help_panel=options.TRAIN_DATA)
_model_option = partial(typer.Option, rich_help_panel=options.TRAIN_MODEL)
_method_option = partial(typer.Option, rich_help_panel=options.TRAIN_METHOD)
_run_option = partial(typer.Option, rich_help_panel=options.TRAIN_RUN)

Data = Annotated[
    str | None,
    typer.Argument(metavar="DATA", help="A folder of class folders, a list, or world:NAME."),
]
Val = Annotated[
    str | None, _data_option("--val", metavar="DATA", help="Validation videos.", show_default="a share of DATA")
]
ValShare = Annotated[
    float,
    _data_option(
        "--val-share",
        metavar="SHARE",
        min=0.01,
        max=0.9,
        help="Share of every class of DATA to hold out for validation.",
    ),
]
ClipsPerEpoch = Annotated[
    int, _data_option("--clips-per-epoch", metavar="N", min=1, help="Synthetic worlds: new clips in every epoch.")
]
ValClips = Annotated[int, _data_option("--val-clips", metavar="N", min=1, help="Synthetic worlds: validation clips.")]
Labels = Annotated[
    str | None, _data_option("--labels", metavar="FILE|NAME", help="Names of the classes, if they are numbered.")
]
Flip = Annotated[
    bool,
    _data_option(
        "--flip/--no-flip", help="Mirror half of the looks, in recipes without TSM; not if left and right matter."
    ),
]

Folds = Annotated[
    int | None,
    _data_option(
        "--folds",
        metavar="N",
        min=2,
        help="With quick: cross-validate in so many parts before the model of all clips is made.",
        show_default="5",
    ),
]
Tune = Annotated[
    bool,
    _data_option(
        "--tune/--no-tune",
        metavar="",
        help="With quick: also tune the network's last blocks, and keep that if more held-out clips are right then.",
    ),
]
Group = Annotated[
    str | None,
    _data_option(
        "--group",
        metavar="RULE",
        help="What belongs together (a recording, a person) and is never both learnt from and tested on: a column of "
        "the list, folder, or a regular expression for paths.",
    ),
]

RecipeName = Annotated[
    Literal[
        "auto",
        "quick",
        "v1",
        "v1-tsm",
        "v1-tsm-together",
        "v2",
        "v2-features",
        "v2-tsm",
        "uni",
        "uni-tsm",
        "uni-x3d",
        "skip",
        "sfc",
        "dense",
    ],
    _model_option(
        "--recipe",
        "-r",
        metavar="NAME",
        help="quick, v1, v1-tsm, v1-tsm-together, v2, v2-features, v2-tsm, uni, uni-tsm, uni-x3d, skip, sfc or dense; "
        "auto is quick, unless there is a GPU and 100 clips of every class, or an option that quick does not have.",
    ),
]
Init = Annotated[
    str,
    _model_option(
        "--init",
        metavar="NAME|FILE",
        help="Start from a model, from ImageNet weights (imagenet; EfficientNet-Lite's need no download), or from "
        "random weights (scratch).",
    ),
]
GlanceWeights = Annotated[
    str | None,
    _model_option(
        "--glance-weights",
        metavar="FILE",
        help="Weights of the glance network, with the names of its ImageNet weights.",
    ),
]
FocusWeights = Annotated[
    str | None,
    _model_option(
        "--focus-weights", metavar="FILE", help="Weights of the focus network, with the names of its ImageNet weights."
    ),
]
Glance = Annotated[
    str | None,
    _model_option(
        "--glance", metavar="NET", help="The glance network, its width and picture size: mobilenet_v2:0.5@112."
    ),
]
Focus = Annotated[
    str | None,
    _model_option("--focus", metavar="NET", help="The focus network, its width and patch size: resnet18:0.25@96."),
]
Frames = Annotated[int | None, _model_option("--frames", metavar="N", min=2, help="Frames of the glance network.")]
FocusFrames = Annotated[
    int | None,
    _model_option("--focus-frames", metavar="N", min=2, help="Frames of the focus network, with Uni, TSM or X3D."),
]
FrameSize = Annotated[
    int | None, _model_option("--frame-size", metavar="PIXELS", min=32, max=1024, help="Side of a frame.")
]
PolicyChannels = Annotated[
    int | None, _model_option("--policy-channels", metavar="N", min=1, help="Width of the policy's first layer.")
]
PolicyWidth = Annotated[int | None, _model_option("--policy-width", metavar="N", min=1, help="Width of the policy.")]
ClassifierWidth = Annotated[
    int | None, _model_option("--classifier-width", metavar="N", min=1, help="Width of the classifier, without TSM.")
]
Insertion = Annotated[
    str | None,
    _model_option(
        "--insertion",
        metavar="PART",
        show_default="res3",
        help="With sfc: the part of the network after which it compresses.",
    ),
]
CompressionOption = Annotated[
    float | None,
    _model_option(
        "--compression",
        metavar="TIMES",
        min=1,
        show_default="4",
        help="With sfc: the factor by which clips become shorter.",
    ),
]
Freeze = Annotated[
    str | None,
    _model_option(
        "--freeze",
        metavar="PART",
        show_default="stem; none on a GPU",
        help="With dense: the parts of the network up to this one (stem, res2 to res5) stay as they are.",
    ),
]

Like = Annotated[
    Literal["activitynet", "fcvid", "mini-kinetics", "something-v1", "something-v2", "jester", "kinetics400"] | None,
    _method_option(
        "--like",
        metavar="DATASET",
        help="Rates and other numbers as published for this data set: activitynet, fcvid, mini-kinetics, something-v1, "
        "something-v2, jester or kinetics400.",
        show_default="the recipe's first",
    ),
]
Epochs = Annotated[
    str | None,
    _method_option(
        "--epochs", metavar="N[,N,N]", help="Epochs of each stage of the recipe.", show_default="as published"
    ),
]
Rate = Annotated[
    float | None,
    _method_option("--lr", metavar="RATE", min=0, help="The highest learning rate.", show_default="as published"),
]
PolicyRate = Annotated[
    float | None,
    _method_option(
        "--policy-lr", metavar="RATE", min=0, help="Learning rate of the policy.", show_default="as published"
    ),
]
PartRates = Annotated[
    str | None,
    _method_option(
        "--rates",
        metavar="PART=FACTOR,…",
        help="Learning rates of parts, as multiples of --lr: policy, glance, focus, answers.",
        show_default="as published",
    ),
]
Optimizer = Annotated[
    Literal["sgd", "adam", "adamw"] | None,
    _method_option(
        "--optimizer", metavar="NAME", help="sgd (with momentum 0.9), adam or adamw.", show_default="as published"
    ),
]
WeightDecay = Annotated[
    float | None,
    _method_option("--weight-decay", metavar="SHARE", min=0, help="Weight decay.", show_default="as published"),
]
Dropout = Annotated[
    float | None,
    _method_option(
        "--dropout",
        metavar="SHARE",
        min=0,
        max=0.99,
        help="Dropout before the classifier.",
        show_default="as published",
    ),
]
SizePenalty = Annotated[
    float | None,
    _method_option(
        "--size-penalty",
        metavar="WEIGHT",
        min=0,
        help="With uni, uni-tsm and uni-x3d: how much boxes smaller than the frame are held against the policy.",
        show_default="as published",
    ),
]
Looks = Annotated[
    float | None,
    _method_option(
        "--looks",
        metavar="N",
        min=1,
        help="With skip: how many frames of a video get a look, in the mean.",
        show_default="a third",
    ),
]
BatchSize = Annotated[
    int, _method_option("--batch-size", metavar="N", min=1, help="Clips in a batch, over all processes.")
]
Accumulate = Annotated[
    int,
    _method_option(
        "--accumulate", metavar="N", min=1, help="Batches per optimizer step; their gradients are averaged."
    ),
]
PrecisionOption = Annotated[
    TorchPrecision,
    _method_option(
        "--precision",
        help="Number format of the networks; auto is fp32 on a CPU, and bf16 (or fp16) on a GPU.",
    ),
]
Seed = Annotated[
    int, _method_option("--seed", metavar="N", min=0, help="Random seed; the same seed gives the same run.")
]

Output = Annotated[
    Path | None, _run_option("--output", "-o", metavar="FOLDER", help="Folder for a new run and all of its files.")
]
Resume = Annotated[
    Path | None, _run_option("--resume", metavar="FOLDER", help="Resume the interrupted run in this folder.")
]
Threads = Annotated[int | None, _run_option("--threads", metavar="N", min=1, help="CPU threads of the model.")]
ReadWorkers = Annotated[
    int | None,
    _run_option(
        "--workers",
        metavar="N",
        min=0,
        show_default="half the cores; with quick all",
        help="Processes that read clips.",
    ),
]
Memory = Annotated[
    float | None,
    _run_option(
        "--memory",
        metavar="GB",
        min=0.1,
        show_default="4; all that is free on a GPU",
        help="Memory that the run may take; larger batches are cut into pieces that fit.",
    ),
]
FrameCacheFolder = Annotated[
    Path | None,
    _run_option(
        "--frame-cache",
        metavar="FOLDER",
        show_default="in the run's folder, until it ends",
        help="Keep decoded frames in this folder, for other runs too.",
    ),
]
CacheGb = Annotated[
    float | None,
    _run_option(
        "--cache-gb",
        metavar="GB",
        min=0,
        show_default="half of what is free",
        help="Disk space for decoded frames; 0: decode them in every epoch.",
    ),
]
Tensorboard = Annotated[
    bool,
    _run_option("--tensorboard/--no-tensorboard", metavar="", help="Also write TensorBoard curves into the folder."),
]


@options.with_shared_options
def train(
    context: typer.Context,
    terminal: options.TerminalOptions,
    data: Data = None,
    val: Val = None,
    val_share: ValShare = 0.2,
    root: options.Root = None,
    labels: Labels = None,
    clips_per_epoch: ClipsPerEpoch = 4096,
    val_clips: ValClips = 512,
    flip: Flip = True,
    folds: Folds = None,
    tune: Tune = False,
    group: Group = None,
    recipe: RecipeName = "auto",
    init: Init = "imagenet",
    glance_weights: GlanceWeights = None,
    focus_weights: FocusWeights = None,
    glance: Glance = None,
    focus: Focus = None,
    frames: Frames = None,
    focus_frames: FocusFrames = None,
    frame_size: FrameSize = None,
    policy_channels: PolicyChannels = None,
    policy_width: PolicyWidth = None,
    classifier_width: ClassifierWidth = None,
    insertion: Insertion = None,
    compression: CompressionOption = None,
    freeze: Freeze = None,
    like: Like = None,
    epochs: Epochs = None,
    lr: Rate = None,
    policy_lr: PolicyRate = None,
    rates: PartRates = None,
    optimizer: Optimizer = None,
    weight_decay: WeightDecay = None,
    dropout: Dropout = None,
    size_penalty: SizePenalty = None,
    looks: Looks = None,
    batch_size: BatchSize = 32,
    accumulate: Accumulate = 1,
    precision: PrecisionOption = "auto",
    seed: Seed = 0,
    output: Output = None,
    resume: Resume = None,
    device: options.Device = "auto",
    memory: Memory = None,
    workers: ReadWorkers = None,
    threads: Threads = None,
    frame_cache: FrameCacheFolder = None,
    cache_gb: CacheGb = None,
    decoder: options.DecoderOption = "auto",
    decode_timeout: options.DecodeTimeout = 60.0,
    tensorboard: Tensorboard = False,
) -> None:
    folder = _folder(output, resume, data)
    values = {name: str(value) if isinstance(value, Path) else value for name, value in context.params.items()}
    given = {name for name in values if _was_given(context, name)}
    _train(values, given, folder, terminal, new=resume is None, curves=tensorboard)


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _folder(output: Path | None, resume: Path | None, data: str | None) -> Path:
    folder = resume or output
    if folder is None:
        raise UsageError("a run needs a folder for its files; give one with -o FOLDER")
    if output is not None and resume is not None and output.resolve() != resume.resolve():
        raise UsageError(f"--resume {resume} continues in that folder, not in {output}; leave -o out")
    if resume is None and data is None:
        raise UsageError("there is nothing to train on; give DATA, a folder with one folder of videos per class")
    return folder


def _train(
    values: dict[str, Any], given: set[str], folder: Path, terminal: Terminal, *, new: bool, curves: bool
) -> None:
    from adafocus_cli.training import train as runs
    from adafocus_cli.training.fit import ProcessGroup
    from adafocus_cli.training.recipes import Resources, TrainingSettings

    processes = ProcessGroup.from_environment()
    terminal.quiet = terminal.quiet or not processes.first
    curves_folder = folder if curves and processes.first else None
    with terminal.showing_log("adafocus"), _showing(terminal, curves_folder) as observer:
        run_context = runs.RunContext(
            folder=folder,
            resources=Resources.of(values),
            observer=observer,
            read=lambda data, root: labelled.read(data, root, terminal),
            notify=terminal.note,
            curves=curves,
        )
        try:
            if new:
                command = shlex.join(["adafocus", *sys.argv[1:]])
                outcome = runs.begin(TrainingSettings.of(values), run_context, command=command)
            else:
                outcome = runs.resume({name: values[name] for name in given}, run_context)
        except KeyboardInterrupt:
            if (folder / "last.pt").exists():
                terminal.note(f"interrupted; resume the run with: {runs.how_to_resume(folder, processes.size)}")
            raise
    best = outcome.progress
    metric = "mean average precision" if outcome.several_labels else "accuracy"
    epoch = f"validation {metric} (epoch {best.best_epoch})" if best.best_epoch else "accuracy on clips it had not seen"
    terminal.note(
        f"{outcome.model}: {percent(best.best)} {epoch}; use it with adafocus classify VIDEO --weights {folder}"
    )
    if best.unreadable:
        for reason in best.unreadable.values():
            terminal.warn(reason)
        terminal.note(f"left out {counted(len(best.unreadable), 'video')} that could not be read")
        if processes.size == 1:  # torchrun would count it as a failure
            raise typer.Exit(options.SOME_FAILED)


_REFRESH = 0.5  # seconds; reading a loss waits for the device


@contextmanager
def _showing(terminal: Terminal, curves: Path | None) -> Iterator[EpochLines]:
    """Shows a run while it lasts; `curves` is the folder for TensorBoard."""
    writer = None if curves is None else _writer(curves)
    with terminal.progress(into_stdout=False) as bar:
        try:
            yield EpochLines(terminal, bar, writer)
        finally:
            if writer is not None:
                writer.close()


class EpochLines:
    """Shows a run on a terminal: a live line, and a line for every epoch."""

    def __init__(self, terminal: Terminal, bar: ProgressBar, writer: Any) -> None:
        self._terminal, self._bar, self._writer = terminal, bar, writer
        self._epoch = self._best = ""
        self._steps = self._left = 0
        self._started = self._shown = 0.0

    def progressed(self, work: str, done: int, total: int) -> None:
        if work != self._epoch:
            self._epoch, self._started = work, time.monotonic()
        left = duration((time.monotonic() - self._started) / done * (total - done))
        self._bar.show(f"{work} · {left} left", done=done, total=total)

    def fold_done(self, fold: int, accuracy: float, clips: int) -> None:
        self._terminal.note(f"fold {fold}: accuracy {percent(accuracy)} of {counted(clips, 'clip')}")

    def epoch_started(self, stage: str, epoch: int, epochs: int, steps: int) -> None:
        self._epoch = f"{stage} {epoch}/{epochs}"
        self._best = self._best if epoch > 1 else ""
        self._steps, self._left = steps, epochs - epoch
        self._started = time.monotonic()

    def step_done(self, done: int, running: RunningMeans) -> None:
        now = time.monotonic()
        if now - self._shown < _REFRESH and done < self._steps:
            return
        self._shown = now
        means = running.means()
        per_step = (now - self._started) / done
        left = duration(per_step * (self._steps * (1 + self._left) - done))
        now_at = f"loss {means['loss']:.3f} · accuracy {percent(means['accuracy'])}"
        text = f"{self._epoch} · {now_at}{self._best} · {left} left"
        self._bar.show(text, done=done, total=self._steps)

    def epoch_ended(self, epoch: Epoch, best: float) -> None:
        self._best = f" · best {percent(best)}"
        reward = f" · reward {epoch.measures['reward']:.3f}" if "reward" in epoch.measures else ""
        self._terminal.note(
            f"{self._epoch}: loss {epoch.loss:.3f} · accuracy {percent(epoch.accuracy)}{reward}"
            f"{_judged(epoch, best)} · {duration(epoch.seconds)}, "
            f"{percent(epoch.waiting, digits=0)} of the steps waiting for clips"
        )
        if self._writer is not None:
            numbers = {"loss": epoch.loss, "accuracy": epoch.accuracy, **epoch.measures}
            numbers |= {f"lr/{part}": rate for part, rate in epoch.rates.items()}
            if epoch.gradient_norm is not None:
                numbers["gradient_norm"] = epoch.gradient_norm
            validation = {"loss": epoch.val_loss, "accuracy": epoch.val_accuracy, "mAP": epoch.val_map}
            judged = {f"validation/{name}": value for name, value in validation.items() if value is not None}
            for name, value in {**{f"training/{n}": v for n, v in numbers.items()}, **judged}.items():
                self._writer.add_scalar(f"{epoch.stage}/{name}", value, epoch.epoch)


def _judged(epoch: Epoch, best: float) -> str:
    """How good it is; nothing for an epoch that is not judged."""
    if epoch.val_loss is None or epoch.val_accuracy is None:
        return ""
    precision = "" if epoch.val_map is None else f" · mAP {percent(epoch.val_map)}"
    accuracy = f"{percent(epoch.val_accuracy)}{precision} (best {percent(best)})"
    return f" · validation loss {epoch.val_loss:.3f} · accuracy {accuracy}"


def _writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise AdaFocusError("--tensorboard needs a package that is not installed; pip install tensorboard") from error
    return SummaryWriter(str(folder / "tensorboard"))
