"""For throughput: several loops at a time, lost decoders, too little memory on the device, and coming to an end."""

from __future__ import annotations

import sys
import threading
from collections import Counter, defaultdict
from contextlib import closing, nullcontext, suppress
from pathlib import Path

import pytest
import torch

from adafocus_cli.engine.local import tag_as_they_come
from adafocus_cli.requests import TagRequest
from adafocus_cli.video.limits import DecoderError, Limits
from adafocus_cli.video.process import VideoProcess
from tests.clips import numbered_clip
from tests.conftest import without_timings
from tests.tiny import tiny_tagger


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return [str(numbered_clip(folder / f"{n}.mp4", frames=20 + 5 * n, first_number=100 * n)) for n in range(6)]


@pytest.fixture
def tagger():
    return tiny_tagger("adafocus-v2")


@pytest.fixture(autouse=True)
def same_number_of_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def records(results):
    return {r.to_dict()["video"]["path"]: without_timings(r.to_dict(logits=True)) for r in results}


def test_with_several_loops_a_video_has_the_record_it_has_alone(clips, tagger, monkeypatch):
    monkeypatch.setattr(tagger.runtime, "spread", lambda: nullcontext(3))
    together = records(tag_as_they_come(clips, tagger, TagRequest(workers=2)))
    assert together == records(tagger.tag_videos(clips))


def test_a_second_run_in_one_process_has_as_many_loops_as_the_first(clips, tagger, monkeypatch):
    torch.set_num_threads(3)
    loop, made = tagger.loop, []
    monkeypatch.setattr(tagger, "loop", lambda rule: made.append(1) or loop(rule))
    for run in (1, 2):
        assert len(list(tag_as_they_come(clips[:1], tagger, TagRequest(workers=1)))) == 1
        assert len(made) == 3 * run
    assert torch.get_num_threads() == 3


def test_a_video_that_hangs_holds_nobody_up(clips, tagger, monkeypatch):
    misbehave_on(monkeypatch, Path(clips[0]).name, "import time; time.sleep(1000)")
    options = TagRequest(workers=2, limits=Limits(seconds=6.0))
    results = list(tag_as_they_come(clips, tagger, options))
    assert [r.status for r in results] == ["ok"] * 5 + ["error"]
    assert results[-1].path == clips[0]


def test_an_error_in_one_loop_is_raised_when_the_others_are_through(clips, tagger, monkeypatch):
    monkeypatch.setattr(tagger.runtime, "spread", lambda: nullcontext(2))

    def broken():
        yield from clips[:3]
        raise OSError("the list is gone")

    results = tag_as_they_come(broken(), tagger, TagRequest())
    assert [next(results).status for _ in range(3)] == ["ok"] * 3
    with pytest.raises(OSError, match="the list is gone"):
        next(results)


@pytest.mark.parametrize("loops", [1, 2])
def test_stopping_finishes_what_is_in_flight_and_begins_nothing(clips, tagger, monkeypatch, loops):
    monkeypatch.setattr(tagger.runtime, "spread", lambda: nullcontext(loops))
    stop, taken = threading.Event(), []

    def endless():
        while True:
            taken.append(1)
            yield clips[len(taken) % len(clips)]

    results = tag_as_they_come(endless(), tagger, TagRequest(workers=1), stop=stop)
    first = next(results)
    stop.set()
    rest = list(results)
    assert {r.status for r in [first, *rest]} == {"ok"}
    assert 1 + len(rest) <= len(taken)


def test_stopping_does_not_wait_for_paths_that_do_not_come(clips, tagger):
    stop, never = threading.Event(), threading.Event()

    def slow():
        yield clips[0]
        never.wait(60)

    results = tag_as_they_come(slow(), tagger, TagRequest(), stop=stop)
    assert next(results).status == "ok"
    stop.set()
    assert list(results) == []
    never.set()


