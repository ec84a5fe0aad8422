"""Labelled videos, as people have them, and what is said when they do not fit."""

from __future__ import annotations

import io
from collections import Counter

import pytest

from adafocus_cli.cli.inputs import expand_listed, is_video_name
from adafocus_cli.errors import UsageError
from adafocus_cli.evaluation.data import Dataset, Finder, Sample, read

NAMES = ("Arm wrestling", "Belly dancing", "Rock climbing")


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def reading(warnings):
    finder = Finder(walk=lambda folder: expand_listed([folder], warn=warnings.append), is_video=is_video_name)
    return lambda data, root=None: read(str(data), finder=finder, root=root)


@pytest.fixture
def listed(tmp_path, reading):
    """What a list says of the videos a.mp4, b.mp4 and "c d.webm" beside it: names, labels and frames."""
    for name in ("a.mp4", "b.mp4", "b.json", "c d.webm"):
        (tmp_path / name).touch()

    def read_list(text, name="list.csv"):
        (tmp_path / name).write_text(text)
        samples = reading(tmp_path / name).samples
        return [(s.path.removeprefix(f"{tmp_path}/"), s.labels, s.frames) for s in samples]

    return read_list


def test_a_folder_of_class_folders(tmp_path, reading, warnings):
    for name in ("b/2.mp4", "b/1.mp4", "b/deeper/still/3.webm", "a/x.mkv", "a/notes.txt", ".git/y.mp4", "loose.mp4"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    data = reading(tmp_path)
    found = [(sample.path.removeprefix(f"{tmp_path}/"), sample.label) for sample in data.samples]
    assert found == [("a/x.mkv", "a"), ("b/1.mp4", "b"), ("b/2.mp4", "b"), ("b/deeper/still/3.webm", "b")]
    assert data.classes == ("a", "b")
    assert len(warnings) == 1
    assert "no video files" in warnings[0]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a.mp4,Archery\nc d.webm,Rock climbing\n", "list.csv"),
        ("path,label\na.mp4,Archery\n\nc d.webm,Rock climbing\n", "list.csv"),
        ("\ufefflabel,split,video\nArchery,val,a.mp4\nRock climbing,val,c d.webm", "list.csv"),
        ('"a.mp4","Archery"\r\n"c d.webm","Rock climbing"\r\n', "list.csv"),
        ("a.mp4;Archery\nc d.webm;Rock climbing\n", "list.csv"),
        ("a.mp4\tArchery\nc d.webm\tRock climbing\n", "list.tsv"),
        ("a.mp4, Archery\nc d.webm, Rock climbing\n", "list.txt"),
        ("a,Archery\nc d,Rock climbing\n", "names without extension.csv"),
    ],
)
def test_tables_of_paths_and_labels(listed, text, name):
    assert listed(text, name) == [("a.mp4", ("Archery",), None), ("c d.webm", ("Rock climbing",), None)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a 300 5\nb 20 0\nc d 7 1", [("a.mp4", ("5",), 300), ("b.mp4", ("0",), 20), ("c d.webm", ("1",), 7)]),
        ("a.mp4 5\nb.mp4 12\n", [("a.mp4", ("5",), None), ("b.mp4", ("12",), None)]),
        # As the lists of ActivityNet and FCVID are: a video may show several classes.
        ("a,300,5\nb,20,7,3,7\n", [("a.mp4", ("5",), 300), ("b.mp4", ("3", "7"), 20)]),
    ],
)
def test_split_lists(listed, text, expected):
    assert listed(text, "val.txt") == expected


def test_a_heading_that_has_its_column_of_labels_twice_gives_videos_several(listed):
    text = "path,label,fps,label\na.mp4,Archery,25,Rowing\nb.mp4,Rowing,25,\nc d.webm,Rowing,25,Rowing\n"
    found = [("a.mp4", ("Archery", "Rowing"), None), ("b.mp4", ("Rowing",), None), ("c d.webm", ("Rowing",), None)]
    assert listed(text) == found


def test_a_list_that_is_written_is_read_again_with_all_its_labels(tmp_path, listed):
    samples = (Sample(str(tmp_path / "a.mp4"), "Archery", ("Rowing",)), Sample(str(tmp_path / "b.mp4"), "Rowing"))
    text = io.StringIO()
    Dataset(samples, "").write(text)
    assert [labels for _, labels, _ in listed(text.getvalue())] == [("Archery", "Rowing"), ("Rowing",)]


