"""The quick recipe: `adafocus train clips/ -o mine`, from a few clips to the file of a model."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adafocus_cli import Tagger, weights_file
from adafocus_cli.checkpoint import load
from adafocus_cli.cli.app import run
from adafocus_cli.evaluation.data import Dataset, Sample
from adafocus_cli.flops import cost_of
from adafocus_cli.labels import LabelSet
from adafocus_cli.models import build
from adafocus_cli.models.taught import Taught, TaughtToLook
from adafocus_cli.nn.movement import Movement
from adafocus_cli.runtime.pytorch import TorchRuntime
from adafocus_cli.schema import ModelInfo
from adafocus_cli.training import quick, tuning
from adafocus_cli.training.clips import FileClips, PlannedFrames
from adafocus_cli.training.initial_model import load_network
from adafocus_cli.training.quick import SeenClips, SeenLooks, folds_of, learn
from adafocus_cli.training.tuning import Tuning
from tests.clips import cut_off, numbered_clip

SMALL = replace(Taught.published, glance_frames=16, focus_frames=4, frame_area=64 * 64)  # a fortieth of the cost
KINDS = {"things": 6, "changes": 6, "shares": 6, "centred": 6, "ways": 6, "anywhere": 6}


def train(*arguments: object) -> int:
    return run(["train", *map(str, arguments), "--workers", "0", "-q"])


@pytest.fixture(scope="session")
def taught_run(made_videos, tmp_path_factory):
    """The folder of a run of eight videos, which are beside it."""
    top = tmp_path_factory.mktemp("quick")
    shutil.copytree(made_videos, top / "videos")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(top)
        patch.setattr(Taught, "published", SMALL)
        assert train("videos", "-o", "mine", "--folds", 2) == 0
    return top / "mine"


@pytest.fixture
def mine(taught_run, tmp_path, monkeypatch):
    """A copy of it, in the current folder."""
    shutil.copytree(taught_run.parent, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setattr(Taught, "published", SMALL)
    return tmp_path / "copy" / "mine"


@pytest.fixture
def clips_seen(monkeypatch):
    """The indices of the clips that are decoded and seen."""
    seen: list[int] = []
    see = quick.EvidenceJob.see

    def counted(job, index):
        seen.append(index)
        return see(job, index)

    monkeypatch.setattr(quick.EvidenceJob, "see", counted)
    return seen


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "folds.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def clips_of(evidence: torch.Tensor, targets: torch.Tensor) -> SeenClips:
    names = tuple(map(str, range(len(targets))))
    return SeenClips(evidence.half().numpy(), targets, names, names, {})


def test_without_options_a_few_clips_become_a_model_that_tags(taught_run):
    about = weights_file.read_about(taught_run / "model.safetensors")
    assert (about.spec.family, about.labels, about.name) == ("taught", ("high", "low"), "mine")
    facts = json.loads(about.training)
    rows = rows_of(taught_run)
    right = sum(row["label"] == row["answer"] for row in rows) / len(rows)
    assert (facts["recipe"], facts["cross-validation"]["accuracy"]) == ("quick", right)
    assert len(rows) == 8
    result = Tagger.load(taught_run / "model.safetensors", device="cpu").tag_video(
        taught_run.parent / "videos/low/0.mp4", min_score=0
    )
    assert {tag.label for tag in result.labels} == {"high", "low"}
    assert (taught_run / "model.safetensors").stat().st_size < 1 << 20


def test_it_sees_in_training_what_it_sees_when_it_tags(taught_run):
    tagger = Tagger.load(taught_run / "model.safetensors", device="cpu")
    path = taught_run.parent / "videos/low/0.mp4"
    spec = quick.spec_for(2, looks=True)
    spec = replace(SMALL, family=spec.family, glance=spec.glance, focus=spec.focus)
    cache = quick.EvidenceCache(taught_run / "evidence", spec)
    kept = torch.from_numpy(cache.get(quick.hash_of(Sample(str(path), "low")))).float()[0]
    logits = tagger.tag_video(path).logits
    with torch.inference_mode():
        expected = tagger.family.answer(tagger.family.all_evidence(kept[None]))[0]
    assert torch.from_numpy(logits).allclose(expected, atol=0.02)


def test_with_more_clips_only_these_are_decoded(mine, clips_seen):
    before = (mine / "model.safetensors").read_bytes()
    numbered_clip(Path("videos/low/9.mp4"), frames=6, first_number=77, size=(96, 80))
    assert train("videos", "-o", "mine", "--folds", 2) == 0
    assert len(clips_seen) == 1
    assert len(rows_of(mine)) == 9
    assert (mine / "model.safetensors").read_bytes() != before


def test_a_run_that_was_killed_is_resumed_to_the_same_file(mine, clips_seen):
    model, rows = (mine / "model.safetensors").read_bytes(), rows_of(mine)
    for name in ("model.safetensors", "folds.csv"):
        (mine / name).unlink()
    for path in sorted((mine / "evidence").iterdir())[:3]:
        path.unlink()
    assert run(["train", "--resume", "mine", "--workers", "0", "-q"]) == 0
    assert len(clips_seen) == 3
    assert ((mine / "model.safetensors").read_bytes(), rows_of(mine)) == (model, rows)


def test_a_network_is_tuned_where_that_pays(mine, clips_seen, monkeypatch, capsys):
    cross_validate = quick.cross_validate

    def at_a_loss(*arguments, **options):
        """The network as it was takes every clip for one of the other class."""
        for number, crossed in cross_validate(*arguments, **options):
            yield number, replace(crossed, logits=torch.eye(2).double()[1 - crossed.clips.targets])

    monkeypatch.setattr(quick, "cross_validate", at_a_loss)
    monkeypatch.setattr(tuning, "_EPOCHS", 2)
    monkeypatch.setattr(quick, "_MIXTURES", quick._MIXTURES[:1])
    assert run(["train", "videos", "-o", "mine", "--workers", "0", "--folds", "2", "--tune"]) == 0
    assert "as it was 0.0 %; the model takes the tuned one" in capsys.readouterr().err
    assert len(clips_seen) == 8  # nothing was kept that a network can be tuned on
    checkpoint = load(mine / "model.safetensors")
    assert json.loads(checkpoint.about.training)["tuned"]
    pretrained = quick.pretrained(quick.spec_for(2)).glance_net.state_dict()
    changed = {
        name for name, tensor in pretrained.items() if not tensor.equal(checkpoint.tensors[f"glance_net.{name}"])
    }
    assert {name.split(".")[0] for name in changed} == {"_blocks", "_conv_head"}
    assert min(int(name.split(".")[1]) for name in changed if "_blocks" in name) == 11
    tagger = Tagger.load(mine, device="cpu")
    told = [tagger.tag_video(path, min_score=0).labels[0].label for path in sorted(Path("videos").glob("*/*.mp4"))]
    assert told == ["high"] * 4 + ["low"] * 4
    model = (mine / "model.safetensors").read_bytes()
    (mine / "model.safetensors").unlink()
    assert train("--resume", "mine") == 0
    assert (mine / "model.safetensors").read_bytes() == model


def test_a_network_that_was_tuned_in_vain_is_left_as_it_was(mine, monkeypatch, capsys):
    monkeypatch.setattr(Tuning, "tuned", lambda tuning, *of: tuning.model.glance_net)
    monkeypatch.setattr(quick, "_MIXTURES", quick._MIXTURES[:1])
    assert run(["train", "videos", "-o", "mine", "--workers", "0", "--folds", "2", "--tune"]) == 0
    assert "the model takes it as it was" in capsys.readouterr().err
    about = weights_file.read_about(mine / "model.safetensors")
    assert about.spec.glance.package_sha256 is not None
    assert not json.loads(about.training)["tuned"]


def test_clips_of_a_group_are_tested_together(mine):
    """Videos 0 and 2 of both classes are one group, 1 and 3 the other."""
    for label in ("high", "low"):
        for number in range(4):
            clip = Path(f"videos/{label}/{number}.mp4")
            clip.rename(clip.with_name(f"{number}_day{number % 2}.mp4"))
    assert train("videos", "-o", "mine", "--group", r"day(\d)") == 0
    folds = {row["path"][-5]: set() for row in rows_of(mine)}
    for row in rows_of(mine):
        folds[row["path"][-5]].add(row["fold"])
    assert sorted(map(sorted, folds.values())) == [["1"], ["2"]]
    about = weights_file.read_about(mine / "model.safetensors")
    assert json.loads(about.training)["cross-validation"]["groups"] == r"day(\d)"


def test_validation_clips_of_ones_own_say_how_right_the_model_is(mine, clips_seen):
    shutil.copytree("videos", "test")
    assert train("videos", "--val", "test", "-o", "mine", "--folds", 2) == 0
    assert clips_seen == []  # they are the same clips
    assert json.loads(weights_file.read_about(mine / "model.safetensors").training)["accuracy"] >= 0.5


def test_mirrored_clips_are_seen_only_where_they_are_learnt_from(mine):
    for label, first in (("high", 3000), ("low", 1000)):
        Path("test", label).mkdir(parents=True)
        numbered_clip(f"test/{label}/9.mp4", frames=6, first_number=first, size=(96, 80))
    assert train("videos", "--val", "test", "-o", "mine", "--folds", 2) == 0
    assert sorted(len(np.load(path)) for path in (mine / "evidence").iterdir()) == [1] * 2 + [2] * 8


def test_a_group_on_both_sides_of_a_split_is_told_of(mine, capsys):
    shutil.copytree("videos", "test")
    assert run(["train", "videos", "--val", "test", "-o", "mine", "--workers", "0", "--group", "folder"]) == 0
    assert "clips of 'high' (2 groups in all) are in both training and validation" in capsys.readouterr().err


def test_more_folds_than_groups_are_told_of(mine, capsys):
    assert run(["train", "videos", "-o", "mine", "--workers", "0", "--folds", "9", "--group", "folder"]) == 0
    assert "9 folds need 9 groups of clips, and there are 2; making 2 folds" in capsys.readouterr().err
    assert run(["train", "videos", "-o", "mine", "--workers", "0", "--folds", "2", "--group", "folder"]) == 0
    assert "groups of clips" not in capsys.readouterr().err


def test_a_video_that_cannot_be_read_is_left_out(mine, capsys):
    cut_off(Path("videos/low/2.mp4"), 0.1)
    assert run(["train", "videos", "-o", "mine", "--workers", "0", "--folds", "2"]) == 3
    assert "left out 1 video that could not be read" in capsys.readouterr().err
    assert len(rows_of(mine)) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--recipe", "quick", "--epochs", "3"), "--epochs does not apply to recipe quick"),
        (("--recipe", "v2", "--folds", "3"), "--folds is for recipe quick, not v2"),
        (("--recipe", "v2", "--tune"), "--tune is for recipe quick, not v2, which tunes its networks"),
        (("--recipe", "quick", "--memory", "2"), "--memory does not apply to recipe quick"),
        (("--folds", "3", "--threads", "1"), "--threads does not apply to recipe quick"),
        (("--tune", "--frame-cache", "kept"), "--frame-cache does not apply to recipe quick"),
        (("--recipe", "quick", "--cache-gb", "0"), "--cache-gb does not apply to recipe quick"),
        (("--group", "day"), "--group day finds nothing in"),
        (("--group", "(", "--folds", "3"), "--group ( is not a regular expression"),
        (("--group", "videos"), "all clips are of the group 'videos'"),
    ],
)
def test_what_does_not_fit_is_refused(options, message, mine, capsys):
    assert run(["train", "videos", "-o", "mine", *options]) == 2
    assert message in capsys.readouterr().err


def test_its_records_of_a_folder_become_a_report(mine, capsys):
    assert run(["batch", "videos/low", "-o", "tags.jsonl", "-w", "mine", "--min-score", "0"]) == 0
    assert "of whole frames" not in capsys.readouterr().err
    assert run(["report", "tags.jsonl", "-o", "report.html", "-q"]) == 0
    page = Path("report.html").read_text()
    assert "videos/low/3.mp4" in page
    assert '"share":null' in page.replace(" ", "")


def test_its_evaluation_says_that_it_sees_whole_frames(mine, capsys):
    assert run(["evaluate", "videos", "-w", "mine", "-q"]) == 0
    assert "mine on videos, with whole frames" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("calibrate", "videos", "--budgets", "2"), "gives one answer a video, so there is no exit to calibrate"),
        (("evaluate", "videos", "--policy", "random"), "uses whole frames and has no policy; leave --policy out"),
    ],
)
def test_a_model_without_looks_has_no_exits_and_no_policy(arguments, message, mine, capsys):
    assert run([*arguments, "-w", "mine"]) in (1, 2)
    assert message in capsys.readouterr().err


def test_a_video_costs_less_than_4_gmacs():
    assert 2 < cost_of(Taught.published).gmacs < 4
    assert cost_of(TaughtToLook.published).gmacs < 5


def test_groups_are_told_by_a_column_a_folder_or_the_path():
    samples = (Sample("a/ann/1_s3.mp4", "wave", cells=(("who", "x"),)), Sample("a/bob/2_s4.mp4", "wave"))
    dataset = Dataset(samples, "list.csv")
    assert dataset.groups("who") == ("x", "")
    assert dataset.groups("folder") == ("ann", "bob")
    assert dataset.groups(r"s(\d)") == ("3", "4")
    assert dataset.groups(r"s\d") == ("s3", "s4")


def test_folds_keep_groups_together_and_classes_apart():
    groups = [f"recording {index // 4}" for index in range(40)]
    targets = [index % 4 for index in range(40)]
    folds = folds_of(groups, targets, 5, seed=0)
    assert sorted(index for fold in folds for index in fold) == list(range(40))
    assert all(len({groups[index] for index in fold}) == 2 for fold in folds)
    assert all(sorted(targets[index] for index in fold) == [0, 0, 1, 1, 2, 2, 3, 3] for fold in folds)


def test_what_cannot_be_learnt_is_not_claimed():
    """A layer with as many numbers as clips remembers all of them; its scores are of clips that it had not seen."""
    chance = torch.Generator().manual_seed(0)
    clips = clips_of(torch.randn(60, 2, 36, generator=chance), torch.arange(60) % 3)
    answers = learn(clips, KINDS, 3, flip=True, seed=0)
    assert answers.accuracy < 0.6
    assert answers(clips).softmax(dim=1).amax(dim=1).mean() < 0.75


def test_what_can_be_learnt_is():
    chance = torch.Generator().manual_seed(0)
    evidence, targets = torch.randn(60, 2, 36, generator=chance), torch.arange(60) % 3
    evidence[..., 20:23] += 4 * torch.eye(3)[targets][:, None]
    answers = learn(clips_of(evidence, targets), KINDS, 3, flip=True, seed=0)
    fresh = torch.randn(60, 2, 36, generator=chance)
    fresh[..., 20:23] += 4 * torch.eye(3)[targets][:, None]
    assert (answers(clips_of(fresh, targets)).argmax(dim=1) == targets).double().mean() > 0.9


def test_mirrored_clips_are_left_out_where_left_and_right_are_classes():
    chance = torch.Generator().manual_seed(0)
    targets = torch.arange(60) % 2
    evidence = torch.randn(60, 2, 36, generator=chance) / 2
    side = (2 * targets - 1).float()[:, None]
    evidence[:, 0, 18:] += side
    evidence[:, 1, 18:] -= side
    answers = learn(clips_of(evidence, targets), KINDS, 2, flip=True, seed=0)
    assert not answers.choice.mirrored
    assert answers.accuracy == 1.0


def looked_into(clips: SeenClips, *, shown: bool) -> SeenClips:
    """With looks into eight boxes, with ten hints: the first tells where the class is to be seen, if it is `shown`."""
    chance = np.random.default_rng(0)
    model = quick.empty_model(replace(SMALL, family="taught-looks", glance_frames=8, focus_frames=2))
    counts = [*model.kinds.values()]
    first = model.hints + counts[len(model.whole_kinds)]
    seen = []
    for target in clips.targets.tolist():
        rows = chance.normal(0, 0.01, (8, model.hints + sum(counts[len(model.whole_kinds) :])))
        where = chance.integers(8)
        rows[:, 10 : model.hints] = 0
        rows[:, 0] = np.arange(8) == where
        if shown:
            rows[where, first + target * 50 : first + target * 50 + 50] += 0.5
        seen.append(rows.astype(np.float16))
    return replace(clips, looks=SeenLooks(model, tuple(seen)))


def unclear_clips(chance: torch.Generator) -> SeenClips:
    """Of which a glance tells nothing."""
    model = quick.empty_model(replace(SMALL, family="taught-looks", glance_frames=8, focus_frames=2))
    numbers = sum(model.whole_kinds.values())
    return clips_of(torch.randn(48, 1, numbers, generator=chance), torch.arange(48) % 3)


def test_where_to_look_is_learnt_from_what_looks_are_worth():
    clips = looked_into(unclear_clips(torch.Generator().manual_seed(0)), shown=True)
    answers = learn(clips, clips.looks.model.whole_kinds, 3, flip=False, seed=0)
    assert answers.worth is not None
    assert answers.accuracy > 0.9
    where = [int(rows[:, 0].argmax()) for rows in clips.looks.seen]
    assert clips.looks.best(answers.worth) == where
    assert (answers(clips).argmax(dim=1) == clips.targets).all()


def test_a_model_does_not_look_where_that_does_not_help():
    clips = unclear_clips(torch.Generator().manual_seed(0))
    clips.evidence[:, 0, :3000] += 2 * np.eye(3, dtype=np.float16)[clips.targets].repeat(1000, axis=1)
    clips = looked_into(clips, shown=False)
    assert learn(clips, clips.looks.model.whole_kinds, 3, flip=False, seed=0).worth is None


@pytest.fixture(scope="module")
def looking_model():
    """Small, with layers that nobody has taught."""
    spec = replace(quick.spec_for(2, looks=True), glance_frames=8, focus_frames=2, frame_area=128 * 96)
    torch.manual_seed(0)
    model = build(replace(spec, focus=replace(spec.focus, size=64)))
    load_network(model, "glance", quick.installed(spec.glance.arch))
    return model


def test_looks_see_in_training_what_they_see_when_it_tags(looking_model, tmp_path):
    model, spec = looking_model, looking_model.spec
    path = str(numbered_clip(tmp_path / "0.mp4", frames=12, size=(384, 288)))
    cache = quick.EvidenceCache(tmp_path, spec)
    files = FileClips([Sample(path, "a")], [(0,)], PlannedFrames(spec), looks=quick.AllLooks(spec))
    assert quick.EvidenceJob(files, ["clip"], spec, cache, (), 2, "cpu").see(0) is None
    files.close()
    info = ModelInfo(name="m", family=spec.family, dataset=None, sha256="0" * 64, patch_size=64)
    tagger = Tagger(TorchRuntime(model, device="cpu"), LabelSet(("a", "b"), "numbers"), lambda: info)
    result = tagger.tag_video(path)
    looks = SeenLooks(model, (cache.looks("clip"),))
    box = looks.best(model.worth.weight[0].detach().double())[0]
    evidence = (model.all_evidence(torch.from_numpy(cache.get("clip")[:1]).float())[0], looks.evidence([box], 1)[0, 0])
    with torch.inference_mode():
        expected = model.answer(torch.cat((evidence[0], torch.from_numpy(evidence[1]).float())))
    assert torch.from_numpy(result.logits).allclose(expected, atol=0.02)
    assert result.trajectory[0].box == pytest.approx([3 * side for side in model.grid(96, 128)[box].tolist()])
    assert (len(result.trajectory), result.cost.full_frame_gmacs) == (2, None)


def test_a_model_that_looks_is_one_file_like_any_other(mine, monkeypatch):
    """Whatever it looked at: the clips are too easy to need a look."""
    focus = replace(TaughtToLook.published.focus, size=64)
    monkeypatch.setattr(TaughtToLook, "published", replace(TaughtToLook.published, focus=focus))
    monkeypatch.setattr(quick, "_SHARPER", 0)
    monkeypatch.setattr(quick, "_MIXTURES", quick._MIXTURES[:1])
    without_looks = quick.learn

    def learn_with_looks(clips, kinds, classes, *, flip, seed):
        answers = without_looks(replace(clips, looks=None), kinds, classes, flip=flip, seed=seed)
        numbers = sum(clips.looks.model.kinds.values()) - len(answers.weights)
        weights = torch.cat((answers.weights, torch.full((numbers, classes), 0.25).double()))
        return replace(answers, weights=weights, worth=torch.ones(clips.looks.model.hints).double())

    monkeypatch.setattr(quick, "learn", learn_with_looks)
    assert train("videos", "-o", "mine", "--folds", 2) == 0
    about, tensors = weights_file.read(mine / "model.safetensors")
    assert (about.spec.family, json.loads(about.training)["looks"]) == ("taught-looks", True)
    assert sorted(tensors) == ["answer.bias", "answer.weight", "worth.bias", "worth.weight"]
    result = Tagger.load(mine / "model.safetensors", device="cpu").tag_video("videos/low/0.mp4")
    assert len({look.box for look in result.trajectory}) == 1
    assert len(result.trajectory) == SMALL.focus_frames
    assert run(["evaluate", "videos", "-w", "mine", "--policy", "centre", "-q"]) == 0


def test_validation_clips_are_looked_into_however_small_they_are(videos, monkeypatch):
    """Training clips show more than a glance, and looks pay; those of --val show less."""
    monkeypatch.setattr(Taught, "published", SMALL)
    monkeypatch.setattr(
        TaughtToLook, "published", replace(SMALL, family="taught-looks", focus=TaughtToLook.published.focus)
    )
    monkeypatch.setattr(quick, "_SHARPER", 1)
    monkeypatch.setattr(quick, "_MIXTURES", quick._MIXTURES[:1])
    chance, learnt = np.random.default_rng(0), quick.learn
    model = quick.empty_model(quick.spec_for(2, looks=True))

    def see(job, index):
        """Numbers by chance, of a video whose size the path tells."""
        size = (48, 40) if "test" in job.clips.samples[index].path else (96, 80)
        boxes = len(job.clips.looks.into(*size, 4)) // SMALL.focus_frames
        whole = sum(model.whole_kinds.values()) - Movement.anywhere_size
        in_box = model.hints + sum(model.kinds.values()) - sum(model.whole_kinds.values())
        looks = chance.random((boxes, in_box), np.float32).astype(np.float16) if boxes else None
        job.cache.put(job.hashes[index], chance.random((job.views, whole), np.float32).astype(np.float16), looks=looks)

    def learn_to_look(clips, kinds, classes, *, flip, seed):
        answers = learnt(replace(clips, looks=None), kinds, classes, flip=flip, seed=seed)
        weights = torch.ones(sum(model.kinds.values()), classes).double()
        return replace(answers, weights=weights, worth=torch.ones(model.hints).double())

    monkeypatch.setattr(quick.EvidenceJob, "see", see)
    monkeypatch.setattr(quick, "learn", learn_to_look)
    shutil.copytree("videos", "test")
    for video in Path("test").glob("*/*"):
        video.write_bytes(video.read_bytes() + b" ")  # another clip
    assert train("videos", "-r", "quick", "--val", "test", "-o", "mine", "--folds", 2) == 0
    facts = json.loads(weights_file.read_about(Path("mine/model.safetensors")).training)
    assert (facts["looks"], "accuracy" in facts) == (True, True)


def test_a_source_that_shows_little_more_than_the_glance_is_not_looked_into(looking_model):
    looks = quick.AllLooks(looking_model.spec)
    assert len(looks.into(384, 288, 12)) == 2 * 3 * 4
    assert looks.into(380, 288, 12) == ()


def test_the_evidence_of_a_mirrored_box_is_that_of_the_mirrored_clip(looking_model):
    """Of what moves; what the network sees of a mirrored picture is mirrored only about."""
    model = looking_model
    torch.manual_seed(0)
    frames, seen = torch.rand(1, 8, 3, 96, 128), torch.zeros(1, 2, model.whole_kinds["things"])
    left, top, right, bottom = model.grid(96, 128)[0].tolist()
    box = torch.tensor((left, top, right, bottom)).expand(1, 2, 4)
    other = torch.tensor((128 - right, top, 128 - left, bottom)).expand(1, 2, 4)
    with torch.inference_mode():
        evidence = model.box_evidence(model.glance(frames), seen, box)
        of_mirrored = model.box_evidence(model.glance(frames.flip(4)), seen, other)
    moving = sum(model.kinds[f"box {name}"] for name in ("shares", "centred", "ways"))
    torch.testing.assert_close(model.mirrored(evidence)[:, -moving:], of_mirrored[:, -moving:], atol=0.02, rtol=0)
    assert not evidence.allclose(of_mirrored, atol=0.05)


@pytest.mark.parametrize(("step", "direction"), [((0, 3), 0), ((3, 0), 2), ((0, -3), 4), ((-3, 0), 6)])
def test_what_moves_is_told_with_its_direction(step, direction):
    """A piece of a picture moves over one that stands still; x to the right, y down."""
    chance = np.random.default_rng(0)
    scene, thing = chance.random((96, 96)), chance.random((24, 24))
    pairs = []
    for number in range(8):
        first, second = scene.copy(), scene.copy()
        top, left = 36 + (number - 4) * step[0], 36 + (number - 4) * step[1]
        first[top : top + 24, left : left + 24] = thing
        second[top + step[0] : top + step[0] + 24, left + step[1] : left + step[1] + 24] = thing
        pairs.append(np.stack((first, second)))
    ways = Movement()(torch.from_numpy(np.stack(pairs)).float()[None])[2]
    small_level = ways.view(2, 8, 8, 36)[0]  # levels, parts of the clip, directions, cells
    assert int(small_level.sum(dim=(0, 2)).argmax()) == direction


@pytest.mark.parametrize("count", [1, 2, 5, 16, 100, 5000])
def test_the_frames_of_pairs_are_in_the_video(count):
    with torch.device("meta"):
        frames = Taught(Taught.published).plan(count).frames
    assert len(frames) == 48
    assert all(0 <= first <= second < count for first, second in zip(frames[::2], frames[1::2], strict=True))
    assert all(
        first < second <= first + 6 for first, second in zip(frames[::2], frames[1::2], strict=True) if count > 1
    )
