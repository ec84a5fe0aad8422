"""What a model is, apart from its weights: family, data set, networks, sizes and frame counts.

Published checkpoints do not carry these numbers, so each is paired with a spec; files that we write carry
theirs. The same spec describes the published models and small ones with other backbones and widths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, NamedTuple, get_args

import yaml

from adafocus_cli.errors import ModelError
from adafocus_cli.video.framing import Framing

Arch = Literal[
    "mobilenet_v2", "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "resnet18", "resnet50", "matching"
]
ClipArch = Literal["slow_r50", "i3d_r50", "r3d_18", "mc3_18", "r2plus1d_18", "s3d", "x3d_s", "x3d_m", "x3d_l"]
"""Networks that see a clip as one picture of three dimensions."""
ShortVideos = Literal["first", "evenly"]

Colour = tuple[float, float, float]
VIEWS = (1, 3, 10, 30)

MEAN: Colour = (0.485, 0.456, 0.406)  # ImageNet's, of what was 0…1
STD: Colour = (0.229, 0.224, 0.225)


class Normalisation(NamedTuple):
    """What is taken from colours of 0…1, and what they are then divided by."""

    mean: Colour = MEAN
    std: Colour = STD


OF_LITE = Normalisation((127 / 255,) * 3, (128 / 255,) * 3)


def normalisation_of(arch: str) -> Normalisation:
    """The one that the public ImageNet weights of a network were trained with."""
    return OF_LITE if arch.startswith("efficientnet_lite") else Normalisation()


def scores_are_independent(family: str) -> bool:
    """Whether each label has a chance of its own, and several may be right, or all share one; by the family's name."""
    return family == "evidence"


def sees_whole_frames(family: str) -> bool:
    """What the families say by `cuts_patches`, by their names alone, for those who need not load torch."""
    return family in ("sfc", "taught") or family.replace("-", "_") in get_args(ClipArch)


@dataclass(frozen=True)
class Network:
    """A backbone: its kind, its width as a multiple of the usual, and the side of the pictures it sees.

    Where its weights, and those of its classifier, come from a pip package and are not in the model's file,
    `package_sha256` is the hash of the package's file.
    """

    arch: Arch | ClipArch
    size: int
    width: float = 1.0
    package_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    family: str
    classes: int
    dataset: str | None = None

    # What is looked at: the side of a frame, and how many frames each network sees.
    frame_size: int = 224
    glance_frames: int = 16
    focus_frames: int = 16
    candidate_frames: int = 0  # where the focus frames are chosen among more (Uni); 0: they are not
    # Of a video with too few, V1 and V2 on TSM see its first throughout, as published, or all, repeated evenly.
    short_videos: ShortVideos = "first"

    # Who looks. The focus network's `size` is the side of a patch.
    glance: Network = Network("mobilenet_v2", 224)
    focus: Network = Network("resnet50", 128)
    smallest_patch: int = 96  # where patches may be of any size in the frame (Uni) before they are resampled

    # Widths of the parts between and after the two.
    policy_channels: int = 32
    policy_width: int = 1024
    classifier_width: int = 1024
    grid: int = 7  # V1 chooses among grid × grid places
    skips: bool = False  # whether there is a head that says which frames get no look (V1, V2)

    # How pictures become numbers.
    mean: Colour = MEAN
    std: Colour = STD
    short_side: int | None = None  # of the picture that a frame is cut from; None: 256 for a frame of 224
    frame_area: int | None = None  # where a frame is all of the picture, in its own shape: its pixels at most

    # Networks over whole clips: how many frames lie between two that are seen, and how many views are tested.
    frame_step: int = 1
    views: int = 1

    # What is told: labels from this score on, and of videos longer than this, window by window.
    min_score: float = 0.0
    window_seconds: float | None = None

    # SFC: the part of the network after which a clip is compressed, and to which share of its length.
    insertion: str | None = None
    compression: float = 1.0
    backbone: str | None = None  # the file with all the rest, where a file has nothing but what compresses
    backbone_sha256: str | None = None

    @property
    def patch_size(self) -> int:
        return self.focus.size

    @property
    def normalisation(self) -> Normalisation:
        return Normalisation(self.mean, self.std)

    @property
    def framing(self) -> Framing:
        """What is seen of a picture: of 3 or 30 views, 3 are beside one another."""
        return Framing(self.frame_size, self.short_side, crops=3 if self.views in (3, 30) else 1, area=self.frame_area)

    def with_patch_size(self, patch_size: int) -> ModelSpec:
        if not 32 <= patch_size <= self.frame_size:
            raise ModelError(f"patch size {patch_size} does not fit; 32 to {self.frame_size} (the side of a frame) do")
        return replace(self, focus=replace(self.focus, size=patch_size))

    def with_frames(self, frames: int) -> ModelSpec:
        """With so many careful looks; a family that takes one at every frame it glances at keeps doing so."""
        glances = frames if self.glance_frames == self.focus_frames else self.glance_frames
        return replace(self, glance_frames=glances, focus_frames=frames)

    def to_yaml(self) -> str:
        return yaml.safe_dump(asdict(self), sort_keys=False)

    @classmethod
    def from_yaml(cls, text: str) -> ModelSpec:
        try:
            values = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ModelError(f"the model's spec is not YAML: {' '.join(str(error).split())}") from error
        return cls.from_dict(values)

    @classmethod
    def from_dict(cls, values: object) -> ModelSpec:
        """A spec from plain values, as a YAML file or the header of a weights file gives them."""
        if not isinstance(values, Mapping) or not {"family", "classes"} <= values.keys():
            raise ModelError("a model's spec must at least say `family` and `classes`")
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(map(str, values)) - known)
        if unknown:
            raise ModelError(f"the model's spec says {unknown[0]!r}, which this version does not know; update adafocus")
        arguments: dict[str, Any] = dict(values)
        try:
            for name in ("glance", "focus"):
                if name in arguments:
                    arguments[name] = Network(**arguments[name])
            for name in ("mean", "std"):
                if name in arguments:
                    arguments[name] = tuple(arguments[name])
            return cls(**arguments)
        except TypeError as error:
            raise ModelError(f"the model's spec cannot be read: {error}") from error
