"""The kinds of stream that the readers are tried on, each with what is hard about it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.clips import numbered_clip, set_edit_list

FRAMES = 300
EDIT_SKIPS, EDIT_KEEPS = 33, 200

X264 = {"preset": "veryfast", "g": "50", "bf": "3"}
OPEN_X264 = {**X264, "x264-params": "open-gop=1:keyint=50:scenecut=0"}
REFRESH_X264 = {**X264, "bf": "0", "x264-params": "intra-refresh=1:keyint=50"}
X265 = {"preset": "ultrafast", "x265-params": "open-gop=1:keyint=50:bframes=4:log-level=none"}
LAYERED_X265 = {"preset": "ultrafast", "x265-params": "temporal-layers=3:keyint=50:bframes=4:log-level=none"}
VPX = {"g": "50", "deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "1", "lag-in-frames": "16"}
AV1 = {"g": "50", "preset": "12", "crf": "15", "svtav1-params": "lp=2"}
MPEG = {"g": "15", "bf": "2", "b": "800k"}


def uneven_times() -> list[int]:
    """Milliseconds between 20 and 200 apart."""
    gaps = random.Random(1).choices((20, 40, 40, 40, 80, 200), k=FRAMES - 1)
    return [sum(gaps[:i]) for i in range(FRAMES)]


@dataclass(frozen=True)
class Kind:
    """One clip: `frames` are shown, the first of them carries the number `first`."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    after: Callable[[Path], None] | None = None
    first: int = 0
    frames: int = FRAMES

    def write(self, folder: Path) -> Path:
        path = numbered_clip(folder / self.name, frames=FRAMES, **self.options)
        if self.after is not None:
            self.after(path)
        return path


def _edit(path: Path) -> None:
    set_edit_list(path, skip_frames=EDIT_SKIPS, keep_frames=EDIT_KEEPS)


KINDS = (
    Kind("b-frames.mp4", {"options": X264}),
    Kind("b-frames.mkv", {"options": X264}),
    Kind("open-gop.mp4", {"options": OPEN_X264}),
    Kind("open-gop.mkv", {"options": OPEN_X264}),
    Kind("intra-refresh.mp4", {"options": REFRESH_X264}),
    Kind("interlaced.mp4", {"options": {**X264, "x264-params": "tff=1"}}),
    Kind("uneven.mp4", {"options": X264, "times": uneven_times()}),
    Kind("uneven.mkv", {"options": X264, "times": uneven_times()}),
    Kind("late.mp4", {"options": X264, "start": 5000}),
    Kind("late.mkv", {"options": X264, "start": 5000}),
    Kind("fragments.mp4", {"options": X264, "container_options": {"movflags": "frag_keyframe+empty_moov"}}),
    Kind("edited.mp4", {"options": X264}, after=_edit, first=EDIT_SKIPS, frames=EDIT_KEEPS),
    Kind("no-index.mkv", {"options": X264, "container_options": {"live": "1"}}),
    Kind("h264.ts", {"options": X264}),
    Kind("open-gop.ts", {"options": OPEN_X264}),
    Kind("h264.avi", {"options": X264}),
    Kind("h264.flv", {"options": X264}),
    Kind("hevc-open-gop.mp4", {"codec": "libx265", "options": X265}),
    Kind("hevc-open-gop.mkv", {"codec": "libx265", "options": X265}),
    Kind("hevc-layers.mp4", {"codec": "libx265", "options": LAYERED_X265}),
    Kind("vp8.webm", {"codec": "libvpx", "options": VPX}),
    Kind("vp9.webm", {"codec": "libvpx-vp9", "options": VPX}),
    Kind("vp9-hidden.webm", {"codec": "libvpx-vp9", "options": {**VPX, "deadline": "good"}}),
    Kind("av1.mkv", {"codec": "libsvtav1", "options": AV1}),
    Kind("av1.mp4", {"codec": "libsvtav1", "options": AV1}),
    Kind("mpeg4-b.mp4", {"codec": "mpeg4", "options": MPEG}),
    Kind("mpeg4-b.avi", {"codec": "mpeg4", "options": MPEG}),
    Kind("mpeg2-b.ts", {"codec": "mpeg2video", "options": MPEG}),
    Kind("mpeg2-b.mpg", {"codec": "mpeg2video", "options": MPEG, "container": "mpeg"}),
    Kind("mpeg2-b.vob", {"codec": "mpeg2video", "options": MPEG, "container": "vob"}),
    Kind("plain.gif", {"codec": "gif", "pixel_format": "rgb8"}),
    Kind("plain.wmv", {"codec": "wmv2", "options": {"g": "50", "b": "800k"}}),
    Kind("plain.flv", {"codec": "flv", "options": {"g": "50", "b": "800k"}}),
    Kind("mjpeg.avi", {"codec": "mjpeg", "pixel_format": "yuvj420p"}),
)
BY_NAME = {kind.name: kind for kind in KINDS}
