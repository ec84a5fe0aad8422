"""A model beside what it is compared with: itself as its authors run it, and other networks; and what sizes cost.

    python bench/compare.py MODEL [VIDEOS …] [--runtime torch,openvino] [--precision fp32,bf16]
                            [--baselines resnet50,r2plus1d_18] [--beside MODEL,…] [--crops] [--rounds 5]
                            [--picture FILE.png]

The plain path runs one video in full precision, eagerly and with nothing folded: all frames are glanced at, then each
step looks and answers by itself. The other networks have random weights and see noise: shapes decide the speed. All
take turns, round by round, and ratios are taken within a round. With --picture, frames, patch size, batch and length of
the video are varied, and the seconds are drawn.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import cycle, product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import get_model

from adafocus_cli.benchmark import measure
from adafocus_cli.benchmark.bench_model import BenchModel, as_task, find_bench_model, noise_clip, with_random_weights
from adafocus_cli.benchmark.interleaved import TimedTask, Timing, in_one_part, ratio, time_interleaved, wait_for
from adafocus_cli.benchmark.measure import BenchRequest, load_variants
from adafocus_cli.benchmark.model_only import measure_model_only
from adafocus_cli.benchmark.videos import make_video
from adafocus_cli.drawing import BLUE, FONT, INK, PALE, SMALL_FONT, Axis, Colour, Pen
from adafocus_cli.errors import ModelError
from adafocus_cli.models.base import Family, Gaze, Memory
from adafocus_cli.nn.networks import build_backbone
from adafocus_cli.requests import ModelRequest
from adafocus_cli.runtime.pytorch import PRECISIONS
from adafocus_cli.spec import ModelSpec, Network
from adafocus_cli.video.pictures import cut_looks
from adafocus_cli.video.process import VideoProcess
from adafocus_cli.video.sampling import FramePlan, Look

PLAIN = "plain path"
MADE = (10, 8)  # seconds, and how often it is tagged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("videos", nargs="*")
    parser.add_argument("--runtime", default="torch,openvino", help="some of torch and openvino")
    parser.add_argument("--precision", default="fp32", help="some of fp32, tf32, bf16 and fp16")
    parser.add_argument("--patch-size", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--baselines", default="none", help=f"some of {', '.join(BASELINES)}; or all, or none")
    parser.add_argument("--beside", default="", help="other models, run as this one is")
    parser.add_argument("--crops", action="store_true", help="also run them on 30 crops of a video, once")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--picture", type=Path, help="draw the seconds over frames, patch size, batch and length")
    given = parser.parse_args()
    request = BenchRequest(
        model=ModelRequest(source=given.model, patch_size=given.patch_size, device=given.device),
        precisions=tuple(given.precision.split(",")),
        runtimes=tuple(given.runtime.split(",")),
        rounds=given.rounds,
        paths=tuple(given.videos),
    )
    names = {"all": tuple(BASELINES), "none": ()}.get(given.baselines, tuple(given.baselines.split(",")))
    with TemporaryDirectory() as folder:
        model = find_bench_model(given.model, given.patch_size, Path(folder))
        beside = [find_bench_model(name, None, Path(folder)) for name in given.beside.split(",") if name]
        compared(model, request, names, beside, given.crops, Path(folder))
        if given.picture:
            draw(curves(model, request, Path(folder)), model.name).save(given.picture)


def compared(
    model: BenchModel,
    request: BenchRequest,
    names: Sequence[str],
    beside: Sequence[BenchModel],
    crops: bool,
    folder: Path,
) -> None:
    """Prints a table of the model only, with the share of the peak, and one from file to answer."""
    rounds, taggers = request.rounds, load_variants(model, request)
    some, *_ = taggers.values()
    device, lanes, frames = some.runtime.device, some.runtime.lanes, some.spec.focus_frames
    plain = PlainPath(model.family(), device)
    networks = [Baseline(name, device, precision) for precision in request.precisions for name in names]
    others = [plain.task(), *(other.task(lanes, frames) for other in networks)]
    for other in beside:
        variants = map(as_task, load_variants(other, request).values())
        others += [replace(task, name=f"{other.name}, {task.name}") for task in variants]
    found = measure_model_only(taggers, rounds, report_nothing, others)
    timings = {row.name: row.timing for row in found.rows}
    if crops:
        slow = [other.crops(lanes) for other in networks if other.sees_clips]
        timings |= time_interleaved(slow, 1, report_nothing, warm=False)
    shares = {row.name.removesuffix(", by stage"): (row.shares or {})["networks"] for row in found.stages}
    peaks = ", ".join(f"{peak.text(precision)}, {peak.kernel}" for precision, peak in found.peaks.items())
    show(f"{model.name} only; the networks' share of a peak of {peaks}", timings, shares)
    for other, name in product(beside, taggers):
        share = ratio(timings[name].seconds(), timings[f"{other.name}, {name}"].seconds())
        print(f"{model.name} takes {share:.2f} of the time of {other.name} ({name})")

    seconds, times = MADE
    paths = request.paths or (make_video(folder / "made.mp4", seconds=seconds),) * times
    with VideoProcess() as process:
        tasks = [plain.over(process, paths), *measure.batches(taggers, paths)]
        show(f"{model.name}, from file to answer", time_interleaved(tasks, rounds, report_nothing), {})


def show(title: str, timings: Mapping[str, Timing], shares: Mapping[str, float]) -> None:
    print(f"\n{title}\n\n| | ms | ± | × plain | share of the peak |\n| --- | --- | --- | --- | --- |")
    plain = timings[PLAIN]
    for name, timing in timings.items():
        share = f"{shares[name]:.0%}" if name in shares else ""
        print(f"| {name} | {1000 * timing.median:,.0f} | {timing.spread:.0%} | {times(timing, plain):.2f} | {share} |")


def times(timing: Timing, plain: Timing) -> float:
    """Round by round or, of what was timed once, with the median."""
    if len(timing.rounds) == len(plain.rounds):
        return ratio(timing.seconds(), plain.seconds())
    return timing.median / plain.median


def report_nothing(text: str) -> None:
    """Progress is not shown."""


class PlainPath:
    """The model as its authors run it, one video at a time."""

    def __init__(self, model: Family, device: str) -> None:
        self.model = model.to(device)
        self._device = device

    def task(self) -> TimedTask:
        """One clip of noise."""
        clip = noise_clip(self.model)
        pixels = clip.pixels(range(len(clip.plan.frames)))
        return TimedTask(PLAIN, in_one_part(lambda: self.answer(pixels, clip.plan)))

    def over(self, process: VideoProcess, paths: Sequence[str]) -> TimedTask:
        """Decoding and the model in turn, one video after the other."""

        def run() -> None:
            for path in paths:
                video = process.open(path)
                plan = self.model.plan(video.info.frames)
                self.answer(process.frames(video, plan.frames, framing=self.model.spec.framing).pixels, plan)

        return TimedTask(PLAIN, in_one_part(run), len(paths))

    @torch.inference_mode()
    def answer(self, pixels: np.ndarray, plan: FramePlan) -> Tensor:
        """From the frames of a plan, uint8 (frames, side, side, 3), to the logits of the last step."""
        model = self.model
        frames = torch.tensor(pixels).to(self._device)
        maps = model.glance(model.normalised(frames[list(plan.glance)])[None])
        candidates = frames[list(plan.focus)]
        memory: Memory = {}
        turns = model.turns(1)
        for turn in turns:
            seen = maps[:, list(turn.glance)] if turn.glance and len(turns) > 1 else maps
            focused = None
            if turn.looks:
                gaze = model.locate(turn, seen, memory)
                focused = model.focus(self._looked_at(candidates, gaze))
            logits = model.classify(turn, seen, focused, memory)
        return logits[0, -1].cpu()

    def _looked_at(self, candidates: Tensor, gaze: Gaze) -> Tensor:
        if gaze.features is not None:
            return gaze.features
        if self.model.looks_at_source:  # which these frames are
            size, boxes = self.model.spec.patch_size, gaze.boxes[0].tolist()
            looks = [Look(frame, (*box,), size) for frame, box in zip(gaze.frames[0].tolist(), boxes, strict=True)]
            seen = torch.from_numpy(cut_looks(looks, lambda frame: candidates[frame].cpu().numpy()))
            return self.model.normalised(seen.to(self._device))[None]
        return self.model.patches(candidates[gaze.frames[0]], gaze.boxes[0])[None]


# Frames and side of a clip with which torchvision evaluates its weights; None: single frames.
SIDE, CROPS = 224, 30  # ten clips of three crops each, as papers evaluate a video
BASELINES: dict[str, tuple[int, int] | None] = {
    "resnet50": None,
    "r2plus1d_18": (16, 112),
    "s3d": (128, 224),
    "mvit_v2_s": (16, 224),
    "swin3d_t": (32, 224),
}


@dataclass(frozen=True)
class Baseline:
    """Another network, with random weights."""

    name: str
    device: str
    precision: str

    @property
    def sees_clips(self) -> bool:
        """Whether it takes clips, of which a video has many; else single frames."""
        return BASELINES[self.name] is not None

    def task(self, videos: int, frames: int) -> TimedTask:
        """One clip per video, or this number of whole frames."""
        views = videos if self.sees_clips else videos * frames
        what = "" if self.sees_clips else " on whole frames"
        return TimedTask(f"{self.name}{what}, {self.precision}", in_one_part(self._over(views, at_once=views)), videos)

    def crops(self, at_once: int) -> TimedTask:
        """Thirty views of one video."""
        return TimedTask(
            f"{self.name}, {CROPS} crops, {self.precision}", in_one_part(self._over(CROPS, at_once=at_once))
        )

    def _over(self, views: int, *, at_once: int) -> Callable[[], None]:
        network = self.network().eval().to(self.device)
        frames, side = BASELINES[self.name] or (0, SIDE)
        shape = (3, frames, side, side) if self.sees_clips else (3, side, side)
        pixels = torch.rand(min(views, at_once), *shape, device=self.device)
        number = PRECISIONS[self.precision]

        @torch.inference_mode()
        def run() -> None:
            with torch.autocast(pixels.device.type, number, enabled=number != torch.float32):
                for done in range(0, views, len(pixels)):
                    wait_for(network(pixels[: views - done]))

        return run

    def network(self) -> nn.Module:
        if not self.sees_clips:
            return build_backbone(Network("resnet50", SIDE))
        network: nn.Module = get_model(self.name)
        return network


LENGTHS = (5, 20, 60)  # seconds
BATCHES = (1, 2, 4, 8, 16, 32, 64)
PATCH_STEP = 32  # pixels, what one pixel of the networks' maps covers

Point = dict[str, float]
"""Seconds a video, by task."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Seconds over something that was varied; `lines` are the points of each task."""

    varied: str
    unit: str
    lines: Mapping[str, tuple[tuple[float, float], ...]]


