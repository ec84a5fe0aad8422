"""Videos on other storage: a web server in the test, and fsspec's own memory."""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
import time

import pytest

from adafocus_cli.cli.inputs import expand, expand_listed
from adafocus_cli.engine.local import tag_as_they_come
from adafocus_cli.errors import UsageError, VideoError
from adafocus_cli.output.records import SourceFile
from adafocus_cli.requests import TagRequest
from adafocus_cli.video import remote
from adafocus_cli.video.limits import Limits
from adafocus_cli.video.remote import Copies, is_remote
from tests.clips import numbered_clip
from tests.conftest import without_timings
from tests.storage import served
from tests.tiny import tiny_tagger

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    numbered_clip(folder / "a.mp4", frames=20)
    (folder / "sub").mkdir()
    numbered_clip(folder / "sub" / "b.mkv", frames=25, first_number=100)
    for name in ("cut.mp4", "slow.mp4", "closed.mp4", ".hidden.mp4", "notes.txt"):
        shutil.copy(folder / "a.mp4", folder / name)
    (folder / "rubbish.avi").write_text("rubbish")
    return folder


@pytest.fixture(scope="module")
def web(clips):
    with served(clips) as address:
        yield address


@pytest.fixture
def memory(clips):
    """The same in the memory of this process."""
    storage = fsspec.filesystem("memory")
    for name in ("a.mp4", "sub/b.mkv", "notes.txt", ".hidden.mp4", ".trash/c.mp4"):
        source = clips / (name if (clips / name).exists() else "a.mp4")
        storage.pipe_file(f"/clips/{name}", source.read_bytes())
    yield storage
    storage.rm("/clips", recursive=True)


@pytest.fixture(autouse=True)
def copies(tmp_path, monkeypatch):
    """Where copies are made; none is left."""
    folder = tmp_path / "copies"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def tagged(paths, **limits):
    options = TagRequest(workers=2, limits=Limits(**limits))
    return {r.to_dict()["video"]["path"]: r for r in tag_as_they_come(paths, tiny_tagger("adafocus-v2"), options)}


def test_a_remote_video_has_the_record_of_its_file_under_its_address(clips, web, memory):
    addresses = [f"{web}/a.mp4?token=1*2", "memory://clips/a.mp4", f"file://{clips}/a.mp4"]
    found = tagged(addresses)
    (local,) = tagged([str(clips / "a.mp4")]).values()
    assert set(found) == set(addresses)
    for address in addresses:
        record, expected = (without_timings(r.to_dict(logits=True)) for r in (found[address], local))
        assert record.pop("video") == {**expected.pop("video"), "path": address}
        assert record == expected


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("/absent.mp4", "there is no such file"),
        ("/closed.mp4", "no permission"),
        ("/cut.mp4", "it cannot be fetched"),
        ("/rubbish.avi", "not a video"),
    ],
)
def test_what_cannot_be_fetched_is_a_failure_of_one_line(web, name, complaint):
    found = tagged([web + name, f"{web}/a.mp4"])
    failure, good = found[web + name], found[f"{web}/a.mp4"]
    assert (failure.status, failure.stage, good.status) == ("error", "open", "ok")
    assert failure.message.startswith(f"{web}{name}: {complaint}")
    assert "\n" not in failure.message


def test_a_server_that_is_not_there_is_told_from_a_file_that_is_not_there():
    (failure,) = tagged(["http://127.0.0.1:9/a.mp4"]).values()
    assert "it cannot be fetched (Cannot connect" in failure.message


def test_a_fetch_that_takes_too_long_is_given_up(web):
    (failure,) = tagged([f"{web}/slow.mp4"], seconds=3.0).values()
    assert "longer than 3 seconds" in failure.message


def test_a_video_that_is_too_large_is_not_fetched(memory):
    (failure,) = tagged(["memory://clips/a.mp4"], max_bytes=1000).values()
    assert failure.type == "LimitError"


@pytest.mark.parametrize(("max_gmacs", "kept"), [(None, 1), (100.0, 6)])
def test_copies_go_when_nothing_more_is_decoded_and_all_when_the_run_is_broken_off(web, copies, max_gmacs, kept):
    endless = (f"{web}/a.mp4?{number}" for number in range(10**9))
    results = tag_as_they_come(endless, tiny_tagger("adafocus-v2"), TagRequest(workers=1, max_gmacs=max_gmacs))
    for _ in range(12):
        next(results)
        assert len(list(copies.glob("*/*"))) <= kept
    results.close()