@pytest.mark.parametrize("loops", [1, 2, 3])
def test_a_consumer_that_fails_does_not_wait_for_paths_that_may_still_come(clips, tagger, monkeypatch, loops):
    monkeypatch.setattr(tagger.runtime, "spread", lambda: nullcontext(loops))
    never = threading.Event()

    def slow():
        yield clips[0]
        never.wait(60)

    def consume():
        with suppress(OSError), closing(tag_as_they_come(slow(), tagger, TagRequest(workers=2))) as results:
            next(results)
            raise OSError("the disk is full")

    consumer = threading.Thread(target=consume, daemon=True)
    consumer.start()
    consumer.join(30)
    ended = not consumer.is_alive()
    never.set()
    assert ended


# Children

SLOW = "__import__('time').sleep(3)"


def test_a_video_stays_with_the_child_that_opened_it(clips, tagger, monkeypatch):
    by_path, calls = defaultdict(set), Counter()

    def spied_on(name):
        original = getattr(VideoProcess, name)

        def spy(self, video, *given, **how):
            by_path[video if isinstance(video, str) else video.info.path].add(self)
            calls[name] += 1
            return original(self, video, *given, **how)

        return spy

    for name in ("open", "frames"):
        monkeypatch.setattr(VideoProcess, name, spied_on(name))
    results = list(tag_as_they_come(clips, tagger, TagRequest(workers=4, max_gmacs=100)))
    assert [result.status for result in results] == ["ok"] * 6
    assert calls["frames"] >= 2 * calls["open"] == 12
    assert {path: len(children) for path, children in by_path.items()} == dict.fromkeys(clips, 1)
    assert len(set.union(*by_path.values())) == 4


def test_later_looks_go_on_with_a_new_child_where_theirs_was_killed(clips, tagger, monkeypatch):
    (expected,) = tag_as_they_come(clips[:1], tagger, TagRequest(max_gmacs=100))
    original, calls = VideoProcess.frames, []

    def frames(self, video, indices, **how):
        calls.append(indices)
        if len(calls) == 2:
            self._child.kill()
            self._child.wait()
        return original(self, video, indices, **how)

    monkeypatch.setattr(VideoProcess, "frames", frames)
    (result,) = tag_as_they_come(clips[:1], tagger, TagRequest(workers=2, max_gmacs=100))
    assert len(calls) > 2
    assert without_timings(result.to_dict(logits=True)) == without_timings(expected.to_dict(logits=True))


def test_a_thread_that_ends_takes_no_child_with_it(clips, tagger, monkeypatch):
    """Linux ends a child with the thread that launched it, and the other decoder would take its place."""
    misbehave_on(monkeypatch, Path(clips[1]).name, SLOW)
    results, first = tagger.tag_videos(clips[:2]), []
    thread = threading.Thread(target=lambda: first.append(next(results)))
    thread.start()
    thread.join()
    assert [result.video.decoder for result in (*first, *results)] == ["pyav", "pyav"]


# Decoders that are lost

CRASH = "import ctypes; ctypes.string_at(0)"
EAT = "raise MemoryError"


def misbehave_on(monkeypatch, name, fault, *, decoder="", at="open"):
    """The child is the real one but for what it does on one file, opening or decoding it (with one decoder only)."""
    child = (
        "from adafocus_cli.video import server, decode\n"
        "original_open, original_frames = decode.open_video, decode.Video.frames\n"
        "def poisoned(path, decoder):\n"
        f"    if {name!r} in path and decoder.startswith({decoder!r}): {fault}\n"
        "def open_video(path, *args, **kwargs):\n"
        f"    if {at!r} == 'open': poisoned(path, kwargs['decoder'])\n"
        "    return original_open(path, *args, **kwargs)\n"
        "def frames(self, wanted, **kwargs):\n"
        f"    if {at!r} == 'decode': poisoned(self._path, self.info.decoder)\n"
        "    return original_frames(self, wanted, **kwargs)\n"
        "decode.open_video = server.open_video = open_video\n"
        "decode.Video.frames = frames\n"
        "server.main()\n"
    )
    monkeypatch.setattr(VideoProcess, "_command", (sys.executable, "-c", child))


