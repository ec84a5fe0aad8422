"""What a model is compared with: itself as its authors run it, networks of torchvision, a ResNet-50 on whole frames.

The reference runs one video in full precision, eagerly and with nothing folded: all frames are glanced at, then each
step looks and answers by itself. The other networks have random weights and noise as input: shapes decide the speed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor, nn

from adafocus_cli.benchmark.bench_model import noise_clip
from adafocus_cli.benchmark.interleaved import TimedTask, in_one_part, wait_for
from adafocus_cli.errors import UsageError
from adafocus_cli.models.base import Family, Gaze, Memory
from adafocus_cli.nn.networks import build_backbone
from adafocus_cli.runtime.pytorch import PRECISIONS
from adafocus_cli.spec import Network
from adafocus_cli.video.pictures import cut_looks
from adafocus_cli.video.sampling import FramePlan, Look


class ReferenceModel:
    """The model as its authors run it, one video at a time."""

    def __init__(self, model: Family, device: str) -> None:
        self.model = model.to(device)
        self._device = device

    def task(self, name: str) -> TimedTask:
        """One clip of noise."""
        clip = noise_clip(self.model)
        pixels = clip.pixels(range(len(clip.plan.frames)))
        return TimedTask(name, in_one_part(lambda: self.answer(pixels, clip.plan)))

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


# Frames and side of a clip with which torchvision evaluates its weights.
_CLIPS = {"r2plus1d_18": (16, 112), "s3d": (128, 224), "mvit_v2_s": (16, 224), "swin3d_t": (32, 224)}
_DENSE, _SIDE = "resnet50", 224
NAMES = (_DENSE, *_CLIPS)
USUAL = (_DENSE, "r2plus1d_18")  # the others take seconds a clip on a CPU
CROPS = 30  # ten clips of three crops each, as papers evaluate a video


@dataclass(frozen=True)
class Baseline:
    """Another network, with random weights."""

    name: str
    device: str
    precision: str

    @property
    def sees_clips(self) -> bool:
        """Whether it takes clips, of which a video has many; else single frames."""
        return self.name != _DENSE

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
        network = self._network().eval().to(self.device)
        frames, side = _CLIPS.get(self.name, (0, _SIDE))
        shape = (3, frames, side, side) if self.sees_clips else (3, side, side)
        pixels = torch.rand(min(views, at_once), *shape, device=self.device)
        number = PRECISIONS[self.precision]

        @torch.inference_mode()
        def run() -> None:
            with torch.autocast(pixels.device.type, number, enabled=number != torch.float32):
                for done in range(0, views, len(pixels)):
                    wait_for(network(pixels[: views - done]))

        return run

    def _network(self) -> nn.Module:
        if not self.sees_clips:
            return build_backbone(Network("resnet50", _SIDE))
        from torchvision.models import get_model

        network: nn.Module = get_model(self.name)
        return network


def chosen(names: str | None) -> tuple[str, ...]:
    """The networks that --baselines names; None: the default, as far as torchvision is installed."""
    if names is None:
        return USUAL if has_torchvision() else (_DENSE,)
    if names == "none":
        return ()
    some = NAMES if names == "all" else tuple(names.split(","))
    for name in some:
        if name not in NAMES:
            raise UsageError(f"there is no baseline {name!r}; choose from {', '.join(NAMES)}, all and none")
        if name in _CLIPS and not has_torchvision():
            raise UsageError(f"{name} needs torchvision; pip install 'adafocus-cli[bench]'")
    return some


def has_torchvision() -> bool:
    return find_spec("torchvision") is not None
