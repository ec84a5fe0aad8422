"""Results that nobody computed, for tests of how results are shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from adafocus_cli.schema import (
    Cost,
    Exit,
    Failure,
    ModelInfo,
    PatchBox,
    Peak,
    RunInfo,
    Segment,
    Tag,
    VideoInfo,
    VideoResult,
    WindowResult,
)

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


def in_windows(path: str = "clip.mp4", **changes: Any) -> VideoResult:
    """Three windows and two segments; between them nothing is sure enough."""
    whole = tagged(path)
    windows = tuple(
        WindowResult(
            start=2.5 * number,
            end=2.5 * number + 5,
            labels=(LABELS[number],),
            cost=whole.cost,
            trajectory=whole.trajectory[:2],
            exit=whole.exit,
        )
        for number in range(3)
    )
    labels = tuple(replace(tag, best=Peak(number, 0.9)) for number, tag in enumerate(LABELS))
    segments = (Segment(0.0, 3.75, "Arm wrestling", 2, 0.9), Segment(6.25, 10.0, "Sumo", 4, 0.85))
    return replace(whole, **{"labels": labels, "windows": windows, "segments": segments, **changes})


def failed(path: str = "broken.mp4", message: str = "the file is cut off; download it again") -> Failure:
    return Failure(path=path, stage="open", type="VideoError", message=message)
