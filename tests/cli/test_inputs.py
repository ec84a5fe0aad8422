"""From what was typed to paths."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from adafocus_cli.cli.inputs import Counted, expand, is_video_name, read_list, split_list


@pytest.fixture
def library(tmp_path: Path) -> Path:
    for name in ("b.MP4", "a.mkv", "sub/c.webm", ".hidden.mp4", ".trash/d.mp4", "notes.txt", "sub.mp4/e.mov"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def found(*inputs: object) -> tuple[list[str], list[str]]:
    warnings: list[str] = []
    return list(expand(map(str, inputs), warn=warnings.append)), warnings


def test_a_folder_is_walked_in_order(library: Path) -> None:
    paths, warnings = found(library)
    assert [os.path.relpath(path, library) for path in paths] == ["a.mkv", "b.MP4", "sub/c.webm", "sub.mp4/e.mov"]
    assert warnings == []


def test_links_that_lead_back_end(library: Path) -> None:
    (library / "sub" / "back").symlink_to(library)
    (library / "self").symlink_to("self")
    paths, _ = found(library / "sub")
    assert len(paths) == len(set(paths))
    assert str(library / "sub" / "c.webm") in paths
    found(library)


def test_pipes_in_folders_are_left_out_and_dangling_links_are_not(library: Path) -> None:
    os.mkfifo(library / "pipe.mp4")
    (library / "zz.mp4").symlink_to("gone")
    paths, _ = found(library)
    assert str(library / "pipe.mp4") not in paths
    assert str(library / "zz.mp4") in paths


def test_an_empty_folder_is_a_warning(tmp_path: Path) -> None:
    paths, warnings = found(tmp_path)
    assert paths == []
    assert "no video files in the folder" in warnings[0]


def test_files_are_taken_as_they_are_typed(library: Path) -> None:
    inputs = [str(library / "notes.txt"), "gone.mp4", "./-x.mp4", "a.mp4", "a.mp4"]
    assert found(*inputs) == (inputs, [])


def test_patterns_that_the_shell_left(library: Path) -> None:
    assert found(library / "*.mkv")[0] == [str(library / "a.mkv")]
    assert len(found(library / "**" / "*.*")[0]) == 5
    assert found("no*such.mp4")[0] == ["no*such.mp4"]


def test_a_file_whose_name_is_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "a[1].mp4").touch()
    assert found(tmp_path / "a[1].mp4")[0] == [str(tmp_path / "a[1].mp4")]


@pytest.mark.parametrize(
    ("data", "null", "paths"),
    [
        (b"a.mp4\nb.mp4\n", False, ["a.mp4", "b.mp4"]),
        (b"\xef\xbb\xbfa.mp4\r\n\r\n \nb.mp4", False, ["a.mp4", "b.mp4"]),
        (b" a.mp4 \n", False, [" a.mp4 "]),
        (b"\xff.mp4\n", False, [os.fsdecode(b"\xff.mp4")]),
        (b"a\nb.mp4\0c\r\0\0", True, ["a\nb.mp4", "c\r"]),
        (b"", False, []),
    ],
)
def test_lists(data: bytes, null: bool, paths: list[str]) -> None:
    assert list(split_list(io.BytesIO(data), null=null)) == paths


def test_long_lists_are_not_cut_at_the_chunk() -> None:
    names = [f"{i:08}.mp4" for i in range(20_000)]
    assert list(split_list(io.BytesIO("\n".join(names).encode()), null=False)) == names


def test_a_list_is_read_as_it_grows() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as stream, os.fdopen(writer, "wb", buffering=0) as growing:
        paths = split_list(stream, null=False)
        growing.write(b"a.mp4\nb.m")
        assert next(paths) == "a.mp4"
        growing.write(b"p4\n")
        assert next(paths) == "b.mp4"


def test_folders_in_lists_are_walked(library: Path) -> None:
    (library / "list.txt").write_text(f"{library / 'sub'}\n*.mp4\n")
    paths = list(read_list(str(library / "list.txt"), null=False, warn=print))
    assert paths == [str(library / "sub" / "c.webm"), "*.mp4"]


@pytest.mark.parametrize(("look_ahead", "total"), [(0, None), (2, None), (3, 2)])
def test_the_total_is_known_from_the_start_or_at_the_end(look_ahead: int, total: int | None) -> None:
    paths = Counted(iter(["a", "b"]), look_ahead=look_ahead)
    assert paths.total == total
    assert list(paths) == ["a", "b"]
    assert paths.total == 2


@pytest.mark.parametrize(("name", "is_one"), [("A.MP4", True), (".a.mp4", False), ("mp4", False), ("a.ts", True)])
def test_video_names(name: str, is_one: bool) -> None:
    assert is_video_name(name) is is_one
