"""What else one could take: video networks of torchvision, and a ResNet-50 on whole frames.

Their weights are random and their input is noise: shapes decide the speed. They run as a script of few lines would run
them. Knows nothing of our models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import nn

from adafocus_cli.benchmark.interleaved import Entrant, whole
from adafocus_cli.benchmark.stages import finish
from adafocus_cli.errors import UsageError
from adafocus_cli.nn.networks import build_backbone
from adafocus_cli.runtime.pytorch import PRECISIONS
from adafocus_cli.spec import Network

# Frames and side of a clip, as torchvision says that its weights were judged.
_CLIPS = {"r2plus1d_18": (16, 112), "s3d": (128, 224), "mvit_v2_s": (16, 224), "swin3d_t": (32, 224)}
_DENSE, _SIDE = "resnet50", 224
NAMES = (_DENSE, *_CLIPS)
USUAL = (_DENSE, "r2plus1d_18")  # the others take seconds a clip on a processor
CROPS = 30  # ten clips of three crops each, as papers judge a video


@dataclass(frozen=True)
class Baseline:
    name: str
    device: str
    precision: str

    @property
    def sees_clips(self) -> bool:
        """Whether it sees clips, of which a video may be given many; else single frames."""
        return self.name != _DENSE

    def entrant(self, videos: int, frames: int) -> Entrant:
        """One clip a video, or so many whole frames."""
        views = videos if self.sees_clips else videos * frames
        what = "" if self.sees_clips else " on whole frames"
        return Entrant(f"{self.name}{what}, {self.precision}", whole(self._over(views, at_once=views)), videos)

    def crops(self, at_once: int) -> Entrant:
        """Many views of one video."""
        return Entrant(f"{self.name}, {CROPS} crops, {self.precision}", whole(self._over(CROPS, at_once=at_once)))

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
                    finish(network(pixels[: views - done]))

        return run

    def _network(self) -> nn.Module:
        if not self.sees_clips:
            return build_backbone(Network("resnet50", _SIDE))
        from torchvision.models import get_model

        network: nn.Module = get_model(self.name)
        return network


def chosen(names: str | None) -> tuple[str, ...]:
    """What an option names: some, `all` or `none`; without it, what is usual and there."""
    if names is None:
        return USUAL if has_torchvision() else (_DENSE,)
    if names == "none":
        return ()
    some = NAMES if names == "all" else tuple(names.split(","))
    for name in some:
        if name not in NAMES:
            raise UsageError(f"no baseline is called {name!r}; {', '.join(NAMES)}, all and none are known")
        if name in _CLIPS and not has_torchvision():
            raise UsageError(f"{name} is of torchvision, which is missing; pip install 'adafocus-cli[bench]'")
    return some


def has_torchvision() -> bool:
    return find_spec("torchvision") is not None
