"""Our models against the authors' own code, on the same made-up weights and frames.

Float32 sums in another order differ by about 1e-6 of the answers' spread; a real difference is a thousand times that.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import deviation
from tests.oracle import synth

SAME = 1e-3

V1 = ["v1-actnet-p128", "v1-sthv1-p144"]
V2 = ["v2-actnet-mbv2-p128", "v2-actnet-res50-p96", "v2-sthv1-p128"]
NETWORKS = ["slow-r50-k400", "i3d-r50-k400"]
UNI = ["uni-actnet-p128", "uni-sthv1-p128-8x12"]


def frames_of(case):
    """The case's frames, as (glance, focus)."""
    layout = synth.layout(case)
    frames = synth.frames(layout["frames_seed"], layout["frames"], layout.get("input_size", 224))
    if "tsm" not in layout["family"]:
        return frames, None
    return frames[: layout["num_glance_segments"]], frames[layout["num_glance_segments"] :]


@pytest.fixture(params=V1 + V2 + UNI + NETWORKS)
def case(request):
    return request.param


@pytest.mark.parametrize(
    ("case", "runtime"),
    [(case, "torch") for case in V1 + V2 + UNI + NETWORKS] + [(case, "openvino") for case in V1 + V2 + UNI],
)
def test_the_answer_and_every_step_are_the_authors(case, runtime, tagger_of, golden):
    result = tagger_of(case, runtime).tag_frames(*frames_of(case))
    expected = golden(case)
    assert deviation(result.logits, expected["logits"]) < SAME
    if "step_logits" in expected:
        assert deviation(result.step_logits, expected["step_logits"]) < SAME
    assert np.array_equal(result.logits, result.step_logits[-1])


@pytest.mark.parametrize("case", V1)
def test_patches_lie_exactly_where_the_authors_cut_them(case, tagger_of, golden):
    result = tagger_of(case).tag_frames(*frames_of(case))
    corners = np.array([(look.box[1], look.box[0]) for look in result.trajectory])
    assert np.array_equal(corners, np.broadcast_to(golden(case)["patch_top_left"], corners.shape))
    patch = synth.layout(case)["patch_size"]
    assert all((look.box[2] - look.box[0], look.box[3] - look.box[1]) == (patch, patch) for look in result.trajectory)


@pytest.mark.parametrize("case", V2 + UNI)
def test_patches_lie_where_the_authors_sampled_them(case, tagger_of, golden):
    """Their actions are (row, col) of the room that is left, and with Uni the height and width of the patch."""
    result = tagger_of(case).tag_frames(*frames_of(case))
    actions = golden(case)["actions"].reshape(-1, golden(case)["actions"].shape[-1])
    size = 96 + actions[:, 2:] * 128 if case in UNI else np.full((1, 2), synth.layout(case)["patch_size"])
    corner = actions[:, :2] * (224 - size)
    expected = np.concatenate((corner[:, ::-1], corner[:, ::-1] + size[:, ::-1]), axis=1)
    boxes = np.array([look.box for look in result.trajectory])
    np.testing.assert_allclose(boxes, np.broadcast_to(expected, boxes.shape), atol=0.01)


@pytest.mark.parametrize("case", UNI)
def test_frames_are_those_that_the_authors_chose(case, tagger_of, golden):
    result = tagger_of(case).tag_frames(*frames_of(case))
    first_candidate = 8 if case == "uni-sthv1-p128-8x12" else 0
    assert [look.frame - first_candidate for look in result.trajectory] == golden(case)["focus_indices"].tolist()


@pytest.mark.parametrize("case", ["v2-actnet-mbv2-p128", "v2-actnet-res50-p96"])
def test_frames_are_seen_coarse_to_fine(case, tagger_of):
    result = tagger_of(case).tag_frames(*frames_of(case))
    assert [look.frame for look in result.trajectory] == synth.layout(case)["frame_order"]


def test_spec_is_told_from_the_tensors(case, tagger_of):
    spec, layout = tagger_of(case).spec, synth.layout(case)
    side = layout.get("patch_size", layout.get("input_size"))
    assert (spec.family, spec.classes, spec.patch_size) == (layout["family"], layout["num_classes"], side)
    if case in NETWORKS:
        assert (spec.mean, spec.std) == (tuple(layout["mean"]), tuple(layout["std"]))
    if "num_glance_segments" in layout:
        assert spec.glance_frames == layout["num_glance_segments"]
        assert spec.focus_frames == layout["num_focus_segments"]
