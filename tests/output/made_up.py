"""Results that nobody computed, for tests of how results are shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from adafocus_cli.schema import Cost, Exit, Failure, ModelInfo, PatchBox, RunInfo, Tag, VideoInfo, VideoResult

_CORNERS = ((58, 16), (58, 16), (98, 56), (138, 16), (138, 96), (138, 56), (58, 96), (58, 56))

MODEL = ModelInfo(name="made-up", family="adafocus-v1", dataset="activitynet", sha256="0" * 64, patch_size=128)
LABELS = (Tag("Arm wrestling", 2, 0.9125), Tag("Playing the accordion", 3, 0.0412), Tag("Sumo", 4, 0.0101))


def tagged(path: str = "clip.mp4", *, labels: tuple[Tag, ...] = LABELS, **changes: Any) -> VideoResult:
    """A result; `changes` are fields of the video or of the result."""
    video = VideoInfo(
        path=path,
        width=340,
        height=256,
        fps=28.0,
        frames=280,
        duration=10.0,
        codec="h264",
        rotation=0,
        decoder="pyav",
    )
    of_video = {key: value for key, value in changes.items() if hasattr(video, key)}
    result = VideoResult(
        video=replace(video, **of_video),
        model=MODEL,
        labels=labels,
        cost=Cost({"glance": 4.8, "policy": 0.6, "focus": 21.4, "classify": 0.2}, 65.4),
        trajectory=tuple(
            PatchBox(step, 17 * step, 0.6 * step + 0.3, (float(x), float(y), x + 144.0, y + 144.0))
            for step, (x, y) in enumerate(_CORNERS * 2)
        ),
        exit=Exit(15, 16),
        frames_decoded=16,
        runtime=RunInfo(device="cpu", precision="fp32", runtime="torch", seconds={"decode": 0.11, "infer": 0.31}),
        logits=np.array([0.5, -1.25], dtype=np.float32),
        step_logits=np.array([[0.5, -1.25]], dtype=np.float32),
    )
    return replace(result, **{key: value for key, value in changes.items() if key not in of_video})


def failed(path: str = "broken.mp4", message: str = "the file is cut off; download it again") -> Failure:
    return Failure(path=path, stage="open", type="VideoError", message=message)
