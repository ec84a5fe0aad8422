"""The Python API: a tagger of video files, `adafocus_cli.Tagger`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from adafocus_cli.engine.local import tag_files
from adafocus_cli.errors import UsageError, VideoError
from adafocus_cli.requests import TagRequest
from adafocus_cli.schema import Failure, VideoResult
from adafocus_cli.tagger import ClipTagger
from adafocus_cli.video import Decode
from adafocus_cli.video.windows import Windowing


class Tagger(ClipTagger):
    """Says what happens in videos. Build one with `Tagger.load`."""

    def tag_video(
        self,
        path: str | Path,
        *,
        top_k: int = 5,
        min_score: float | None = None,
        exits: str | Path | None = None,
        max_gmacs: float | None = None,
        window: float | None = None,
        stride: float | None = None,
        decode: Decode = "exact",
    ) -> VideoResult:
        """The result for one video file; raises `VideoError` where `tag_videos` would give a failure."""
        (result,) = self.tag_videos(
            [path],
            top_k=top_k,
            min_score=min_score,
            exits=exits,
            max_gmacs=max_gmacs,
            window=window,
            stride=stride,
            decode=decode,
        )
        if isinstance(result, Failure):
            raise VideoError(result.message, stage=result.stage)
        return result

    def tag_videos(
        self,
        paths: Iterable[str | Path],
        *,
        top_k: int = 5,
        min_score: float | None = None,
        exits: str | Path | None = None,
        max_gmacs: float | None = None,
        window: float | None = None,
        stride: float | None = None,
        decode: Decode = "exact",
    ) -> Iterator[VideoResult | Failure]:
        """Results and failures, one a path, in their order, while later videos are being decoded.

        `exits` is a file of thresholds for this model and `max_gmacs` a hard cap on every video's cost; without them
        nothing is skipped. `window` and `stride` are seconds: each window is tagged as a clip of its own. With
        `decode="fast"` the keyframes nearest to the wanted frames are taken for them.
        """
        if isinstance(paths, str | Path):
            raise UsageError(f"{paths} is one path, but tag_videos takes several; give a list, or call tag_video")
        request = TagRequest(
            top_k=top_k,
            min_score=min_score,
            exits=exits,
            max_gmacs=max_gmacs,
            windows=Windowing.of(window, stride),
            decode=decode,
        )
        return tag_files(map(str, paths), lambda: self, request)
