"""Uni-AdaFocus on X3D (Wang et al., TPAMI 2024): X3D-S glances, X3D-L looks at one box of any size in chosen frames.

With three views, each square has a box and frames of its own, and the answers are averaged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adafocus_cli.errors import ModelError
from adafocus_cli.models.base import Gaze, Memory, Turn
from adafocus_cli.models.shared import OneBox, blocks_of, with_prefixes
from adafocus_cli.nn.heads import pooled
from adafocus_cli.nn.pixels import view_of
from adafocus_cli.nn.x3d import SHAPES, X3D
from adafocus_cli.spec import ClipArch, ModelSpec, Network

_CLASSES = 400
_STRIDE = 32  # pixels that a place in the maps covers


class UniAdaFocusX3D(OneBox):
    name = "uni-adafocus-x3d"
    views = (1, 3)
    glance_net: X3D  # type: ignore[assignment] # it sees all frames at once
    focus_net: X3D  # type: ignore[assignment]
    published = ModelSpec(
        family=name,
        classes=_CLASSES,
        glance_frames=16,
        focus_frames=32,
        candidate_frames=96,
        glance=Network("x3d_s", 160),
        focus=Network("x3d_l", 128),
        policy_channels=128,
        policy_width=64,
    )

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        # The glance's own classifier has learnt to be added to the other's; alone, it answers with this one.
        self.exit_head = self.new_frame_head(self.glance_net)

    def add_networks(self) -> None:
        spec = self.spec
        self.glance_net, self.focus_net = (
            X3D(network, spec.classes, norms_shortcuts=True, windows=False) for network in (spec.glance, spec.focus)
        )

    @property
    def glance_channels(self) -> int:
        return _map_channels(self.glance_net)

    def new_frame_head(self, net: X3D) -> nn.Sequential:
        """The layers of a network's own classifier, for each frame by itself; a copy of it at first, as published."""
        head = nn.Sequential(
            nn.Linear(_map_channels(net), net.channels, bias=False),
            nn.ReLU(inplace=True),
            self.dropout,
            nn.Linear(net.channels, self.spec.classes),
        )
        copy_classifier(net, head)
        return head

    @property
    def map_side(self) -> int:
        return -(-self.spec.glance.size // _STRIDE)

    def turns(self, group: int | None = None) -> tuple[Turn, ...]:
        views = self.spec.views
        return tuple(replace(turn, looks=range(views * len(turn.looks))) for turn in super().turns(group))

    def glance(self, frames: Tensor) -> Tensor:
        """(b, t, 3, s, views · s) → maps (b, views · t, c, h, w)."""
        views, side = _squares(frames), self.spec.glance.size
        small = F.interpolate(views.flatten(0, 1), (side, side), mode="bilinear", align_corners=False)
        return self._seen(self.glance_net, small.view(*views.shape[:3], side, side))

    def locate(self, turn: Turn, glance_maps: Tensor, memory: Memory) -> Gaze:
        """Squares are beside one another, and so are their boxes."""
        gaze, views = super().locate(turn, self._of_views(glance_maps), memory), self.spec.views
        frames = gaze.frames.view(-1, views * self.spec.focus_frames)
        boxes = gaze.boxes.reshape(len(frames), views, -1, 4)
        offsets = self.spec.frame_size * torch.arange(views, device=boxes.device)[:, None, None]
        moved = boxes + offsets * torch.tensor((1.0, 0.0, 1.0, 0.0), device=boxes.device)
        return Gaze(frames, moved.flatten(1, 2))

    def patches(self, pixels: Tensor, boxes: Tensor) -> Tensor:
        return super().patches(*self._in_squares(pixels, boxes))

    def whole_frames_of(self, pixels: Tensor, boxes: Tensor) -> Tensor:
        squares, _ = self._in_squares(pixels, boxes)
        return self.normalised(squares)

    def _in_squares(self, pixels: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Of uint8 (n, s, views · s, 3) the square that each box is in, and the box there: it sees nothing beside."""
        side = self.spec.frame_size
        square = view_of(boxes, side).long().clamp(0, self.spec.views - 1)
        apart = pixels.reshape(*pixels.shape[:2], -1, side, pixels.shape[-1])
        squares = apart[torch.arange(len(pixels), device=pixels.device), :, square]
        offset = (side * square)[:, None] * torch.tensor((1, 0, 1, 0), device=boxes.device)
        return squares, boxes - offset

    def focus(self, patches: Tensor) -> Tensor:
        """(b, views · l, 3, p, p) → maps (b, views · l, c, h, w)."""
        return self._seen(self.focus_net, self._of_views(patches))

    def on_whole_frames(self, frames: Tensor) -> Tensor:
        return self._seen(self.focus_net, _squares(frames))

    def early_answer(self, glance_maps: Tensor) -> Tensor:
        """The mean over frames of each frame's answer."""
        vectors = pooled(self._of_views(glance_maps))
        answers: Tensor = self.exit_head(vectors)
        return self._mean_of_views(answers.mean(dim=1))

    def full_answer(self, glance_maps: Tensor, focused: Tensor) -> Tensor:
        return self.own_answer(self.glance_net, glance_maps) + self.own_answer(self.focus_net, focused)

    def own_answer(self, net: X3D, maps: Tensor) -> Tensor:
        """Of a network's own classifier: maps (b, views · t, c, h, w) → logits (b, classes)."""
        vectors = net.vectors(self._of_views(maps).transpose(1, 2))
        return self._mean_of_views(net.answer(self.dropout(vectors)))

    def _seen(self, net: X3D, clips: Tensor) -> Tensor:
        """Clips of views (b · views, t, 3, s, s) → maps (b, views · t, c, h, w)."""
        maps = net(clips.transpose(1, 2)).transpose(1, 2)
        return maps.reshape(-1, self.spec.views * maps.shape[1], *maps.shape[2:])

    def _of_views(self, clips: Tensor) -> Tensor:
        """(b, views · t, …) → (b · views, t, …)."""
        return clips.reshape(len(clips) * self.spec.views, -1, *clips.shape[2:])

    def _mean_of_views(self, answers: Tensor) -> Tensor:
        """(b · views, classes) → (b, classes)."""
        return answers.view(-1, self.spec.views, answers.shape[-1]).mean(dim=1)

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> bool:
        return "global_CNN.s1.pathway0_stem.conv_xy.weight" in tensors

    @classmethod
    def spec_of(cls, tensors: Mapping[str, Tensor]) -> ModelSpec:
        classes, over = len(tensors["global_CNN_head.3.weight"]), tensors["spatial_policy.encoder.9.weight"].shape
        glance, focus = (_arch_of(tensors, f"{who}_CNN") for who in ("global", "local"))
        return replace(
            cls.published,
            classes=classes,
            dataset="kinetics400" if classes == _CLASSES else None,
            glance_frames=over[2],
            glance=Network(glance, _STRIDE * over[3]),
            focus=replace(cls.published.focus, arch=focus),
            policy_channels=len(tensors["spatial_policy.encoder.0.weight"]),
            policy_width=len(tensors["temporal_policy.Tconv.0.weight"]),
        )

    @staticmethod
    def published_name(name: str) -> str:
        return with_prefixes(
            slowfast_name(name),
            {
                "glance_net.": "global_CNN.",
                "focus_net.": "local_CNN.",
                "exit_head.": "global_CNN_head.",
                "spatial_policy.": "spatial_policy.",
                "temporal_policy.": "temporal_policy.",
            },
        )


def copy_classifier(net: X3D, head: nn.Sequential) -> None:
    """From a network to the layers that do to a frame what its own do to a clip."""
    first, last = net.blocks[-1].get_submodule("pool.post_conv"), net.blocks[-1].get_submodule("proj")
    assert isinstance(first, nn.Conv3d)
    assert isinstance(last, nn.Linear)
    head.load_state_dict({"0.weight": first.weight.flatten(1), "3.weight": last.weight, "3.bias": last.bias})


def _map_channels(net: X3D) -> int:
    return list(net.widths.values())[-1]


def _squares(frames: Tensor) -> Tensor:
    """Squares beside one another (b, t, 3, s, views · s) → clips of each (b · views, t, 3, s, s)."""
    side = frames.shape[-2]
    return frames.reshape(*frames.shape[:-1], -1, side).movedim(-2, 1).flatten(0, 1)


def _arch_of(tensors: Iterable[str], network: str) -> ClipArch:
    blocks = blocks_of(tensors, network + ".s{}.pathway0_res{}.", first=2)
    for arch, shape in SHAPES.items():
        if shape.blocks == blocks:
            return arch
    raise ModelError(f"has stages of {', '.join(map(str, blocks))} blocks in {network}, as no X3D here has them")


_SLOWFAST = {
    "blocks.0.conv.conv_t": "s1.pathway0_stem.conv_xy",
    "blocks.0.conv.conv_xy": "s1.pathway0_stem.conv",
    "blocks.0.norm": "s1.pathway0_stem.bn",
    "blocks.5.pool.pre_conv": "head.conv_5",
    "blocks.5.pool.pre_norm": "head.conv_5_bn",
    "blocks.5.pool.post_conv": "head.lin_5",
    "blocks.5.proj": "head.projection",
}
_IN_BLOCKS = {
    "branch1_conv": "branch1",
    "branch1_norm": "branch1_bn",
    **{f"branch2.conv_{layer}": f"branch2.{layer}" for layer in "abc"},
    **{f"branch2.norm_{layer}": f"branch2.{layer}_bn" for layer in "ac"},
    "branch2.norm_b.0": "branch2.b_bn",
    "branch2.norm_b.1.block.0": "branch2.se.fc1",
    "branch2.norm_b.1.block.2": "branch2.se.fc2",
}


def slowfast_name(name: str) -> str:
    """The name of a tensor in SlowFast's copies of X3D, wherever the network is.

    >>> slowfast_name("glance_net.blocks.1.res_blocks.0.branch2.norm_b.1.block.2.bias")
    'glance_net.s2.pathway0_res0.branch2.se.fc2.bias'
    """
    layer, _, leaf = name.rpartition(".")
    block = re.fullmatch(r"(.*)blocks\.(\d)\.res_blocks\.(\d+)\.(.*)", layer)
    if block is not None:
        return f"{block[1]}s{int(block[2]) + 1}.pathway0_res{block[3]}.{_IN_BLOCKS[block[4]]}.{leaf}"
    network, _, rest = layer.partition(".")
    return f"{network}.{_SLOWFAST[rest]}.{leaf}" if rest in _SLOWFAST else name