def test_a_missing_video_stays_for_the_one_who_opens_it(listed):
    assert listed("a.mp4,x\nabsent.mp4,y\n") == [("a.mp4", ("x",), None), ("absent.mp4", ("y",), None)]


def test_root_is_where_the_videos_of_a_list_are(tmp_path, reading):
    (tmp_path / "videos" / "7").mkdir(parents=True)
    (tmp_path / "list.txt").write_text("7 12 0\n")
    (sample,) = reading(tmp_path / "list.txt", tmp_path / "videos").samples
    assert sample == Sample(str(tmp_path / "videos" / "7"), "0", frames=12)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        ("a.mp4,x\nb.mp4\n", "line 2: 'b.mp4' is wrong; the list must have `path,label` rows"),
        ("a.mp4,x,y\n", "line 1: 'a.mp4,x,y' is wrong"),
        ("\n\npath,label\na.mp4,\n", "line 4"),
        ("path,label\n", "has a heading, but no videos below it"),
        ("File,kind\na.mp4,x\n", "begins with 'File,kind'; call its column of labels label or class"),
        ("clip,label\na.mp4,x\n", "begins with 'clip,label'; call its column of videos path or video"),
        ("x.mp4,x\ny.mp4,y\n", "none of the 2 videos of .* is there, such as .*x.mp4; .* --root"),
    ],
)
def test_lists_that_cannot_be_read(listed, text, complaint):
    with pytest.raises(UsageError, match=complaint):
        listed(text)


def test_data_that_is_none(tmp_path, reading):
    with pytest.raises(UsageError, match="there is no absent; give a folder"):
        reading("absent")
    with pytest.raises(UsageError, match="no videos in class folders"):
        reading(tmp_path)
    with pytest.raises(UsageError, match="--root says where the videos of a list are"):
        reading(tmp_path, tmp_path)
    (tmp_path / "a.mp4").touch()
    with pytest.raises(UsageError, match="is a video without a label"):
        reading(tmp_path / "a.mp4")
    (tmp_path / "list.csv").write_bytes(b"a.mp4,\xff\n")
    with pytest.raises(UsageError, match="not UTF-8"):
        reading(tmp_path / "list.csv")
    with pytest.raises(UsageError, match=r"--root .* is not a folder"):
        reading(tmp_path / "list.csv", tmp_path / "a.mp4")


def data_of(*labels):
    return Dataset(tuple(Sample(f"{place}.mp4", label) for place, label in enumerate(labels)), "data")


def test_names_of_classes_are_found_however_they_are_written():
    assert data_of("Rock climbing", "arm_wrestling", "BellyDancing").indices(NAMES) == [(2,), (0,), (1,)]
    assert data_of("a_b", "A b").indices(["A b", "A-b", "a_b"]) == [(2,), (0,)]


def test_numbers_are_classes_unless_classes_are_called_so():
    assert data_of("2", "00").indices(NAMES) == [(2,), (0,)]
    assert data_of("2", "1").indices(["1", "2"]) == [(1,), (0,)]
    assert data_of("2", "0").classes == ("class 0", "class 1", "class 2")


def test_a_class_that_the_model_does_not_know():
    with pytest.raises(UsageError, match=r"class 'rock climbin', which .* know; .*nearest: 'Rock climbing'.*--labels"):
        data_of("Arm wrestling", "rock climbin").indices(NAMES)
    with pytest.raises(UsageError, match=r"'xyz'.*\(nor 1 more\); its classes are like 'Arm wrestling'"):
        data_of("xyz", "zzz").indices(NAMES)
    with pytest.raises(UsageError, match=r"gives 1\.mp4 the class number 3, but the model has the classes 0 to 2"):
        data_of("0", "3").indices(NAMES)


def test_a_sample_has_every_class_with_its_share():
    data = data_of(*["a"] * 50, *["b"] * 30, *["c"] * 20)
    some = data.limited(10, seed=1)
    assert Counter(sample.label for sample in some.samples) == {"a": 5, "b": 3, "c": 2}
    assert some == data.limited(10, seed=1) != data.limited(10, seed=2)
    assert [data.samples.index(sample) for sample in some.samples] == sorted(map(data.samples.index, some.samples))
    assert data.limited(1000, seed=1) == data
    for count in range(1, 100):
        counts = Counter(sample.label for sample in data.limited(count, seed=3).samples)
        assert counts.total() == count
        assert all(abs(counts[label] - count * share) < 2 for label, share in (("a", 0.5), ("b", 0.3), ("c", 0.2)))
