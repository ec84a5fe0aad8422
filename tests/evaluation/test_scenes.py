"""Scenes of made-up worlds, evaluated by the same loop as videos, and none that a training has seen."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from adafocus_cli.evaluation.data import Sample
from adafocus_cli.evaluation.frames import RenderedScene, scenes, tag_samples
from adafocus_cli.models import build
from adafocus_cli.requests import TagRequest
from adafocus_cli.training.clips import PlannedFrames, SceneClips
from adafocus_cli.video.framing import Framing
from adafocus_cli.video.pictures import resized
from adafocus_cli.weights_file import About, write
from adafocus_cli.worlds import world
from tests.tiny import tiny_model, tiny_spec, tiny_tagger

LABELS = world("glyphs").labels


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    model = build(replace(tiny_spec("adafocus-v2"), classes=len(LABELS)))
    path = tmp_path_factory.mktemp("weights") / "glyphs.safetensors"
    with path.open("wb") as file:
        write(file, About(spec=model.spec, name="tiny-glyphs", labels=LABELS), model.state_dict())
    return path


@pytest.fixture
def evaluate(adafocus, weights):
    def call(*arguments, command="evaluate"):
        return adafocus(command, *arguments, "-w", weights, "--device", "cpu")

    return call


def test_scenes_are_evaluated_as_videos_are(evaluate, tmp_path):
    done = evaluate("world:glyphs", "--limit", 11, "-f", "json", "--confusion", tmp_path / "matrix.png")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert (report["videos"], report["available"]) == ({"tagged": 11, "failed": 0}, 11)
    assert [(entry["label"], entry["videos"]) for entry in report["classes"]] == [
        (label, 2 if label == LABELS[0] else 1) for label in LABELS
    ]
    assert report["cost"]["frames_decoded"] == pytest.approx(16)
    assert (tmp_path / "matrix.png").exists()


@pytest.mark.parametrize("arguments", [("--policy", "random"), ("--max-gmacs", "0.02")])
def test_other_looks_and_caps(evaluate, arguments):
    first, again = (evaluate("world:glyphs", "--limit", 3, "--seed", 7, "-f", "json", *arguments) for _ in range(2))
    assert first.code == 0, first.err
    reports = [json.loads(done.out) for done in (first, again)]
    assert reports[0]["confusion"] == reports[1]["confusion"]
    assert (reports[0]["cost"]["frames_decoded"] < 16) is ("--max-gmacs" in arguments)


def test_thresholds_are_fitted_to_scenes(evaluate, tmp_path):
    options = ("world:glyphs", "--limit", 6, "-f", "json")
    done = evaluate(*options, "--budgets", 9, "-o", tmp_path / "exits", command="calibrate")
    assert done.code == 0, done.err
    record = json.loads(done.out)
    assert record["videos"] == {"fitted_on": 3, "checked_on": 3, "failed": 0}
    assert evaluate(*options, "--exit", tmp_path / "exits" / "exit-9.yaml").code == 0


def test_frames_are_those_that_training_would_show(monkeypatch):
    """The same pixels of the same scene, whichever way they come."""
    family, seen = "adafocus-v2", {}
    tagger = tiny_tagger(family)
    result = dict(tag_samples([Sample("world:glyphs#12", "A")], tagger, TagRequest(workers=1)))[0]
    monkeypatch.setattr("adafocus_cli.training.clips.seed_for", lambda *parts: seen.setdefault("seed", 12))
    clips = SceneClips("glyphs", True, 100, PlannedFrames(tagger.spec), 0)
    plan = tiny_model(family).plan(result.video.frames)
    direct = tagger.tag_frames(clips.read(12, ()).pixels)
    assert plan.frames == clips.planned.numbers(result.video.frames)
    np.testing.assert_array_equal(result.step_logits, direct.step_logits)
    rendered = RenderedScene.open("world:glyphs#12")
    boxes = [rendered.to_source(Framing(64))(look.box) for look in direct.trajectory]
    np.testing.assert_allclose([look.box for look in result.trajectory], boxes)
    first = result.trajectory[0]
    assert first.time == pytest.approx(first.frame / rendered.scene.fps)


def test_every_label_has_its_share_and_its_scenes():
    dataset = scenes("world:glyphs", 40, seed=3)
    assert set(Counter(sample.label for sample in dataset.samples).values()) == {4}
    for sample in dataset.samples[:3]:
        scene = RenderedScene.open(sample.path).scene
        assert world("glyphs").labels[scene.label] == sample.label
    others = scenes("world:glyphs", 40, seed=4)
    assert not {sample.path for sample in dataset.samples} & {sample.path for sample in others.samples}


def test_scenes_are_of_the_kind_that_training_never_shows():
    """And not those by which it judges itself."""
    number = 2
    taken = RenderedScene.open(f"world:glyphs#{number}").scene
    same, trained = (world("glyphs", unseen=unseen).scene(number, label=taken.label) for unseen in (True, False))
    np.testing.assert_array_equal(taken.frames([5]), same.frames([5]))
    assert (taken.frames([5]) != trained.frames([5])).any()
    judged = {}
    spec = tiny_spec("adafocus-v2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world("glyphs").__class__, "scene", lambda self, seed, label: judged.setdefault(seed, taken))
        validation = SceneClips("glyphs", True, 30, PlannedFrames(spec), 0)
        for place in range(len(validation)):
            validation.read(place, ())
    assert len(judged) == 30
    assert not {f"world:glyphs#{seed}" for seed in judged} & {s.path for s in scenes("world:glyphs", 1000, 0).samples}


def test_frames_of_another_size_are_whole():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    assert resized(pixels, 64) is pixels
    assert resized(pixels, 32).shape == (2, 32, 32, 3)
    np.testing.assert_allclose(resized(pixels, 32).mean(), pixels.mean(), atol=1)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["world:ocean"], "there is no world 'ocean'; choose one of motion, "),
        (["world:motion", "--root", "."], "--root is for lists, and world:motion is a synthetic world"),
        (["world:motion"], "world:motion has the class 'camera pans left', which the model does not know"),
        (["world:motion", "--seed", "-1"], "--seed -1 is not allowed; give a whole number of at least 0"),
    ],
)
def test_mistakes_are_one_line_with_the_next_step(evaluate, arguments, complaint):
    done = evaluate(*arguments)
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert line.startswith("adafocus: error: ")
    assert complaint in line
