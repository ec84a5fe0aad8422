"""Our own file of weights: safetensors, with what the model is in its header.

Opening one maps it into memory; nothing is unpickled and nothing is read before it is used. Knows nothing of families:
whether the tensors are those of the spec is for the caller to check.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, get_args

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from adafocus_cli import __version__
from adafocus_cli.errors import ModelError
from adafocus_cli.labels import LabelSet
from adafocus_cli.spec import VIEWS, ModelSpec, ShortVideos

FORMAT = "adafocus-weights/1"

# Our one entry of the header's metadata; a single one keeps the bytes of the header in a fixed order.
_ENTRY = "adafocus"
MAX_FRAME_SIZE = 1024  # more would need gigabytes a clip
_MAX_HEADER = 16 << 20
_ALIGNMENT = 64  # torch's own; some of its kernels round differently for data that lies otherwise
_DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}


@dataclass(frozen=True, kw_only=True)
class About:
    """What a file says of itself; `source` and its hash are those of the file it was converted from."""

    spec: ModelSpec
    name: str | None = None
    labels: tuple[str, ...] | None = None
    labels_source: str | None = None
    source: str | None = None
    source_sha256: str | None = None
    training: str | None = None
    """How it came about, as JSON, where we have taught it."""
    version: str = __version__

    @property
    def label_set(self) -> LabelSet | None:
        return None if self.labels is None else LabelSet(self.labels, self.labels_source or "in the file")


def is_one(path: Path) -> bool:
    """Whether a file is meant to be safetensors, by its name or its first bytes."""
    if path.suffix == ".safetensors":
        return True
    try:
        with path.open("rb") as file:
            return file.read(9)[8:] == b"{"
    except OSError:
        return False  # whoever opens it next says why


class Writable(Protocol):
    def write(self, content: bytes, /) -> int: ...


def write(file: Writable, about: About, tensors: Mapping[str, Tensor]) -> None:
    """The same model always gives the same bytes."""
    # Whole multiples of the alignment first: all of them then lie well, and what follows is small.
    names = sorted(tensors, key=lambda name: (tensors[name].nbytes % _ALIGNMENT != 0, -tensors[name].itemsize, name))
    header: dict[str, Any] = {"__metadata__": {_ENTRY: json.dumps({"format": FORMAT, **asdict(about)}, sort_keys=True)}}
    end = 0
    for name in names:
        tensor = tensors[name]
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    file.write(struct.pack("<Q", len(text)) + text)
    for name in names:
        file.write(tensors[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())


def read_about(path: Path) -> About:
    """What a file says of itself; reads no more than its header."""
    text = _header(path).get("__metadata__", {}).get(_ENTRY)
    try:
        values = json.loads(text)
        if values.pop("format") != FORMAT:
            raise ModelError(f"{path} is in a format that this version does not know; update adafocus")
        spec = _plausible(ModelSpec.from_dict(values.pop("spec")))
        labels = values.pop("labels")
        names = None if labels is None else tuple(map(str, labels))
        if not all(value is None or isinstance(value, str) for value in values.values()):
            raise TypeError("a text is expected")
        return About(spec=spec, labels=names, **values)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(
            f"{path} does not say which model it holds; give a file that `adafocus models convert` wrote, "
            "or the published checkpoint itself"
        ) from error


def read(path: Path) -> tuple[About, dict[str, Tensor]]:
    """The header, and the tensors as views into the file."""
    about = read_about(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise _damaged(path) from error
    return about, {name: _aligned(tensor) for name, tensor in tensors.items()}


def _plausible(spec: ModelSpec) -> ModelSpec:
    """Itself, if its texts are texts and its sizes and counts are such that a model can have them."""
    values = asdict(spec)
    networks = [values.pop("glance"), values.pop("focus")]
    texts = [values.pop("family"), values.pop("dataset") or "", *(network.pop("arch") for network in networks)]
    may_be_none = [values.pop("candidate_frames"), values.pop("short_side") or 0]
    widths = [network.pop("width") for network in networks]
    texts += [network.pop("package_sha256") or "" for network in networks]
    area = values.pop("frame_area") or 0
    thresholds = values.pop("min_score"), values.pop("window_seconds") or 0
    shares = [*values.pop("mean"), *values.pop("std")]
    compression = values.pop("compression")
    texts += [values.pop(name) or "" for name in ("insertion", "backbone", "backbone_sha256")]
    short_videos, skips = values.pop("short_videos"), values.pop("skips")
    counts = [*values.values(), *(network["size"] for network in networks)]
    if not (
        all(isinstance(text, str) for text in texts)
        and all(type(width) in (int, float) and 0 < width < 16 for width in widths)
        and len(spec.mean) == len(spec.std) == 3
        and all(type(share) in (int, float) and 0 < share <= 1 for share in shares)
        and spec.views in VIEWS
        and short_videos in get_args(ShortVideos)
        and type(skips) is bool
        and type(compression) in (int, float)
        and 1 <= compression < 1 << 16
        and all(type(threshold) in (int, float) and 0 <= threshold < 1 << 16 for threshold in thresholds)
        and all(type(count) is int and 0 < count < 1 << 16 for count in counts)
        and all(type(count) is int and 0 <= count < 1 << 16 for count in may_be_none)
        and spec.frame_size <= MAX_FRAME_SIZE
        and type(area) is int
        and 0 <= area <= MAX_FRAME_SIZE**2
    ):
        raise ValueError("no model is like that")
    return spec


def _aligned(tensor: Tensor) -> Tensor:
    return tensor if tensor.data_ptr() % _ALIGNMENT == 0 else tensor.clone()


def _header(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            prefix = file.read(8)
            (length,) = struct.unpack("<Q", prefix) if len(prefix) == 8 else (0,)
            if not 0 < length <= min(_MAX_HEADER, os.fstat(file.fileno()).st_size - 8):
                raise _damaged(path)
            header = json.loads(file.read(length))
    except OSError as error:
        raise ModelError(f"cannot read model {path}: {error.strerror or error}; check the path") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path) from error
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
        raise _damaged(path)
    return header


def _damaged(path: Path) -> ModelError:
    return ModelError(f"{path} is damaged, cut short or no safetensors file; get or convert it again")
