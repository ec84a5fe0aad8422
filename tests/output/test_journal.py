"""The output file as the journal: one suite for all formats, then how a file of lines outlives accidents."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from adafocus_cli.errors import AdaFocusError, UsageError
from adafocus_cli.library import catalogue
from adafocus_cli.output import sqlite
from adafocus_cli.output.journal import Journal, SourceFile, record_file
from adafocus_cli.output.writers import CsvWriter, Sink, WriterOptions
from adafocus_cli.schema import path_of
from tests.output.made_up import failed, tagged

SETTINGS = {"model": "abc", "top_k": "5"}
LINES = ["jsonl", "csv", "jsonl.gz", "csv.gz", "jsonl.zst", "csv.zst"]
NASTY = 'a "b"\n,=c\udcff\x1b.mp4'
ROOT = Path(__file__).parents[2]


@pytest.fixture(params=[*LINES, "sqlite", "parquet", "json"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    ending: str = request.param
    if ending.endswith("zst"):
        pytest.importorskip("zstandard")
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    return tmp_path / f"tags.{ending}"


def digest_of(content: str) -> str:
    return hashlib.md5(content.encode("utf-8", "replace")).hexdigest()


def source(path: str, content: str = "", mtime: int = 1) -> SourceFile:
    return SourceFile(path, 10, mtime, digest_of(content or path))


def journal(path: Path, mode: Any = "resume", **settings: str) -> Journal:
    return Journal.open(path, settings={**SETTINGS, **settings}, mode=mode)


def write(path: Path, *names: str, **more: Any) -> None:
    with journal(path, **more) as output:
        for name in names:
            output.write(tagged(name), source(name))


def records(path: Path) -> list[dict[str, Any]]:
    return list(record_file(path).records())


def paths(path: Path) -> list[str]:
    return [record["path"] if "path" in record else record["video"]["path"] for record in records(path)]


def test_what_was_written_is_done_in_this_run_and_the_next(path: Path) -> None:
    names = ["a.mp4", NASTY, "b/c.mp4"]
    with journal(path) as output:
        for name in names:
            assert not output.done(source(name))
            output.write(tagged(name), source(name))
            assert output.done(source(name))
    with journal(path) as output:
        assert all(output.done(source(name)) for name in names)
        assert not output.done(source("d.mp4"))
    assert len(paths(path)) == 3
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]


def test_a_record_says_what_it_was_made_of(path: Path) -> None:
    write(path, NASTY)
    (record,) = records(path)
    if "path" in record:
        assert (record["size"], record["digest"]) == ("10", digest_of(NASTY))
        assert json.loads(record["settings"]) == SETTINGS
    else:
        assert record == {
            **tagged(NASTY).to_dict(),
            "source": {"size": 10, "mtime_ns": 1, "digest": digest_of(NASTY)},
            "settings": SETTINGS,
        }


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("path", LINES[:2], indirect=True)
def test_a_file_is_not_open_when_another_takes_its_place(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows refuses to replace it then."""
    replaced: list[Path] = []
    replace = Path.replace

    def refuse_open(self: Path, target: Path) -> Path:
        assert target not in [file.resolve() for file in Path("/proc/self/fd").iterdir()]
        replaced.append(target)
        return replace(self, target)

    write(path, "a.mp4", "b.mp4")
    monkeypatch.setattr(Path, "replace", refuse_open)
    with journal(path) as output:
        output.write(tagged("a.mp4"), source("a.mp4", "changed"))
    assert replaced == [path]


def test_a_changed_video_is_redone_and_its_old_record_goes(path: Path) -> None:
    write(path, "a.mp4", "b.mp4", "c.mp4")
    changed = source("b.mp4", "other content", 2)
    with journal(path) as output:
        assert not output.done(changed)
        output.write(failed("b.mp4"), changed)
        assert output.done(changed)
        assert not output.done(source("b.mp4"))
    assert sorted(paths(path)) == ["a.mp4", "b.mp4", "c.mp4"]
    with journal(path) as output:
        assert output.done(changed)
        assert not output.done(changed, retry=True)
        assert output.done(source("a.mp4"))