def curves(model: BenchModel, request: BenchRequest, folder: Path) -> tuple[Curve, ...]:
    """Models of other sizes have random weights; what a device or a model cannot vary is left out."""
    family, rounds = model.family(), request.rounds
    spec = replace(family.spec, dataset=None)

    def sized(spec: ModelSpec) -> Point:
        return _of_sizes(spec, request, folder)

    def batched(clips: int) -> Point:
        return _of_batch(model, replace(request, model=replace(request.model, batch_size=clips)))

    count = spec.focus_frames
    found = (
        _curve("frames", "frames looked at", (count // 2, count, 2 * count), lambda n: sized(spec.with_frames(n))),
        _curve("patch size", "px", _patch_sizes(family), lambda side: sized(spec.with_patch_size(side))),
        _curve("batch", "videos at a time", BATCHES, batched),
        _curve("length", "s of video", LENGTHS, lambda length: _of_length(length, model, rounds, folder)),
    )
    return tuple(curve for curve in found if curve is not None)


def _curve(varied: str, unit: str, values: Iterable[int], measured: Callable[[int], Point]) -> Curve | None:
    """None if fewer than two values are possible."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for value in values:
        try:
            point = measured(value)
        except ModelError:  # no model of this family has such a size
            continue
        if not point:
            break
        for name, seconds in point.items():
            lines.setdefault(name, []).append((value, seconds))
    if not lines or min(map(len, lines.values())) < 2:
        return None
    return Curve(varied=varied, unit=unit, lines={name: tuple(points) for name, points in lines.items()})


def _patch_sizes(family: Family) -> range:
    """From less than half of the frame's side to all of it, for families with patches."""
    side = family.spec.frame_size
    return range(side // 2 // PATCH_STEP * PATCH_STEP, side + 1 if family.cuts_patches else 0, PATCH_STEP)


def _of_sizes(spec: ModelSpec, request: BenchRequest, folder: Path) -> Point:
    model = with_random_weights(spec, "sweep", folder)
    taggers = load_variants(model, request)
    device = next(iter(taggers.values())).runtime.device
    return _medians([PlainPath(model.family(), device).task(), *map(as_task, taggers.values())], request.rounds)


def _of_batch(model: BenchModel, request: BenchRequest) -> Point:
    """Empty if a device does not take the requested number of clips."""
    taggers = load_variants(model, request).values()
    return _medians(
        [as_task(each) for each in taggers if each.runtime.lanes == request.model.batch_size], request.rounds
    )


def _of_length(length: int, model: BenchModel, rounds: int, folder: Path) -> Point:
    path = make_video(folder / f"{length}.mp4", seconds=length)
    with ExitStack() as stack:
        return _medians(measure.readers([path], model.family(), stack), rounds)


def _medians(tasks: Sequence[TimedTask], rounds: int) -> Point:
    return {name: timing.median for name, timing in time_interleaved(tasks, rounds, report_nothing).items()}


WIDTH, ROW, HEADING = 960, 330, 56
COLUMNS = 2
LEFT, RIGHT, TOP, BOTTOM = 72, 24, 64, 56  # of a diagram, around the plot
KEY_LINE = 18
COLOURS: tuple[Colour, ...] = (BLUE, (200, 80, 30), (50, 140, 70), (130, 70, 160))


def draw(found: Sequence[Curve], name: str) -> Image.Image:
    rows = -(-len(found) // COLUMNS)
    pen = Pen((WIDTH, HEADING + rows * ROW))
    pen.text((16, 34), f"Seconds a video: {name}", INK, FONT, "ls")
    for place, curve in enumerate(found):
        row, column = divmod(place, COLUMNS)
        _draw_curve(pen, curve, column * WIDTH // COLUMNS, HEADING + row * ROW)
    return pen.picture()


def _draw_curve(pen: Pen, curve: Curve, x: int, y: int) -> None:
    points = [point for line in curve.lines.values() for point in line]
    across = Axis.around((value for value, _ in points), x + LEFT, x + WIDTH // COLUMNS - RIGHT, least=1)
    # From zero, so that heights compare.
    up = Axis(0, 1.1 * max(seconds for _, seconds in points), y + ROW - BOTTOM, y + TOP)
    pen.grid(across, up)
    pen.text(((across.start + across.end) / 2, up.start + 44), f"{curve.varied}, {curve.unit}", INK, FONT, "ms")
    ours = cycle(COLOURS)
    for number, (name, line) in enumerate(curve.lines.items()):
        colour = PALE if name == PLAIN else next(ours)
        places = [(across.at(value), up.at(seconds)) for value, seconds in line]
        pen.line(places, colour, 3)
        for place in places:
            pen.dot(place, colour, 5)
        key = (x + LEFT + number % 2 * 190, y + TOP - 30 + number // 2 * KEY_LINE)
        pen.dot(key, colour, 5)
        pen.text((key[0] + 12, key[1]), name, INK, SMALL_FONT, "lm")


if __name__ == "__main__":
    main()