def test_who_waits_for_a_slow_server_can_be_told_to_end(web):
    closing = threading.Event()
    held = Copies(Limits(), closing)
    threading.Timer(0.3, closing.set).start()
    began = time.monotonic()
    with pytest.raises(VideoError):
        held.fetch(f"{web}/slow.mp4")
    assert time.monotonic() - began < 30
    held.close()


# What there is


def test_folders_and_patterns_are_listed(web, memory):
    def found(entry):
        warnings = []
        return list(expand([entry], warn=warnings.append)), warnings

    for folder in ("memory://clips", "memory://clips/"):
        assert found(folder) == (["memory://clips/a.mp4", "memory://clips/sub/b.mkv"], [])
    assert found("memory://clips/*.mp4") == (["memory://clips/a.mp4"], [])
    assert found("memory://clips/**") == (["memory://clips/a.mp4", "memory://clips/sub/b.mkv"], [])
    assert found("memory://clips/*.avi") == (["memory://clips/*.avi"], [])
    assert found(f"{web}/sub/") == ([f"{web}/sub/b.mkv"], [])
    assert found(f"{web}/sub/*.mkv") == ([f"{web}/sub/b.mkv"], [])
    assert found(f"{web}/a.mp4?x=*") == ([f"{web}/a.mp4?x=*"], [])
    paths, warnings = found("memory://nowhere/")
    assert paths == []
    assert "no video files" in warnings[-1]


def test_lists_may_hold_folders_and_patterns(memory):
    assert len(list(expand_listed(["memory://clips/", "memory://clips/*.mp4"], warn=print))) == 3


@pytest.mark.parametrize("path", ["s3://bucket/*.mp4", "missing://a.mp4"])
def test_without_the_library_one_line_says_what_to_install(monkeypatch, path):
    known = {"class": "nowhere.Storage", "err": "install nowhere"}
    monkeypatch.setitem(sys.modules["fsspec.registry"].known_implementations, "missing", known)
    if path.startswith("s3"):
        monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(UsageError, match=r'pip install "adafocus-cli\[remote\]"'):
        list(expand([path], warn=print))


def test_an_address_that_nobody_knows_is_refused():
    with pytest.raises(UsageError, match="nowhere"):
        list(expand(["nowhere://a.mp4"], warn=print))
    assert list(expand_listed(["nowhere://a.mp4"], warn=print)) == ["nowhere://a.mp4"]
    assert not is_remote(r"C:\a.mp4")
    with pytest.raises(UsageError, match="https://: it names no server; give the whole address"):
        list(expand(["https://"], warn=print))


# What changed


def test_a_source_changes_with_what_the_storage_says(clips, web, memory):
    first = SourceFile.of("memory://clips/a.mp4")
    assert first == SourceFile.of("memory://clips/a.mp4")
    assert first.size == (clips / "a.mp4").stat().st_size
    memory.pipe_file("/clips/a.mp4", (clips / "a.mp4").read_bytes())
    assert SourceFile.of("memory://clips/a.mp4").fingerprint != first.fingerprint
    on_web = SourceFile.of(f"{web}/a.mp4")
    assert on_web.mtime_ns == int((clips / "a.mp4").stat().st_mtime) * 10**9
    assert on_web.digest != SourceFile.of(f"{web}/a.mp4?other").digest
    with pytest.raises(VideoError, match="there is no such file"):
        SourceFile.of(f"{web}/absent.mp4")


def test_an_empty_file_is_refused(memory):
    memory.pipe_file("/clips/empty.mp4", b"")
    with pytest.raises(VideoError, match="empty"):
        SourceFile.of("memory://clips/empty.mp4")


@pytest.mark.parametrize("written", ["Wed, 21 Oct 2015 07:28:00 GMT", "2015-10-21T07:28:00Z", 1445412480.0])
def test_times_are_understood_as_storages_write_them(written):
    assert remote._nanoseconds(written) == 1445412480 * 10**9


def test_a_time_that_nobody_understands_is_none():
    assert remote._nanoseconds("yesterday") == 0