def test_a_file_that_cannot_be_read_has_one_record_however_often_it_is_tried(path: Path) -> None:
    for _ in range(2):
        with journal(path) as output:
            output.write(failed("gone.mp4"), None)
    assert paths(path) == ["gone.mp4"]


def test_the_same_content_is_copied_and_says_so(path: Path) -> None:
    with journal(path) as output:
        output.write(failed("bad.mp4"), source("bad.mp4", "bad"))
        assert output.copy(source("bad twin.mp4", "bad")) is None
        output.write(tagged("a.mp4"), source("a.mp4", "same"))
        assert output.copy(source("twin.mp4", "same", 7)) == "a.mp4"
    with journal(path) as output:
        assert output.copy(source("a.mp4", "same", 8)) is None
        assert output.copy(source("triplet.mp4", "same")) == "a.mp4"
        assert output.done(source("twin.mp4", "same", 7))
    _, original, *copies = records(path)
    assert len(copies) == 2
    for copy, name in zip(copies, ("twin.mp4", "triplet.mp4"), strict=True):
        assert copy["copied_from"] == "a.mp4"
        assert name in (copy.get("path"), copy.get("video", {}).get("path"))
        assert copy["labels"] == original["labels"]


def test_a_file_of_another_model_is_refused_in_words(path: Path) -> None:
    models = {name: catalogue.packaged()[name].sha256 or "" for name in ("motion", "objects")}
    with journal(path, model=models["motion"], patch_size="96") as output:
        output.write(tagged("a.mp4"), source("a.mp4"))
    with pytest.raises(UsageError) as refused:
        journal(path, model=models["objects"], patch_size="192")
    assert "was made with other settings (the model was motion and is objects); give another file" in str(refused.value)
    with pytest.raises(UsageError, match=r"the model was motion and is one with SHA-256 0{16}…\)"):
        journal(path, model="0" * 64)


def test_other_settings_are_refused_by_name_unless_told_otherwise(path: Path) -> None:
    write(path, "a.mp4")
    with pytest.raises(UsageError, match=rf"{path.name} was made with other settings \(top_k was 5 and is 3\)"):
        journal(path, top_k="3")
    assert paths(path) == ["a.mp4"]
    with journal(path, "append", top_k="3") as output:
        assert not output.done(source("a.mp4"))
        assert output.copy(source("twin.mp4", "a.mp4")) is None
        output.write(tagged("a.mp4"), source("a.mp4"))
        output.write(failed("a.mp4"), source("a.mp4", mtime=2))
    assert paths(path) == ["a.mp4", "a.mp4"]
    with journal(path, "append") as output:
        assert output.done(source("a.mp4"))
    with journal(path, "overwrite", top_k="3") as output:
        assert not output.done(source("a.mp4"))
    assert paths(path) == []


def test_a_second_run_is_refused_while_the_first_one_writes(path: Path) -> None:
    with journal(path) as first:
        with pytest.raises(UsageError, match="written by another run"):
            journal(path)
        first.write(tagged(), source("clip.mp4"))
    write(path, "b.mp4")
    assert len(paths(path)) == 2


def test_something_else_is_never_overwritten(path: Path) -> None:
    path.write_bytes(b"dear diary\n\n\nthe end")
    with pytest.raises(AdaFocusError, match="give another file"):
        write(path, "a.mp4")
    assert path.read_bytes() == b"dear diary\n\n\nthe end"


