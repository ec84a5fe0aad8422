"""`adafocus evaluate` as people run it: files, decoding processes, nothing replaced."""

from __future__ import annotations

import csv
import json
import shutil

import pytest
from PIL import Image

from adafocus_cli import Tagger
from adafocus_cli.exits import write_thresholds
from tests.clips import number_picture

FAMILY = "adafocus-v2"


@pytest.fixture
def evaluate(adafocus, weights_of):
    def call(*arguments, family=FAMILY):
        return adafocus("evaluate", *arguments, "-w", weights_of(family), "--device", "cpu")

    return call


def report_of(outcome):
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def test_the_numbers_are_those_of_single_videos(evaluate, clips, weights_of):
    report = report_of(evaluate(clips, "-f", "json"))
    tagger = Tagger.load(weights_of(FAMILY), device="cpu")
    right = steps = 0
    paths = sorted(clips.rglob("*.mp4"))
    for path, result in zip(paths, tagger.tag_videos(paths), strict=True):
        shown = {"archery": 0, "disc_dog": 3, "Futsal": 5}[path.parent.name]
        right += result.logits.argmax() == shown
        steps = steps + (result.step_logits.argmax(axis=1) == shown)
    assert report["videos"] == {"tagged": 8, "failed": 0}
    assert report["accuracy"]["top1"] == right / 8
    assert [step["top1"] for step in report["accuracy"]["by_step"]] == (steps / 8).tolist()
    assert [(entry["label"], entry["videos"]) for entry in report["classes"]] == [
        ("Archery", 2), ("Disc dog", 3), ("Futsal", 3),
    ]  # fmt: skip
    assert report["cost"]["gmacs"] == pytest.approx(result.cost.gmacs, abs=1e-6)
    assert report["cost"]["frames_decoded"] == 16
    assert report["policy"] == "learned"


