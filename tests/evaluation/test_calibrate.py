"""`adafocus calibrate` as people run it, and that `--exit` then does what it said."""

from __future__ import annotations

import csv
import inspect
import json
import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image

from adafocus_cli.cli.calibrate import calibrate as command
from adafocus_cli.evaluation import calibration
from adafocus_cli.evaluation.calibration import ExitLaw, halves
from adafocus_cli.flops import CostMeter
from adafocus_cli.weights_file import About, write
from tests.evaluation.conftest import NAMES
from tests.tiny import tiny_model, tiny_spec, tiny_tagger

FAMILY = "adafocus-v2"


@pytest.fixture
def calibrate(adafocus, weights_of):
    def call(*arguments, family=FAMILY):
        return adafocus("calibrate", *arguments, "-w", weights_of(family), "--device", "cpu")

    return call


def cost_after(turns, *, family=FAMILY, group=4):
    costs = CostMeter(tiny_spec(family)).of_turns(tiny_model(family).turns(group))
    return sum(cost.total() for cost in costs[:turns]) / 1e9


@pytest.mark.parametrize(
    ("family", "group", "criterion"),
    [
        (FAMILY, 4, "logit"),
        (FAMILY, 1, "entropy"),
        ("adafocus-v1", 3, "logit"),
        ("uni-adafocus", 4, "logit"),
        ("uni-adafocus", 1, "entropy"),
        ("uni-adafocus-tsm", 1, "logit"),
    ],
)
def test_evaluate_with_the_file_gives_what_was_predicted(
    calibrate, adafocus, clips, weights_of, tmp_path, monkeypatch, family, group, criterion
):
    """One law only, for nothing is gained by looking at more with a model that was never trained."""
    monkeypatch.setitem(calibration.AUTHORS_LAWS, family, ExitLaw((0.5,)))
    budget = 0.99 * cost_after(None, family=family, group=group)
    options = ("--budgets", budget, "--group", group, "--criterion", criterion, "--seed", 3, "-f", "json")
    done = calibrate(clips, *options, "-o", tmp_path / "exits", family=family)
    assert done.code == 0, done.err
    record = json.loads(done.out)
    (entry,) = record["budgets"]
    assert (record["law"], record["criterion"], record["metric"]) == ("auto", criterion, "top-1")
    paths = sorted(path for folder in sorted(clips.iterdir()) for path in folder.iterdir())
    for part, places in zip(("fitted", "checked"), halves([path.parent.name for path in paths], 3), strict=True):
        with (tmp_path / "list.csv").open("w", newline="") as file:
            csv.writer(file).writerows((paths[place], paths[place].parent.name) for place in places)
        (exits,) = (tmp_path / "exits").iterdir()
        weights = ("-w", weights_of(family), "--device", "cpu")
        found = json.loads(adafocus("evaluate", tmp_path / "list.csv", "--exit", exits, "-f", "json", *weights).out)
        assert found["accuracy"]["top1"] == entry[part]["top1"]
        assert found["accuracy"]["mean_average_precision"]["as_published"] == entry[part]["map_published"]
        assert found["cost"]["gmacs"] == entry[part]["gmacs"]
        assert found["exits"]["videos"] == entry[part]["left"]
    assert len(entry["fitted"]["left"]) > 1, "some videos leave early, others do not"


