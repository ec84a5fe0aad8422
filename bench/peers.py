"""A model beside what else one would take to tag videos: `python bench/peers.py MODEL [VIDEOS …] [--rounds 3]
[--picture FILE.png]`.

Each runs as a short script would run it: in fp32 by torch, one clip a video, or CLIP's image tower on some frames.
Their weights are random, which changes no speed; accuracies are those that were published, most of them of many clips
a video. All take turns, on decoded frames and from file to label, and ratios are taken within a round. Multiply-adds
are counted by torch. VideoMAE and CLIP are Hugging Face's, which this project does not depend on; where it is not
installed they are left out:

    pip install transformers

On a machine that is busy, --busy counts processor seconds of one thread instead, once, and of decoded frames only.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model, get_model_weights

from adafocus_cli.benchmark.bench_model import as_task, find_bench_model
from adafocus_cli.benchmark.interleaved import TimedTask, Timing, in_one_part, ratio, time_interleaved
from adafocus_cli.benchmark.measure import BenchRequest, load_variants
from adafocus_cli.benchmark.videos import make_video
from adafocus_cli.drawing import BLUE, FAINT, FONT, INK, PALE, SMALL_FONT, Axis, Pen
from adafocus_cli.flops import cost_of
from adafocus_cli.library import catalogue
from adafocus_cli.requests import ModelRequest
from adafocus_cli.tagger import ClipTagger, clip_of, source_clip
from adafocus_cli.video.framing import Framing
from adafocus_cli.video.process import VideoProcess
from adafocus_cli.video.sampling import spread

_MADE = (10, 1)  # seconds of a video that is made, and how often it is tagged

_DECODED, _FROM_FILES = "On decoded frames", "From file to label"
_WIDTH, _HEADING, _ROW, _LEFT, _RIGHT = 1000, 70, 62, 420, 90

Facts = tuple[float, str]
"""10⁹ multiply-adds of a video, and the published accuracy."""


@dataclass(frozen=True)
class Peer:
    """Takes so many frames of `side` pixels, put as `arrange` does; `published` says its accuracy, and who says so."""

    name: str
    build: Callable[[], nn.Module]
    frames: int
    side: int
    published: str
    arrange: Callable[[Tensor], Tensor]

    def pixels(self, frames: Tensor) -> Tensor:
        """Of uint8 frames (t, h, w, 3)."""
        return self.arrange(frames.permute(0, 3, 1, 2).float().div(255))


def as_pictures(frames: Tensor) -> Tensor:
    return frames


def as_frames_of_a_clip(frames: Tensor) -> Tensor:
    return frames[None]


def as_clip(frames: Tensor) -> Tensor:
    """Colours first."""
    return frames.transpose(0, 1)[None]


def of_torchvision(name: str, frames: int, side: int) -> Peer:
    (dataset, metrics), *_ = get_model_weights(name).DEFAULT.meta["_metrics"].items()
    published = f"{metrics['acc@1']:.1f} top-1, {dataset} (torchvision)"
    return Peer(name, lambda: get_model(name), frames, side, published, as_clip)


def of_transformers() -> list[Peer]:
    if find_spec("transformers") is None:
        return []

    def videomae() -> nn.Module:
        from transformers import VideoMAEConfig, VideoMAEForVideoClassification

        network: nn.Module = VideoMAEForVideoClassification(VideoMAEConfig(num_labels=400))
        return network

    def clip() -> nn.Module:
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        network: nn.Module = CLIPVisionModelWithProjection(CLIPVisionConfig(patch_size=16))
        return network

    of_videomae = "80.9 top-1, Kinetics-400, 15 views (its model zoo)"
    of_clip = "68.3 top-1 of pictures, without training on them, ImageNet-1K (open_clip)"
    return [
        Peer("VideoMAE-B", videomae, 16, 224, of_videomae, as_frames_of_a_clip),
        *(Peer(f"CLIP-B/16, {frames} frames", clip, frames, 224, of_clip, as_pictures) for frames in (8, 16)),
    ]


def peers() -> list[Peer]:
    """The frames and sides of torchvision's are those with which it evaluates its weights."""
    found = [("mvit_v2_s", 16, 224), ("swin3d_t", 32, 224), ("r2plus1d_18", 16, 112)]
    return [*(of_torchvision(*each) for each in found), *of_transformers()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("videos", nargs="*")
    parser.add_argument("--precision", default="fp32", help="ours: some of fp32 and bf16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--picture", type=Path, help="also draw the two tables")
    parser.add_argument("--busy", action="store_true", help="count processor seconds of one thread, once")
    given = parser.parse_args()
    if given.busy:
        torch.set_num_threads(1)
    with TemporaryDirectory() as folder, VideoProcess() as process:
        model = find_bench_model(given.model, None, Path(folder))
        request = BenchRequest(
            model=ModelRequest(source=given.model, device="cpu"),
            precisions=tuple(given.precision.split(",")),
            runtimes=("openvino",),
            rounds=given.rounds,
        )
        taggers, accuracy = load_variants(model, request), facts_of_ours(given.model)
        if given.busy:
            count_processor_seconds(taggers, accuracy, peers())
        else:
            seconds, times = _MADE
            paths = given.videos or [make_video(Path(folder) / "made.mp4", seconds=seconds)] * times
            found, facts = measure(taggers, accuracy, peers(), process, paths, given.rounds)
            if given.picture:
                draw(found, facts, {name: f"{given.model}, {name}" for name in taggers}).save(given.picture)


def measure(
    taggers: Mapping[str, ClipTagger],
    accuracy: str,
    others: Sequence[Peer],
    process: VideoProcess,
    paths: Sequence[str],
    rounds: int,
) -> tuple[dict[str, dict[str, Timing]], dict[str, Facts]]:
    networks = {peer: peer.build().eval() for peer in others}
    facts = {name: (cost_of(tagger.spec).gmacs, accuracy) for name, tagger in taggers.items()}
    facts |= {peer.name: (counted(peer), peer.published) for peer in others}
    tasks = [*map(as_task, taggers.values()), *(on_noise(peer, network) for peer, network in networks.items())]
    from_files = [tagged(name, tagger, process, paths) for name, tagger in taggers.items()]
    from_files += [classified(peer, network, process, paths) for peer, network in networks.items()]
    found = {}
    for title, some in ((_DECODED, tasks), (_FROM_FILES, from_files)):
        found[title] = time_interleaved(some, rounds, _tell_nobody)
        show(title, found[title], facts)
    return found, facts


def count_processor_seconds(taggers: Mapping[str, ClipTagger], accuracy: str, others: Sequence[Peer]) -> None:
    """One network at a time, of which each is dropped before the next is built."""
    timings, facts = {}, {name: (cost_of(tagger.spec).gmacs, accuracy) for name, tagger in taggers.items()}
    for task in map(as_task, taggers.values()):
        task.run()  # compiles
        timings[task.name] = _processor_seconds(task)
    for peer in others:
        facts[peer.name] = counted(peer), peer.published
        timings[peer.name] = _processor_seconds(on_noise(peer, peer.build().eval()))
    show(f"{_DECODED}, processor time", timings, facts)


def _processor_seconds(task: TimedTask) -> Timing:
    before = time.process_time()
    task.run()
    return Timing(({"all": (time.process_time() - before) / task.videos},))


def _tell_nobody(text: str) -> None:
    """Tables are all that is printed."""


def facts_of_ours(model: str) -> str:
    entry = catalogue.packaged().find(model)
    return f"{entry.accuracy:.1f} {entry.metric or ''}, {entry.dataset}" if entry and entry.accuracy else "–"


def counted(peer: Peer) -> float:
    """10⁹ multiply-adds, two operations each, of which none is carried out."""
    with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        peer.build().eval()(peer.pixels(_noise(peer)))
    return float(counter.get_total_flops()) / 2e9


def _noise(peer: Peer) -> Tensor:
    return torch.randint(0, 256, (peer.frames, peer.side, peer.side, 3), dtype=torch.uint8)


def on_noise(peer: Peer, network: nn.Module) -> TimedTask:
    noise = _noise(peer)
    return TimedTask(peer.name, in_one_part(lambda: answer(network, peer.pixels(noise))))


@torch.inference_mode()
def answer(network: nn.Module, pixels: Tensor) -> int:
    """Of several pictures, the mean of their vectors stands for a label: what it is compared with costs nothing."""
    found: Any = network(pixels)
    for name in ("logits", "image_embeds"):
        found = getattr(found, name, found)
    return int(found.mean(0).argmax())


def tagged(name: str, tagger: ClipTagger, process: VideoProcess, paths: Sequence[str]) -> TimedTask:
    family = tagger.family

    def run() -> None:
        for path in paths:
            video = process.open(path)
            plan = family.plan(video.info.frames)
            pixels = process.frames(video, plan.frames, framing=family.spec.framing).pixels
            tagger.tag([source_clip(pixels, family) if family.looks_at_source else clip_of(pixels, plan)])

    return TimedTask(name, in_one_part(run), len(paths))


def classified(peer: Peer, network: nn.Module, process: VideoProcess, paths: Sequence[str]) -> TimedTask:
    def run() -> None:
        for path in paths:
            video = process.open(path)
            shown = process.frames(video, spread(video.info.frames, peer.frames), framing=Framing(peer.side)).pixels
            answer(network, peer.pixels(torch.from_numpy(shown.copy())))

    return TimedTask(peer.name, in_one_part(run), len(paths))


def show(title: str, timings: Mapping[str, Timing], facts: Mapping[str, Facts]) -> None:
    print(f"\n{title}\n\n| | ms | ± | × the first | GMACs | published |\n| --- | --- | --- | --- | --- | --- |")
    first = next(iter(timings.values()))
    for name, timing in timings.items():
        times, (gmacs, told) = ratio(timing.seconds(), first.seconds()), facts[name]
        cells = (name, f"{1000 * timing.median:,.0f}", f"{timing.spread:.0%}", f"{times:.1f}", f"{gmacs:.1f}", told)
        print(f"| {' | '.join(cells)} |", flush=True)


def draw(found: Mapping[str, Mapping[str, Timing]], facts: Mapping[str, Facts], ours: Mapping[str, str]) -> Image.Image:
    """A bar for each table and network, the shortest first; what ours are called beside others."""
    colours = dict(zip(found, (BLUE, PALE), strict=True))
    names = sorted(facts, key=lambda name: found[_FROM_FILES][name].median)
    longest = max(timing.median for timings in found.values() for timing in timings.values())
    across = Axis(0, longest, _LEFT, _WIDTH - _RIGHT)
    pen = Pen((_WIDTH, _HEADING + _ROW * len(names)))
    x = 16.0
    for title, colour in colours.items():
        pen.dot((x + 5, 27), colour, 5)
        x = pen.text((x + 16, 32), f"{title}, ms", INK, FONT, "ls") + 24
    for row, name in enumerate(names):
        top = _HEADING + row * _ROW
        pen.text((16, top + 16), ours.get(name, name), INK, FONT, "ls")
        gmacs, published = facts[name]
        accuracy = ", ".join(published.partition(" (")[0].split(", ")[:2])
        pen.text((16, top + 34), f"{gmacs:.1f} GMACs · {accuracy}", FAINT, SMALL_FONT - 2, "ls")
        for line, (title, colour) in enumerate(colours.items()):
            seconds, height = found[title][name].median, top + 10 + line * 18
            pen.line([(across.start, height), (across.at(seconds), height)], colour, 14)
            pen.text((across.at(seconds) + 8, height), f"{1000 * seconds:,.0f}", FAINT, SMALL_FONT, "lm")
    return pen.picture()


if __name__ == "__main__":
    main()
