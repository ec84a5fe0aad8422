"""Our models against the authors' own code, on the same made-up weights and frames: every case of the oracle's folder.

Float32 sums in another order differ by about 1e-6 of the answers' spread; a real difference is a thousand times that.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from functools import cache, lru_cache, partial

import numpy as np
import pytest
import torch

from adafocus_cli.exits import ExitRule
from adafocus_cli.flops import cost_of
from adafocus_cli.models import FAMILIES, build, default_spec
from adafocus_cli.tagger import clip_of
from adafocus_cli.video.sampling import spread_by_share
from tests import oracle
from tests.conftest import deviation
from tests.oracle import synth

SAME = 1e-3


def cases(*needed, families=tuple(FAMILIES), runtimes=()):
    """The golden files that have these arrays and are of these families; those of no family here are skipped."""
    found = []
    for name in oracle.goldens():
        family = oracle.layout(name)["family"]
        strange = [pytest.mark.skip(reason=f"there is no family {family} here")] if family not in FAMILIES else []
        if (family in families or strange) and set(needed) <= set(np.load(oracle.file_of(f"golden/{name}.npz"))):
            found += [pytest.param(name, *more, marks=strange) for more in runtimes or [()]]
    return found


LOOKING = tuple(name for name, family in FAMILIES.items() if family.cuts_patches)
EXACT = tuple(name for name in LOOKING if FAMILIES[name].whole_pixels)
SAMPLED = tuple(name for name in LOOKING if not FAMILIES[name].whole_pixels)


of_cases = partial(pytest.mark.parametrize, scope="module")
"""All tests of a case follow one another, while its tagger and answer are kept."""


@lru_cache(maxsize=2)
def frames_of(case):
    """The case's frames, as (glance, focus)."""
    layout = oracle.layout(case)
    frames = synth.frames(layout["frames_seed"], layout["frames"], layout.get("input_size", 224))
    if "tsm" not in layout["family"] and "num_input_focus_segments" not in layout:
        return frames, None
    return frames[: layout["num_glance_segments"]], frames[layout["num_glance_segments"] :]


@pytest.fixture(scope="module")
def answer_to(tagger_of):
    """What we make of a case, and the model's spec; each case is tagged once."""

    @cache
    def answer(case, runtime):
        tagger = tagger_of(case, runtime)
        return tagger.tag_frames(*frames_of(case)), tagger.spec

    return lambda case, runtime="torch": answer(case, runtime)  # a default would be another key of the cache


IN_OPENVINO = (*LOOKING, "slow-r50", "i3d-r50", "x3d-s", "x3d-m", "x3d-l")
BY_RUNTIME = [
    *cases("logits", runtimes=[("torch",)]),
    *cases("logits", families=IN_OPENVINO, runtimes=[("openvino",)]),
]


@of_cases(("case", "runtime"), BY_RUNTIME)
def test_the_answer_and_every_step_are_the_authors(case, runtime, answer_to, golden):
    result, _ = answer_to(case, runtime)
    expected = golden(case)
    assert deviation(result.logits, expected["logits"]) < SAME
    if "step_logits" in expected:
        assert deviation(result.step_logits, expected["step_logits"]) < SAME
    assert np.array_equal(result.logits, result.step_logits[-1])


@of_cases("case", cases("exit_logits"))
def test_the_answer_of_every_exit_is_the_authors(case, answer_to, golden):
    (result, _), expected = answer_to(case), golden(case)["exit_logits"]
    assert len(result.step_logits) == len(expected)
    for ours, theirs in zip(result.step_logits, expected, strict=True):
        assert deviation(ours, theirs) < SAME


@of_cases("case", cases("patch_top_left", families=EXACT))
def test_patches_lie_exactly_where_the_authors_cut_them(case, answer_to, golden):
    result, _ = answer_to(case)
    corners = np.array([(look.box[1], look.box[0]) for look in result.trajectory])
    assert np.array_equal(corners, np.broadcast_to(golden(case)["patch_top_left"], corners.shape))
    patch = oracle.layout(case)["patch_size"]
    assert all((look.box[2] - look.box[0], look.box[3] - look.box[1]) == (patch, patch) for look in result.trajectory)


