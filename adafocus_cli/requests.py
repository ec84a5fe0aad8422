"""What is asked for: which model to load, and how to tag with it.

Made once, by the command line or the Python API, and handed whole to engine, workers, evaluation and bench. Loads
neither torch nor a decoder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from adafocus_cli.errors import UsageError
from adafocus_cli.video import DECODES, Decode, Decoder
from adafocus_cli.video.limits import Limits

if TYPE_CHECKING:
    from adafocus_cli.exits import ExitRule
    from adafocus_cli.labels import LabelSet
    from adafocus_cli.video.windows import Windowing

DEFAULT_MODEL = "objects"

TorchPrecision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
"""Those in which a model may also learn."""
Precision = Literal[TorchPrecision, "int8"]
RuntimeName = Literal["auto", "torch", "openvino"]


def cores() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 2


def default_workers() -> int:
    """Half the processors: the other half is for the model."""
    return max(1, cores() // 2)


@dataclass(frozen=True, kw_only=True)
class ModelRequest:
    """Which model to load, and onto what.

    `source` is a name or a file; None is the default model. `views` is how often a network over whole clips sees a
    video; its answers are averaged. `batch_size` is how many clips an accelerator takes at once; a processor takes
    them one by one.
    """

    source: str | Path | None = None
    patch_size: int | None = None
    views: int | None = None
    labels: str | Path | Sequence[str] | LabelSet | None = None
    device: str = "auto"
    precision: Precision = "auto"
    runtime: RuntimeName = "auto"
    batch_size: int | None = None

    @property
    def name_or_file(self) -> str | Path:
        return DEFAULT_MODEL if self.source is None else self.source


@dataclass(frozen=True, kw_only=True)
class TagRequest:
    """How to tag videos. Without a `min_score`, a model's own is the lowest score of a label.

    `exits` says when a video may be left: a rule, or the file of one; `max_gmacs` caps the cost of each video. With
    `decode="fast"` the keyframes nearest to the wanted frames are taken for them.
    """

    # Answers.
    top_k: int = 5
    min_score: float | None = None

    # Leaving early.
    exits: ExitRule | str | Path | None = None
    max_gmacs: float | None = None

    # Windows that are tagged as clips of their own.
    windows: Windowing | None = None

    # Decoding.
    decoder: Decoder = "auto"
    decode: Decode = "exact"
    limits: Limits = field(default_factory=Limits)
    workers: int = field(default_factory=default_workers)

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise UsageError(f"top_k is {self.top_k}; it is how many labels to give at most, 1 or more")
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise UsageError(f"min_score is {self.min_score:g}; it is the lowest score of a label to give, 0 to 1")
        if self.decode not in DECODES:
            raise UsageError(f"decode is {self.decode!r}; it is {' or '.join(DECODES)}")
        if self.decode == "fast" and self.windows is not None:
            raise UsageError("--decode fast is not for windows, which are decoded in one pass; leave out one of both")
        if self.max_gmacs is not None and not self.max_gmacs > 0:
            raise UsageError(f"--max-gmacs is {self.max_gmacs:g}; it is the highest cost of a video, above 0")