def test_a_table_a_file_and_a_picture(evaluate, clips, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = evaluate(clips, "-o", tmp_path / "report.json", "--confusion", tmp_path / "matrix.png")
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 80
    for text in ("top-1", "as papers compute it", "scikit-learn", "GMACs per video", "Disc dog", "8 videos"):
        assert text in done.out
    assert done.err == ""
    assert json.loads((tmp_path / "report.json").read_text())["videos"]["tagged"] == 8
    assert Image.open(tmp_path / "matrix.png").width > 300


def test_broken_and_missing_videos_are_counted_and_listed(evaluate, clips, tmp_path):
    video = next((clips / "Futsal").glob("*.mp4"))
    shutil.copy(video, tmp_path / "good.mp4")
    (tmp_path / "bad.mp4").write_text("no video")
    (tmp_path / "list.csv").write_text("bad.mp4,Futsal\nabsent.mp4,Archery\ngood.mp4,Futsal\n")
    done = evaluate(tmp_path / "list.csv")
    assert done.code == 3
    assert "of 1 videos; 2 that failed are left out" in " ".join(done.out.split())
    assert "2 failed" in done.out
    assert "no such file" in done.out
    assert "2 of 3 videos could not be tagged and are not in the numbers" in done.err
    record = json.loads(evaluate(tmp_path / "list.csv", "-f", "json").out)
    assert [failure["error"]["stage"] for failure in record["failures"]] == ["open", "open"]


def test_nothing_that_can_be_tagged_is_an_error(evaluate, tmp_path):
    (tmp_path / "bad.mp4").write_text("no video")
    (tmp_path / "list.csv").write_text("bad.mp4,Futsal\n")
    done = evaluate(tmp_path / "list.csv")
    assert (done.code, done.out) == (1, "")
    assert "none of 1 video could be tagged; the first: " in done.err


def test_a_split_list_on_extracted_frames(evaluate, tmp_path):
    for name in ("v_one", "v_two"):
        (tmp_path / "frames" / name).mkdir(parents=True)
        for frame in range(20):
            picture = Image.fromarray(number_picture(frame, 128, 96))
            picture.save(tmp_path / "frames" / name / f"img_{frame + 1:05d}.jpg")
    (tmp_path / "val.txt").write_text("v_one 20 0\nv_two 18 5\n")
    report = report_of(evaluate(tmp_path / "val.txt", "--root", tmp_path / "frames", "-f", "json"))
    assert [(entry["label"], entry["videos"]) for entry in report["classes"]] == [("Archery", 1), ("Futsal", 1)]


def test_a_sample_and_another_policy(evaluate, clips):
    options = (clips, "--limit", 3, "-f", "json")
    learned, full = (report_of(evaluate(*options, "--policy", policy)) for policy in ("learned", "full"))
    assert learned["videos"]["tagged"] == full["videos"]["tagged"] == 3
    assert learned["available"] == 8
    assert [entry["videos"] for entry in learned["classes"]] == [entry["videos"] for entry in full["classes"]]
    assert full["cost"]["stages"]["focus"] == full["cost"]["full_frame_gmacs"] > learned["cost"]["stages"]["focus"]
    first, again = (report_of(evaluate(*options, "--policy", "random", "--seed", 5)) for _ in range(2))
    assert first["accuracy"] == again["accuracy"]


def test_leaving_early(evaluate, clips, weights_of, tmp_path, monkeypatch):
    tagger = Tagger.load(weights_of(FAMILY), device="cpu")
    write_thresholds(tmp_path / "exits.yaml", tagger.model, [-1e9] * 16)
    record = report_of(evaluate(clips, "--exit", tmp_path / "exits.yaml", "-f", "json"))
    assert record["exits"] == {"of": 16, "videos": [{"step": 0, "videos": 8}]}
    assert record["accuracy"]["by_step"] == []
    monkeypatch.setenv("COLUMNS", "80")
    capped = evaluate(clips, "--max-gmacs", record["cost"]["gmacs"] * 2.1)
    assert "left after each of 16 steps" in capped.out


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["absent"], 2, "there is no absent; give a folder with one folder of videos a class"),
        (["{clips}", "--root", "{clips}"], 2, "--root says where the videos of a list are"),
        (["{clips}", "--confusion", "matrix.jpg"], 2, "does not end in .png; give FILE.png"),
        (["{clips}", "-o", "no/such/folder.json"], 2, "cannot write to no/such/folder.json"),
        (["{clips}", "-o", "out.mp4"], 2, "out.mp4 is an input or has the name of a video, and would be overwritten"),
        (["{other}", "-o", "{other}"], 2, "other.txt is an input or has the name of a video"),
        (["{clips}", "-o", "a.png", "--confusion", "a.png"], 2, "a.png cannot hold both"),
        (["{clips}", "--policy", "best"], 2, "--policy best is not allowed; give learned"),
        (["{clips}", "--limit", "0"], 2, "--limit 0 is not allowed; give a whole number of at least 1"),
        (["{clips}", "--labels", "jester"], 1, "has 27 names, but the model answers 7 classes"),
        (["{clips}", "--labels", "{other}"], 2, "has the class 'Futsal', which the model does not know"),
    ],
)
def test_mistakes_are_one_line_with_the_next_step(evaluate, clips, tmp_path, arguments, code, complaint):
    (tmp_path / "other.txt").write_text("\n".join(f"thing {letter}" for letter in "abcdefg"))
    done = evaluate(*(argument.format(clips=clips, other=tmp_path / "other.txt") for argument in arguments))
    assert (done.code, done.out) == (code, "")
    (line,) = done.err.splitlines()
    assert line.startswith("adafocus: error: ")
    assert complaint in line


def test_names_from_outside_are_made_safe(evaluate, clips, tmp_path):
    labels = ["\x1b[31mred[/]", "b", "c", "Disc dog", "e", "Futsal", "g"]
    (tmp_path / "names.txt").write_text("\n".join(labels))
    with (tmp_path / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows((path, "\x1b[31mred[/]") for path in (clips / "archery").iterdir())
    done = evaluate(tmp_path / "list.csv", "--labels", tmp_path / "names.txt")
    assert done.code == 0, done.err
    assert "\x1b" not in done.out
    assert "\\x1b[31mred[/]" in done.out