def test_a_table_a_picture_and_a_file_for_each_budget(calibrate, clips, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    budgets = f"{cost_after(1)},{cost_after(3)},7"
    done = calibrate(clips, "--budgets", budgets, "-o", tmp_path / "exits", "--picture", tmp_path / "curve.png")
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 80
    for text in ("fitted on 4 and checked on 4 other videos", "same step for all", "16 of 16", "left after a step"):
        assert text in done.out
    everything, *laws = done.err.splitlines()
    assert "a budget of 7 GMACs is not below" in everything
    assert everything.endswith("nothing is skipped")
    assert "every video leaves at the first exit; --law wide reaches further" in laws[0]
    assert len(list((tmp_path / "exits").iterdir())) == 3
    assert ".inf" in (tmp_path / "exits" / "exit-7.yaml").read_text()
    assert Image.open(tmp_path / "curve.png").size == (960, 600)


def test_broken_videos_are_left_out_and_told(calibrate, clips, tmp_path):
    for number, video in enumerate((clips / "Futsal").iterdir()):
        shutil.copy(video, tmp_path / f"{number}.mp4")
    (tmp_path / "bad.mp4").write_text("no video")
    names = ("bad.mp4", "0.mp4", "1.mp4", "2.mp4")
    (tmp_path / "list.csv").write_text("".join(f"{name},Futsal\n" for name in names))
    done = calibrate(tmp_path / "list.csv", "--budgets", "7", "-f", "json")
    assert done.code == 3
    assert "1 of 4 videos could not be tagged" in done.err
    record = json.loads(done.out)
    assert record["videos"] == {"fitted_on": 1, "checked_on": 2, "failed": 1}
    (tmp_path / "short.csv").write_text("bad.mp4,Futsal\n0.mp4,Futsal\n")
    table = calibrate(tmp_path / "list.csv", "--budgets", "7")
    assert "1 failed" in table.out
    assert "bad.mp4:" in "".join(table.out.split())
    few = calibrate(tmp_path / "short.csv", "--budgets", "7", "-q")
    assert (few.code, few.out) == (1, "")
    assert "only one video could be tagged, and halves need two" in few.err


@pytest.mark.parametrize(
    ("arguments", "family", "code", "complaint"),
    [
        ([], FAMILY, 2, "--budgets"),
        (["--budgets", "5,x"], FAMILY, 2, "--budgets '5,x' is not a list of costs; give GMACs per video, above 0"),
        (["--budgets", "nan"], FAMILY, 2, "is not a list of costs"),
        (["--budgets", "-1"], FAMILY, 2, "is not a list of costs"),
        (["--budgets", "1e-6,5"], FAMILY, 2, "no thresholds fit a budget of 1e-06 GMACs"),
        (["--budgets", "5"], "adafocus-v1-tsm", 1, "adafocus-v1-tsm gives one answer a video"),
        (["--budgets", "5", "--picture", "curve.jpg"], FAMILY, 2, "--picture writes a PNG picture"),
        (["--budgets", "5", "-o", "no/such/folder"], FAMILY, 2, "cannot write into no/such/folder"),
        (["--budgets", "5", "-o", "{file}"], FAMILY, 2, "is a file; give a folder"),
    ],
)
def test_mistakes_are_one_line_with_the_next_step(calibrate, clips, tmp_path, arguments, family, code, complaint):
    (tmp_path / "file").touch()
    done = calibrate(clips, *(text.format(file=tmp_path / "file") for text in arguments), family=family)
    assert (done.code, done.out) == (code, "")
    (line,) = done.err.splitlines()
    assert line.startswith("adafocus: error: ")
    assert complaint in line


def test_without_being_told_the_law_is_the_authors(calibrate, clips):
    """Of four videos that are fitted on, floors leave most to the last exit."""
    done = calibrate(clips, "--budgets", cost_after(None, family="uni-adafocus-tsm") * 0.9, family="uni-adafocus-tsm")
    assert done.code == 0, done.err
    assert inspect.signature(command).parameters["group"].default == 1
    assert inspect.signature(command).parameters["law"].default == "auto"


def test_a_model_of_a_paper_is_calibrated_by_its_metric(adafocus, clips, tmp_path):
    model = tiny_model(FAMILY)
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        write(file, About(spec=replace(model.spec, dataset="fcvid"), name="tiny", labels=NAMES), model.state_dict())
    options = (clips, "-w", path, "--device", "cpu")
    calibrated = adafocus("calibrate", *options, "--budgets", 0.9 * cost_after(None), "-f", "json")
    record = json.loads(calibrated.out)
    assert (record["metric"], record["classes_without_videos"]) == ("mAP, all labels", 4)
    found = json.loads(adafocus("evaluate", *options, "-f", "json").out)["accuracy"]
    mean = found["mean_average_precision"]["as_published"]
    assert found["paper"] == {"metric": "mAP, all labels", "value": mean}
    assert found["classes"] == {"averaged": 3, "without_videos": 4}
    table = adafocus("evaluate", *options).out
    assert "mAP, all labels" in table
    assert "the paper's metric" in table
    table = adafocus("calibrate", *options, "--budgets", 0.9 * cost_after(None)).out
    assert "chosen by mAP, all labels, over the" in " ".join(table.split())


@pytest.fixture
def skipping(clips, tmp_path):
    """The file of a model that takes about half of its looks at these clips."""
    tagger, gains = tiny_tagger("adafocus-v1", skips=True), []
    listening = tagger.family.skip_policy.register_forward_hook(lambda head, given, made: gains.append(made[0]))
    for path in clips.glob("*/*.mp4"):
        tagger.tag_video(path)
    listening.remove()
    found, model = torch.cat(gains), tiny_model("adafocus-v1", skips=True)
    with torch.no_grad():
        head = model.skip_policy.gain
        head.weight.mul_(2 / found.std())
        head.bias.sub_(found.median()).mul_(2 / found.std())
    path = tmp_path / "skipping.safetensors"
    with path.open("wb") as file:
        write(file, About(spec=model.spec, name="tiny-skipping", labels=NAMES), model.state_dict())
    return path


def test_skipping_and_exits_are_drawn_together_and_apart(adafocus, clips, skipping, tmp_path, monkeypatch):
    monkeypatch.setitem(calibration.AUTHORS_LAWS, "adafocus-v1", ExitLaw((0.5,)))
    options = ("-w", skipping, "--device", "cpu", "-f", "json", "--seed", 3)
    whole = CostMeter(replace(tiny_spec("adafocus-v1"), skips=True)).whole_clip().gmacs
    arguments = ("--budgets", 0.99 * whole, "--group", 4, "-o", tmp_path / "exits", "--picture", tmp_path / "curve.png")
    done = adafocus("calibrate", clips, *arguments, *options)
    assert done.code == 0, done.err
    assert "the model skips frames" in done.err
    record = json.loads(done.out)
    costs = [point["gmacs"] for point in record["apart"]["skipping"]]
    assert costs == sorted(costs)
    assert len(set(costs)) > 2, "more and less is skipped"
    assert costs[-1] == pytest.approx(whole, abs=1e-6)
    assert max(point["gmacs"] for point in record["apart"]["exits"]) <= costs[-1]
    paths = sorted(path for folder in sorted(clips.iterdir()) for path in folder.iterdir())
    places = halves([path.parent.name for path in paths], 3)[1]
    with (tmp_path / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows((paths[place], paths[place].parent.name) for place in places)
    (exits,) = (tmp_path / "exits").iterdir()
    found = json.loads(adafocus("evaluate", tmp_path / "list.csv", "--exit", exits, *options).out)
    assert found["cost"]["gmacs"] == record["budgets"][0]["checked"]["gmacs"] < costs[-1]