def test_records_are_durable_without_an_end(path: Path) -> None:
    """As after kill -9: nothing is closed, and what was synced is there."""
    script = """
        import os, signal, sys, threading
        from pathlib import Path
        import adafocus_cli.output.journal as module
        from tests.output.made_up import tagged
        from tests.output.test_journal import source
        module._SYNC_SECONDS = 0.01
        output = module.Journal.open(Path(sys.argv[1]), settings={"model": "abc", "top_k": "5"}, mode="resume")
        for name in ("a.mp4", "b.mp4"):
            output.write(tagged(name), source(name))
        sync, synced = output.sync, threading.Event()
        output.sync = lambda: (sync(), synced.set())
        assert synced.wait(60)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(path)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    with journal(path) as output:
        assert output.done(source("a.mp4"))
        assert output.done(source("b.mp4"))
        output.write(tagged("c.mp4"), source("c.mp4"))
    assert paths(path) == ["a.mp4", "b.mp4", "c.mp4"]


@pytest.mark.parametrize("ending", LINES)
def test_a_file_cut_anywhere_keeps_what_is_whole(ending: str, tmp_path: Path) -> None:
    if ending.endswith("zst"):
        pytest.importorskip("zstandard")
    whole = tmp_path / f"whole.{ending}"
    for name in ("a.mp4", NASTY, "c.mp4"):
        write(whole, name)  # each run ends with a piece of its own
    content = whole.read_bytes()
    kept = set()
    for end in {0, 1, 2, 3, len(content) - 1, *random.Random(0).sample(range(len(content)), 25)}:
        cut = tmp_path / f"cut-{end}.{ending}"
        cut.write_bytes(content[:end] + b"\0" * (end % 3))
        with journal(cut) as output:
            left = [output.done(source(name)) for name in ("a.mp4", NASTY, "c.mp4")]
            for name in ("a.mp4", NASTY, "c.mp4"):
                if not output.done(source(name)):
                    output.write(tagged(name), source(name))
        assert left == sorted(left, reverse=True)
        kept.add(sum(left))
        assert len(paths(cut)) == 3
        assert sorted(paths(cut)) == sorted(paths(whole))
    assert kept >= {0, 1, 2}


@pytest.mark.parametrize("ending", ["jsonl.gz", "csv.gz"])
def test_whole_records_of_a_torn_piece_are_kept(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"tags.{ending}"
    names = [f"{number}.mp4" for number in range(200)]
    write(path, *names)
    path.write_bytes(path.read_bytes()[:-500])
    with journal(path) as output:
        kept = [name for name in names if output.done(source(name))]
    assert 10 < len(kept) < 200
    assert paths(path) == kept


def test_damage_before_good_records_is_not_taken_for_an_end(tmp_path: Path) -> None:
    path = tmp_path / "tags.jsonl"
    write(path, "a.mp4", "b.mp4")
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"what?\n" + second)
    with pytest.raises(AdaFocusError, match=f"at byte {len(first)} is not a record"):
        journal(path)


def test_records_of_classify_can_be_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "tags.jsonl"
    path.write_text(json.dumps(tagged("a.mp4").to_dict()) + "\n")
    with pytest.raises(UsageError, match="do not say which"):
        journal(path)
    write(path, "b.mp4", mode="append")
    assert paths(path) == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_rows_of_classify_are_refused_for_they_have_fewer_columns(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"tags.{ending}"
    with Sink.file(tmp_path / "plain.csv") as sink, CsvWriter(sink, WriterOptions()) as writer:
        writer.write(tagged())
    content = (tmp_path / "plain.csv").read_bytes()
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    with pytest.raises(UsageError, match="not written by adafocus batch"):
        journal(path)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writing behind it fails as on a full disk, in the middle of a record."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_whole_records_and_says_so(path: Path) -> None:
    written = 0
    limit = 100_000 if path.suffix == ".sqlite" else 40_000
    with journal(path) as output, file_size_limit(limit), pytest.raises(AdaFocusError, match="cannot write"):  # noqa: PT012
        for number in range(3000):
            output.write(tagged(f"{number}.mp4"), source(f"{number}.mp4"))
            if number % 5 == 0:
                output.sync()
            written = number
    assert written > 5
    with journal(path) as output:
        kept = [output.done(source(f"{number}.mp4")) for number in range(3000)]
        assert all(kept[: written - 5])
        output.write(tagged("new.mp4"), source("new.mp4"))
    assert len(paths(path)) == len({*paths(path)}) == sum(kept) + 1


def test_a_database_that_a_reader_keeps_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.1)
    path = tmp_path / "tags.db"
    write(path, "a.mp4")
    with closing(sqlite3.connect(path)) as reader, journal(path) as output:
        reader.execute("begin")
        reader.execute("select * from videos").fetchone()
        output.write(tagged("b.mp4"), source("b.mp4"))
        with pytest.raises(AdaFocusError, match=r"database is locked; .*: close the program that reads it"):
            output.sync()


@pytest.mark.parametrize("name", ["tags.txt", "tags", "tags.json.gz", "tags.parquet.gz", ".jsonl", "tags.gz"])
def test_names_without_a_format_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no known format"):
        journal(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_pipe_and_a_folder_are_refused(path: Path) -> None:
    for make in (os.mkfifo, os.mkdir):
        make(path)
        with pytest.raises(UsageError, match="not a regular file"):
            journal(path)
        path.rmdir() if path.is_dir() else path.unlink()


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write to"):
        journal(tmp_path / "nowhere/tags.jsonl")


def test_sources_tell_content_from_name(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for size in (1, 5 << 20):
        content = random.Random(size).randbytes(size)
        first.write_bytes(content)
        second.write_bytes(content)
        os.utime(second, ns=(1, 1))
        one, other = SourceFile.of(str(first)), SourceFile.of(str(second))
        assert (one.digest, one.size) == (other.digest, size)
        assert one.fingerprint != other.fingerprint
        for place in (0, size // 2, size - 1):
            changed = bytearray(content)
            changed[place] ^= 1
            second.write_bytes(changed)
            assert SourceFile.of(str(second)).digest != one.digest


def test_every_record_is_json_for_strict_readers_and_has_the_bytes_of_its_name(path: Path) -> None:
    write(path, NASTY)
    if path.suffix == ".jsonl":
        assert b"\\\\udcff" in path.read_bytes()
    (record,) = records(path)
    json.dumps(record, ensure_ascii=False).encode()  # a lone surrogate cannot be encoded
    if "path" not in record:
        assert base64.b64decode(record["video"]["path_bytes"]) == os.fsencode(NASTY)
        assert path_of(record) == NASTY


def test_names_of_one_file_have_one_record(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = path.parent / "videos"
    folder.mkdir()
    (path.parent / "link").symlink_to(folder)
    monkeypatch.chdir(path.parent)
    names = ["videos/=a.mp4", "./videos/=a.mp4", "videos//../videos/=a.mp4", f"{folder}/=a.mp4", "link/=a.mp4"]
    write(path, names[0])
    for time, name in enumerate(names, 1):
        with journal(path) as output:
            assert output.done(source(name, names[0], time))
            assert output.copy(source(name, names[0], time + 1)) is None
            output.write(tagged(name), source(name, names[0], time + 1))
    assert paths(path) == [names[-1]]
    write(path, "videos/b.mp4", "a.mp4")
    assert len(paths(path)) == 3


def test_a_file_with_several_names_of_one_video_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("tags.jsonl")
    for name in ("a.mp4", str(tmp_path / "a.mp4")):
        write(tmp_path / f"{len(name)}.jsonl", name)
        path.open("ab").write((tmp_path / f"{len(name)}.jsonl").read_bytes())
    write(path)
    assert paths(path) == [str(tmp_path / "a.mp4")]


def test_records_of_files_that_are_gone_are_removed_for_all_settings(path: Path) -> None:
    write(path, "a.mp4", "b.mp4", NASTY)
    write(path, "b.mp4", mode="append", top_k="3")
    with journal(path, "append") as output:
        assert output.prune(lambda name: name in ("b.mp4", NASTY)) == (2 if "csv" in path.name else 3)
        assert not output.done(source("b.mp4"))
        assert output.prune(lambda name: name == "b.mp4") == 0
    with journal(path, "append") as output:
        assert not output.done(source("b.mp4"))
        assert output.done(source("a.mp4"))
    assert len(paths(path)) == (2 if "csv" in path.name else 1)  # CSV has no exact name