@of_cases("case", cases("actions", families=SAMPLED))
def test_patches_lie_where_the_authors_sampled_them(case, answer_to, golden):
    """Their actions are (row, col) of the room that is left, and with Uni the height and width of the patch."""
    result, _ = answer_to(case)
    actions = np.atleast_2d(golden(case)["actions"])
    size = 96 + actions[:, 2:] * 128 if actions.shape[1] == 4 else np.full((1, 2), oracle.layout(case)["patch_size"])
    corner = actions[:, :2] * (224 - size)
    expected = np.concatenate((corner[:, ::-1], corner[:, ::-1] + size[:, ::-1]), axis=1)
    boxes = np.array([look.box for look in result.trajectory])
    np.testing.assert_allclose(boxes, np.broadcast_to(expected, boxes.shape), atol=0.01)


@of_cases("case", cases("focus_indices"))
def test_frames_are_those_that_the_authors_chose(case, answer_to, golden):
    glance, candidates = frames_of(case)
    result, _ = answer_to(case)
    first_candidate = 0 if candidates is None else len(glance)
    assert [look.frame - first_candidate for look in result.trajectory] == golden(case)["focus_indices"].tolist()


@of_cases("case", cases("step_logits", families=("adafocus-v2",)))
def test_frames_are_seen_coarse_to_fine(case, answer_to):
    result, _ = answer_to(case)
    assert [look.frame for look in result.trajectory] == oracle.layout(case)["frame_order"]


@of_cases("case", cases())
def test_spec_is_told_from_the_tensors(case, answer_to):
    (_, spec), layout = answer_to(case), oracle.layout(case)
    side = layout.get("patch_size", layout.get("input_size"))
    assert (spec.family, spec.classes, spec.patch_size) == (layout["family"], layout["num_classes"], side)
    if "mean" in layout:
        assert (spec.mean, spec.std) == (tuple(layout["mean"]), tuple(layout["std"]))
    if "num_glance_segments" in layout:
        assert spec.glance_frames == layout["num_glance_segments"]
        assert spec.focus_frames == layout["num_focus_segments"]


@of_cases("case", cases("macs"))
def test_multiply_adds_are_those_of_the_authors_layers(case, golden):
    counted = cost_of(replace(default_spec(oracle.layout(case)["family"]), classes=oracle.layout(case)["num_classes"]))
    assert counted.gmacs * 1e9 == pytest.approx(float(golden(case)["macs"]), rel=1e-3)


@of_cases("case", cases("step_logits", families=("adafocus-v2", "uni-adafocus")))
def test_a_forced_exit_gives_the_authors_answer_of_that_step(case, tagger_of, golden):
    expected = golden(case)["step_logits"]
    last = len(expected) - 1  # not forced, but the answer above
    steps = [step for step in (0, 5, 15, last - 5) if step < last]
    check_exits(tagger_of(case), frames_of(case), expected, steps=steps)


@of_cases("case", cases("exit_logits"))
def test_leaving_after_the_glance_gives_the_authors_answer(case, tagger_of, golden):
    check_exits(tagger_of(case), frames_of(case), golden(case)["exit_logits"], steps=(0, 1))


def check_exits(tagger, frames, expected, *, steps):
    given, plan = [part for part in frames if part is not None], tagger.family.plan(1 << 20)
    for step in steps:
        thresholds = (math.inf,) * step + (-math.inf,) * (len(expected) - step)
        (result,) = tagger.tag([clip_of(np.concatenate(given), plan)], rule=ExitRule(thresholds=thresholds))
        assert result.exit.step == step
        assert deviation(result.logits, expected[step]) < SAME


SAMPLING = json.loads(oracle.file_of("sampling.json").read_text())


@pytest.mark.parametrize("name", SAMPLING)
def test_the_frames_of_a_video_of_any_length_are_the_authors(name):
    """Families that choose among candidates are named with their number, as in uni-adafocus-tsm-36."""
    family, candidates = re.fullmatch(r"(.+?)(?:-(\d+))?", name).groups()
    if family not in FAMILIES:
        pytest.skip(f"there is no family {family} here")
    spec = default_spec(family)
    if candidates:
        spec = replace(spec, candidate_frames=int(candidates), focus_frames=int(candidates) // 3)
    with torch.device("meta"):
        model = build(spec)
    for count, expected in SAMPLING[name].items():
        plan = model.plan(int(count))
        ours = {who: [plan.frames[place] for place in getattr(plan, who)] for who in ("glance", "focus")}
        assert ours == {who: expected[who] for who in ours}, count


@pytest.mark.parametrize("name", [name for name in SAMPLING if re.match("uni-adafocus-(tsm|x3d)", name)])
def test_uni_takes_the_same_shares_of_a_video_for_every_number_of_frames(name):
    for count, expected in SAMPLING[name].items():
        for frames in (expected["glance"], expected["focus"]):
            assert spread_by_share(int(count), len(frames)) == tuple(frames), count