@pytest.mark.parametrize(("at", "decoder"), [("open", "auto"), ("decode", "pyav")])
@pytest.mark.parametrize("fault", [CRASH, EAT])
def test_the_other_decoder_takes_the_place_of_one_that_was_lost(clips, tagger, monkeypatch, fault, at, decoder):
    pytest.importorskip("decord")
    misbehave_on(monkeypatch, Path(clips[0]).name, fault, decoder=decoder, at=at)
    first, second = sorted(
        tag_as_they_come(clips[:2], tagger, TagRequest(workers=1)), key=lambda result: result.video.path
    )
    assert (first.status, first.video.decoder) == ("ok", "decord")
    assert (second.status, second.video.decoder) == ("ok", "pyav")


def test_a_decoder_that_is_lost_after_the_first_frames_is_replaced_too(clips, tagger, monkeypatch):
    pytest.importorskip("decord")
    calls = []
    original = VideoProcess.frames

    def lost_later(self, video, indices, **how):
        calls.append(video.decoder)
        if len(calls) == 2:
            raise DecoderError(f"{video.info.path}: it crashed", stage="decode")
        return original(self, video, indices, **how)

    monkeypatch.setattr(VideoProcess, "frames", lost_later)
    (result,) = tag_as_they_come(clips[:1], tagger, TagRequest(workers=1, max_gmacs=100))
    assert (result.status, result.video.decoder) == ("ok", "decord")
    assert calls[:3] == ["auto", "auto", "decord"]


def test_a_video_that_both_decoders_are_lost_on_has_one_record_that_says_so(clips, tagger, monkeypatch):
    pytest.importorskip("decord")
    misbehave_on(monkeypatch, Path(clips[0]).name, CRASH)
    (failure,) = tag_as_they_come(clips[:1], tagger, TagRequest(workers=1))
    assert (failure.type, failure.stage) == ("DecoderError", "open")
    assert "the decoder crashed (SIGSEGV)" in failure.message
    assert failure.message.endswith("(decord failed on it as well)")


def test_one_who_was_asked_for_by_name_has_no_substitute(clips, tagger, monkeypatch):
    misbehave_on(monkeypatch, Path(clips[0]).name, CRASH)
    (failure,) = tag_as_they_come(clips[:1], tagger, TagRequest(workers=1, decoder="pyav"))
    assert "as well" not in failure.message


# A device with too little memory


def out_of_memory_above(tagger, monkeypatch, lanes):
    original, sizes = tagger.runtime.classify, []

    def classify(turn, seen, focused, memory):
        sizes.append(len(seen))
        if len(seen) > lanes:
            raise torch.OutOfMemoryError("no room")
        return original(turn, seen, focused, memory)

    monkeypatch.setattr(tagger.runtime, "classify", classify)
    return sizes


def test_a_batch_that_does_not_fit_is_halved_and_stays_so(clips, monkeypatch, caplog):
    tagger = tiny_tagger("adafocus-v2", lanes=8)
    sizes = out_of_memory_above(tagger, monkeypatch, 2)
    results = list(tag_as_they_come(clips, tagger, TagRequest(workers=2)))
    assert [r.status for r in results] == ["ok"] * 6
    assert sizes[:2] == [8, 4]
    assert set(sizes[2:]) == {2}
    assert "out of memory with 8 videos at a time" in caplog.text


def test_a_video_that_does_not_fit_alone_fails(clips, monkeypatch):
    tagger = tiny_tagger("adafocus-v2", lanes=2)
    out_of_memory_above(tagger, monkeypatch, 0)
    results = list(tag_as_they_come(clips[:2], tagger, TagRequest(workers=1)))
    assert [(r.status, r.type, r.stage) for r in results] == [("error", "OutOfMemoryError", "infer")] * 2
