"""From paths to results: real clips, real decoding processes, a tiny model."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
import torch

from adafocus_cli.engine import local
from adafocus_cli.engine.local import tag_as_they_come, tag_files
from adafocus_cli.errors import ModelError, UsageError, VideoError
from adafocus_cli.requests import TagRequest
from adafocus_cli.video.limits import Limits
from adafocus_cli.video.process import VideoProcess
from tests.clips import cut_off, flip_bytes, numbered_clip
from tests.conftest import without_timings
from tests.tiny import tiny_tagger


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return [str(numbered_clip(folder / f"{n}.mp4", frames=20 + 5 * n, first_number=100 * n)) for n in range(8)]


@pytest.fixture(scope="module")
def tagger():
    return tiny_tagger("adafocus-v2")


def children():
    """The decoding processes of this one; they are told whose they are."""
    done = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if f"video.server {os.getpid()} " in line]


@pytest.fixture(autouse=True)
def no_child_is_left(monkeypatch):
    monkeypatch.setattr(VideoProcess, "_start_child", subprocess.Popen)  # a forked one is not told
    before = children()
    yield
    assert children() == before


def test_results_come_in_the_order_of_the_paths_whatever_fails_between(clips, tagger):
    paths = [clips[3], "absent.mp4", clips[0], __file__, clips[1]]
    results = list(tag_files(paths, lambda: tagger, TagRequest(workers=3)))
    assert [r.status for r in results] == ["ok", "error", "ok", "error", "ok"]
    assert [r.to_dict()["video"]["path"] for r in results] == paths
    assert results[1].stage == "open"
    assert "there is no such file" in results[1].message


@pytest.mark.parametrize("family", ["adafocus-v1", "adafocus-v2-tsm", "uni-adafocus", "uni-adafocus-tsm"])
def test_a_video_has_the_same_record_alone_among_others_and_again(clips, family):
    tagger = tiny_tagger(family)
    together = [
        without_timings(r.to_dict(logits=True)) for r in tag_files(clips, lambda: tagger, TagRequest(workers=2))
    ]
    again = [without_timings(r.to_dict(logits=True)) for r in tagger.tag_videos(clips)]
    alone = [without_timings(tagger.tag_video(path).to_dict(logits=True)) for path in (clips[0], clips[-1])]
    assert together == again
    assert [together[0], together[-1]] == alone
    assert all(record["video"]["frames_replaced"] == 0 for record in alone)


def test_frames_are_decoded_when_they_are_needed(clips, tagger, monkeypatch):
    asked = []
    original = VideoProcess.frames

    def spy(self, video, indices, **how):
        asked.append(list(indices))
        return original(self, video, indices, **how)

    monkeypatch.setattr(VideoProcess, "frames", spy)
    options = TagRequest(max_gmacs=tagger._meter.of_turns(tagger.family.turns(4))[0].total() / 1e9 * 1.01)
    (result,) = tag_files(clips[:1], lambda: tagger, options)
    assert len(asked) == 1
    assert len(asked[0]) == result.frames_decoded == 4


def test_idle_cores_decode_one_file_and_a_batch_keeps_one_for_each(tmp_path, tagger, monkeypatch):
    path, asked = str(numbered_clip(tmp_path / "one.mp4", frames=20)), []
    usual = VideoProcess.open

    def noting(self, *given, threads, **how):
        asked.append(threads)
        return usual(self, *given, threads=threads, **how)

    monkeypatch.setattr(VideoProcess, "open", noting)
    monkeypatch.setattr("adafocus_cli.engine.decoding.cores", lambda: 3)
    (alone,) = tag_files([path], lambda: tagger)
    (in_batch,) = tag_as_they_come([path], tagger, TagRequest())
    assert asked == [3, 1]
    assert without_timings(alone.to_dict(logits=True)) == without_timings(in_batch.to_dict(logits=True))


def test_fast_decoding_shows_keyframes_and_says_which(tmp_path, tagger):
    path = str(numbered_clip(tmp_path / "many.mp4", frames=200, options={"g": "10", "x264-params": "scenecut=0"}))

    (exact,) = tag_files([path], lambda: tagger)
    (fast,) = tag_files([path], lambda: tagger, TagRequest(decode="fast"))

    assert {look.frame % 10 for look in exact.trajectory} != {0}
    assert {look.frame % 10 for look in fast.trajectory} == {0}
    assert [look.time for look in fast.trajectory] == pytest.approx([look.frame / 25 for look in fast.trajectory])
    off = [abs(f.frame - e.frame) for f, e in zip(fast.trajectory, exact.trajectory, strict=True)]
    assert (fast.video.decode, fast.video.frames_off) == ("fast", max(off))
    assert (exact.video.decode, exact.video.frames_off) == ("exact", 0)
    assert fast.video.frames_replaced == 0
    assert fast.to_dict()["video"]["decode"] == "fast"


def test_fast_decoding_shows_the_keyframes_even_where_they_are_few(tmp_path, tagger):
    path = str(numbered_clip(tmp_path / "few.mp4", frames=200, options={"g": "100", "x264-params": "scenecut=0"}))

    (fast,) = tag_files([path], lambda: tagger, TagRequest(decode="fast"))

    assert {look.frame for look in fast.trajectory} == {0, 100}
    assert (fast.video.decode, fast.frames_decoded) == ("fast", 2)
    assert 30 < fast.video.frames_off <= 100


def test_fast_decoding_is_exact_where_keyframes_cannot_be_reached(tmp_path, tagger):
    path = str(numbered_clip(tmp_path / "not.ts", frames=200, options={"g": "10", "x264-params": "scenecut=0"}))

    (fast,) = tag_files([path], lambda: tagger, TagRequest(decode="fast"))
    (exact,) = tag_files([path], lambda: tagger)

    assert without_timings(fast.to_dict(logits=True)) == without_timings(exact.to_dict(logits=True))
    assert fast.video.decode == "exact"


@pytest.mark.parametrize("limit", [{"top_k": 0}, {"min_score": 50}])
def test_limits_of_an_answer_that_cannot_be(tagger, limit):
    with pytest.raises(UsageError, match=r"top_k is 0; .* 1 or more|min_score is 50; .* 0 to 1"):
        list(tagger.tag_videos(["a.mp4"], **limit))


def test_a_way_of_decoding_that_nobody_knows(tagger):
    with pytest.raises(UsageError, match="decode is 'quick'; it is exact or fast"):
        list(tagger.tag_videos(["a.mp4"], decode="quick"))


def test_fast_decoding_is_not_for_windows(tagger):
    with pytest.raises(UsageError, match="--decode fast is not for windows"):
        list(tagger.tag_videos(["a.mp4"], decode="fast", window=2))


def test_decoding_begins_before_the_model_is_there(clips, tagger):
    opened = threading.Event()
    original = VideoProcess.open

    def load():
        assert opened.wait(30), "no video was opened while the model was loading"
        return tagger

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VideoProcess, "open", lambda self, path, **how: opened.set() or original(self, path, **how))
        (result,) = tag_files(clips[:1], load)
    assert result.status == "ok"


def test_a_model_that_cannot_be_loaded_ends_it_at_once(clips):
    def load():
        raise ModelError("no such weights")

    with pytest.raises(ModelError, match="no such weights"):
        list(tag_files(clips, load))


def test_paths_may_come_slowly_and_are_not_waited_for(clips, tagger):
    """The second path comes only when the first result is out."""
    out = threading.Event()

    def slowly():
        yield clips[0]
        assert out.wait(30)
        yield clips[1]

    results = tag_files(slowly(), lambda: tagger)
    assert next(results).video.path == clips[0]
    out.set()
    assert next(results).video.path == clips[1]
    assert list(results) == []


def test_paths_that_break_off_end_the_run_with_their_error(clips, tagger):
    def broken():
        yield clips[0]
        raise OSError("the list is gone")

    results = tag_files(broken(), lambda: tagger)
    assert next(results).status == "ok"
    with pytest.raises(OSError, match="the list is gone"):
        next(results)


def test_an_error_of_the_model_costs_its_video_only(clips, tagger, monkeypatch):
    original = tagger.family.focus
    calls = []

    def fails_once(patches):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of\n  memory")
        return original(patches)

    monkeypatch.setattr(tagger.family, "focus", fails_once)
    results = list(tag_files(clips[:3], lambda: tagger))
    assert sorted(r.status for r in results) == ["error", "ok", "ok"]
    (failure,) = [r for r in results if r.status == "error"]
    assert (failure.stage, failure.type, failure.message) == ("infer", "RuntimeError", "out of memory")


CRASHES = "import ctypes; ctypes.string_at(0)"
HANGS = "import time; time.sleep(1000)"


@pytest.mark.parametrize(("fault", "complaint"), [(CRASHES, "crashed .SIGSEGV."), (HANGS, "took longer than 6 sec")])
def test_a_decoder_that_crashes_or_hangs_costs_one_record(clips, tagger, monkeypatch, fault, complaint, tmp_path):
    """The child is the real one but for what it does on a file called poison."""
    poison = tmp_path / "poison.mp4"
    poison.write_bytes(b"x" * 100)
    child = (
        "from adafocus_cli.video import server, decode\n"
        "original = decode.open_video\n"
        "def open_video(path, *args, **kwargs):\n"
        f"    if 'poison' in path: {fault}\n"
        "    return original(path, *args, **kwargs)\n"
        "decode.open_video = server.open_video = open_video\n"
        "server.main()\n"
    )
    monkeypatch.setattr(VideoProcess, "_command", (sys.executable, "-c", child))
    options = TagRequest(workers=1, limits=Limits(seconds=6.0))
    results = list(tag_files([clips[0], str(poison), clips[1]], lambda: tagger, options))
    assert [r.status for r in results] == ["ok", "error", "ok"]
    assert complaint.replace(".", "") in results[1].message.replace("(", "").replace(")", "")


def test_stopping_in_the_middle_leaves_no_process(clips, tagger):
    taken = []
    paths = (taken.append(path) or path for path in clips * 50)
    results = tag_files(paths, lambda: tagger, TagRequest(workers=3))
    next(results)
    assert children()
    results.close()
    assert children() == []
    assert len(taken) < len(clips) * 50, "the others were begun"


def test_stopping_in_the_middle_leaves_no_thread(clips, tagger):
    results = tag_files(clips * 10, lambda: tagger, TagRequest(workers=1))
    next(results)
    results.close()
    ending = [thread for thread in threading.enumerate() if thread.name == "paths"]
    for thread in ending:
        thread.join(5)
    assert not any(thread.is_alive() for thread in ending)


def test_an_answer_that_is_no_number_is_a_failure(clips, tagger, monkeypatch):
    nothing = torch.full((), float("nan"))
    original = tagger.runtime.classify
    monkeypatch.setattr(tagger.runtime, "classify", lambda *stages: original(*stages) * nothing)
    (failure,) = tagger.tag_videos(clips[:1])
    assert (failure.status, failure.stage) == ("error", "infer")
    assert failure.message.startswith(f"{clips[0]}: the model's answer is no number")


def test_one_video_raises_its_error(tagger):
    with pytest.raises(VideoError, match="there is no such file") as caught:
        tagger.tag_video("absent.mp4")
    assert caught.value.stage == "open"


def test_the_engine_loads_neither_torch_nor_a_decoder():
    script = (
        "import sys; import adafocus_cli.engine.local\n"
        "print([m for m in ('torch', 'av', 'decord') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert local.TagRequest().workers >= 1


def test_damage_is_counted_once_however_often_a_video_is_asked_for(tmp_path, tagger, monkeypatch):
    path = str(flip_bytes_in(tmp_path / "damaged.ts"))
    (whole,) = tagger.tag_videos([path])
    (in_groups,) = tagger.tag_videos([path], max_gmacs=100)
    assert whole.video.packets_damaged == in_groups.video.packets_damaged > 0


def flip_bytes_in(path):
    flip_bytes(numbered_clip(path, frames=200), start=0.3, stop=0.7)
    return path


def test_a_file_that_was_cut_off_behind_its_table_of_contents_says_so(tmp_path, tagger, caplog):
    path = numbered_clip(tmp_path / "cut.mp4", frames=200, container_options={"movflags": "faststart"})
    cut_off(path, 0.6)
    (result,) = tagger.tag_videos([path])
    assert result.video.frames < 200
    assert f"only {result.video.frames} of its 200 frames are in the file" in caplog.text
