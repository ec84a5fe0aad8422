"""How fast a batch goes, how long it will take, and, at its end, what became of it.

Knows nothing of how results are made.
"""

from __future__ import annotations

from pathlib import PurePath
from time import monotonic
from typing import TYPE_CHECKING

from adafocus_cli.cli.terminal import ProgressBar, Terminal
from adafocus_cli.output.escape import printable
from adafocus_cli.output.times import clock, duration

if TYPE_CHECKING:
    from adafocus_cli.engine.ledger import Tally
    from adafocus_cli.engine.windows import Watch
    from adafocus_cli.schema import VideoInfo

# How often progress is told where no bar is seen, as in the log of a scheduler.
_LINE_SECONDS = 60.0


class Pace:
    """Shows the progress of a batch from now on."""

    def __init__(self, tally: Tally, bar: ProgressBar, terminal: Terminal) -> None:
        self._tally, self._bar, self._terminal = tally, bar, terminal
        self._began = self._said = monotonic()

    @property
    def seconds(self) -> float:
        return monotonic() - self._began

    def show(self, total: int | None) -> None:
        tally = self._tally
        pace = self._text(total)
        self._bar.update(done=tally.all, total=total, failed=tally.failures, pace=pace)
        if not self._bar.visible and monotonic() - self._said >= _LINE_SECONDS:
            self._said = monotonic()
            of = "" if total is None else f" of {total}"
            self._terminal.note(f"{tally.all}{of} done{pace}, {tally.failures} failed")

    def watch(self, video: VideoInfo, share: float) -> None:
        """Shows how far a video is that goes window by window."""
        film_time(self._bar)(video, share)
        if not self._bar.visible and monotonic() - self._said >= _LINE_SECONDS:
            self._said = monotonic()
            self._terminal.note(_so_far(video, share))

    def _text(self, total: int | None) -> str:
        rate = self._tally.new / max(self.seconds, 1e-3)
        left = "" if total is None or not rate else f", {duration((total - self._tally.all) / rate)} left"
        return f", {rate:.3g}/s{left}"


def film_time(bar: ProgressBar) -> Watch:
    """Shows on a bar how far a video is, in its own time."""
    return lambda video, share: bar.within(_so_far(video, share), share)


def _so_far(video: VideoInfo, share: float) -> str:
    name, length = printable(PurePath(video.path).name), video.duration
    if length is None:
        return f"{name} {100 * share:.0f} %"
    return f"{name} {clock(share * length)} of {clock(length)}"


def summary(tally: Tally, seconds: float) -> list[str]:
    """What became of the videos, what they cost, where the time went."""
    counts = {"tagged": tally.tagged, "copied from their twins": tally.copied, "done before": tally.done_before}
    parts = [f"{count} {name}" for name, count in counts.items() if count or name == "tagged"]
    kinds = ", ".join(f"{count} {kind}" for kind, count in tally.failed.most_common())
    parts.append(f"{tally.failures} failed ({kinds})" if kinds else "0 failed")
    lines = [" · ".join(parts)]
    if tally.tagged:
        mean, share = tally.gmacs / tally.tagged, tally.gmacs / tally.full_frame_gmacs
        lines.append(
            f"{tally.new / max(seconds, 1e-3):.3g} videos/s in {duration(seconds)} · {mean:.4g} GMACs a video, "
            f"{share:.0%} of whole frames".replace("%", " %")
        )
        spent = tally.seconds
        lines.append(
            f"the model took {duration(spent['infer'])}, decoding {duration(spent['decode'])}, summed over the videos "
            "that went at the same time"
        )
    return lines
