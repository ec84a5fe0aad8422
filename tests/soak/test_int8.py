"""Eight bits beside the authors' own code: ranges are chosen from other frames than those that are tagged."""

from __future__ import annotations

import numpy as np
import pytest

from adafocus_cli.runtime.quantising import choose_ranges, noting_pictures
from tests import oracle
from tests.models.test_golden import LOOKING, cases, frames_of
from tests.oracle import synth

OF_PICTURES = tuple(name for name in LOOKING if not name.endswith("x3d"))


@pytest.mark.parametrize("case", cases("logits", families=OF_PICTURES))
def test_the_first_label_is_the_authors(case, tagger_of, golden):
    tagger = tagger_of(case, "openvino")
    shown = frames_of(case)
    networks = {"glance": tagger.family.glance_net, "focus": tagger.family.focus_net}
    for network in networks.values():
        network.round_by_hand({})  # another case may be of the same model
    layout = oracle.layout(case)
    others = synth.frames(layout["frames_seed"] + 1, layout["frames"], layout.get("input_size", 224))
    first = len(shown[0])
    with noting_pictures(tagger.runtime, 1) as seen:
        tagger.tag_frames(others[:first], None if shown[1] is None else others[first:])
    for name, network in networks.items():
        network.round_by_hand(choose_ranges(network.network, seen[name]).ranges)
    logits = tagger.tag_frames(*shown).logits
    assert np.argmax(logits) == np.argmax(golden(case)["logits"])
