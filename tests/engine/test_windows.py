"""Videos that are tagged window by window: real clips, real decoding processes, tiny models."""

from __future__ import annotations

import threading

import pytest

from adafocus_cli.engine.local import tag_as_they_come, tag_files
from adafocus_cli.errors import VideoError
from adafocus_cli.requests import TagRequest
from adafocus_cli.video.framing import Framing
from adafocus_cli.video.limits import Deadline, DecoderError, Limits
from adafocus_cli.video.process import VideoProcess
from adafocus_cli.video.pyav_reader import Cursor, PyAVReader
from adafocus_cli.video.windows import Windowing
from tests.clips import cut_off, numbered_clip
from tests.conftest import without_timings
from tests.tiny import tiny_tagger

WINDOWS = TagRequest(workers=2, windows=Windowing(2.0, 1.0))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Ten seconds without loss, with frames that are stored in another order than they are shown in."""
    options = {"crf": "0", "x264-params": "bframes=3:keyint=60"}
    return str(numbered_clip(tmp_path_factory.mktemp("clips") / "long.mp4", frames=250, options=options))


@pytest.fixture(scope="module")
def tagger():
    return tiny_tagger("adafocus-v2")


@pytest.mark.parametrize("family", ["adafocus-v1", "adafocus-v2", "adafocus-v2-tsm", "uni-adafocus"])
def test_one_window_gives_the_answer_of_the_whole_video(clip, family):
    tagger = tiny_tagger(family)
    plain = without_timings(tagger.tag_video(clip).to_dict())
    windowed = without_timings(tagger.tag_video(clip, window=60).to_dict())
    (window,) = windowed.pop("windows")
    (segment,) = windowed.pop("segments")
    for tag in windowed["labels"]:
        assert tag.pop("best") == {"window": 0, "score": tag["score"]}
    assert windowed == plain
    assert {name: plain[name] for name in ("labels", "cost", "trajectory", "exit")}.items() <= window.items()
    assert (window["start"], window["end"], segment["end"]) == (0.0, 10.0, 10.0)


@pytest.mark.parametrize("family", ["adafocus-v2", "uni-adafocus"])
def test_a_window_is_tagged_as_a_clip_of_its_own(clip, family, tmp_path):
    tagger = tiny_tagger(family)
    second = tagger.tag_video(clip, window=4, stride=2).windows[1]
    alone = tagger.tag_video(
        numbered_clip(tmp_path / "part.mp4", frames=100, first_number=50, options={"crf": "0"}), top_k=5
    )
    assert [look.frame - 50 for look in second.trajectory] == [look.frame for look in alone.trajectory]
    assert second.cost == alone.cost
    assert (second.start, second.end) == (2.0, 6.0)


def test_what_windows_say_adds_up(clip, tagger):
    result = tagger.tag_video(clip, window=2, stride=1)
    assert len(result.windows) == 9
    assert result.cost.gmacs == pytest.approx(sum(window.cost.gmacs for window in result.windows))
    assert [look.step for look in result.trajectory] == list(range(16 * 9))
    times = [look.time for look in result.trajectory]
    assert all(9.0 > window.start <= look.time < window.end for window in result.windows for look in window.trajectory)
    assert (min(times) < 0.2, max(times) > 9.8) == (True, True)
    best = result.labels[0].best
    assert best is not None
    peak = next(tag for tag in result.windows[best.window].labels if tag.index == result.labels[0].index)
    assert peak.score == best.score >= result.labels[0].score
    assert result.step_logits.shape == (9, 7)


def test_no_packet_is_decoded_twice_and_shared_frames_count_once(clip, monkeypatch):
    """Every frame is wanted by some window, and most by two."""
    fed = []
    feed = Cursor._decode
    monkeypatch.setattr(Cursor, "_decode", lambda self, packet: fed.append(packet and packet.pts) or feed(self, packet))
    limits = Limits()
    reader = PyAVReader(clip, name=clip, limits=limits, deadline=Deadline(clip, limits, "open"))
    fed.clear()
    for first in range(0, 240, 10):
        reader.read(range(first, first + 10), framing=Framing(64), deadline=Deadline(clip, limits, "decode"))
    reader.close()
    assert len(fed) == len(set(fed)) > 200


def test_frames_are_asked_for_once_and_forwards(clip, tagger, monkeypatch):
    asked = []
    frames = VideoProcess.frames
    monkeypatch.setattr(
        VideoProcess,
        "frames",
        lambda self, video, indices, **how: asked.extend(indices) or frames(self, video, indices, **how),
    )
    result = tagger.tag_video(clip, window=3, stride=0.7)
    assert asked == sorted(set(asked))
    assert result.frames_decoded == len(asked) < 16 * len(result.windows)


def test_windows_are_the_same_alone_in_company_and_in_any_order_of_completion(clip, tagger, tmp_path):
    other = str(numbered_clip(tmp_path / "other.mp4", frames=130, first_number=900))
    alone = {path: without_timings(tagger.tag_video(path, window=2, stride=1).to_dict()) for path in (clip, other)}
    for lanes in (1, 4):
        company = tiny_tagger("adafocus-v2", lanes=lanes)
        for result in tag_as_they_come([clip, other] * 2, company, WINDOWS):
            record = without_timings(result.to_dict())
            assert [s["label"] for s in record["segments"]] == [
                s["label"] for s in alone[result.video.path]["segments"]
            ]
            assert lanes > 1 or record == alone[result.video.path]


def test_max_gmacs_is_of_each_window(clip, tagger):
    whole = tagger.tag_video(clip)
    capped = tagger.tag_video(clip, window=2, stride=1, max_gmacs=whole.cost.gmacs / 2)
    assert all(window.cost.gmacs <= whole.cost.gmacs / 2 for window in capped.windows)
    assert capped.exit.step < whole.exit.step


def test_bad_files_fail_once_and_the_others_go_on(clip, tagger, tmp_path):
    broken = numbered_clip(tmp_path / "broken.mp4", frames=100)
    cut_off(broken, 0.01)
    results = list(tag_files([str(broken), clip, "absent.mp4"], lambda: tagger, WINDOWS))
    assert [result.status for result in results] == ["error", "ok", "error"]


def test_a_window_that_breaks_the_model_fails_the_video_once(clip, tagger, monkeypatch):
    result_of = type(tagger).result
    seen = []

    def breaks_at_third(self, run, **options):
        seen.append(run.clip.window.index)
        if run.clip.window.index == 2:
            raise VideoError("it broke", stage="infer")
        return result_of(self, run, **options)

    monkeypatch.setattr(type(tagger), "result", breaks_at_third)
    (failure,) = tag_files([clip], lambda: tagger, TagRequest(workers=1, windows=Windowing(0.5, 0.1)))
    assert (failure.stage, failure.message) == ("infer", "it broke")
    assert len(seen) < 20  # of 96: the rest was not wanted


def test_a_decoder_lost_on_the_way_has_the_other_one_go_on(clip, tagger, monkeypatch):
    frames = VideoProcess.frames
    asked = []

    def lost_once(self, video, indices, **how):
        asked.append((video.decoder, indices[0]))
        if len(asked) == 4:
            raise DecoderError("lost", stage="decode")
        return frames(self, video, indices, **how)

    monkeypatch.setattr(VideoProcess, "frames", lost_once)
    monkeypatch.setattr("adafocus_cli.engine.decoding.other_decoder", lambda decoder: "pyav")
    (result,) = tag_files([clip], lambda: tagger, TagRequest(workers=1, windows=Windowing(2.0, 1.0)))
    assert len(result.windows) == 9
    assert [decoder for decoder, _ in asked[:4]] == ["auto"] * 4
    assert {decoder for decoder, _ in asked[4:]} == {"pyav"}
    assert asked[4][1] > asked[0][1]  # not from the start


def test_short_videos_that_wait_for_looks_are_not_held_up_by_a_long_one(clip, tagger, tmp_path):
    """The one child that has them open goes through the long one, whose windows nobody takes meanwhile."""
    short = [str(numbered_clip(tmp_path / f"{n}.mp4", frames=40, first_number=100 * n)) for n in range(2)]
    options = TagRequest(workers=1, windows=Windowing(2.0, 0.5), max_gmacs=100)
    results, found = tag_files([*short, clip], lambda: tagger, options), []
    thread = threading.Thread(target=lambda: found.extend(results), daemon=True)
    thread.start()
    thread.join(60)
    assert [result.status for result in found] == ["ok"] * 3
    assert [len(result.windows) for result in found] == [1, 1, 17]


def test_closing_in_the_middle_of_a_video_ends_everything(clip, tagger):
    stop = threading.Event()
    told = []

    def watch(video, share):
        told.append(share)
        stop.set()

    (result,) = tag_as_they_come(
        [clip, clip], tagger, TagRequest(workers=1, windows=Windowing(2.0, 1.0)), stop=stop, watch=watch
    )
    assert result.status == "ok"
    assert told == pytest.approx([(i + 1) / 9 for i in range(9)])
    results = tag_files([clip] * 3, lambda: tagger, WINDOWS)
    next(results)
    results.close()
