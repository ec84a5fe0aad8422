"""What can only be seen on a CUDA device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adafocus_cli.engine.local import tag_as_they_come
from adafocus_cli.requests import TagRequest
from adafocus_cli.runtime.pytorch import TorchRuntime
from adafocus_cli.tagger import ClipTagger
from tests.clips import numbered_clip
from tests.conftest import deviation, without_timings
from tests.models.test_golden import frames_of
from tests.oracle import synth
from tests.tiny import LOOKING, tiny_model, tiny_tagger

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CASES = ("v1-actnet-p128", "v2-actnet-mbv2-p128", "uni-sthv1-p128-8x12", "slow-r50-k400")


def pixels(frames, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (frames, 64, 64, 3), np.uint8)


def on_cuda(family, batch_size=4):
    tagger = tiny_tagger(family)
    return ClipTagger(
        TorchRuntime(tiny_model(family), device="cuda", batch_size=batch_size), tagger.labels, lambda: tagger.model
    )


@pytest.mark.parametrize("case", CASES)
def test_the_answer_is_the_authors(case, checkpoint_file, golden):
    patch_size = synth.layout(case).get("patch_size")
    tagger = ClipTagger.load(
        checkpoint_file(case), patch_size=patch_size, device="cuda", precision="fp32", batch_size=1
    )
    assert deviation(tagger.tag_frames(*frames_of(case)).logits, golden(case)["logits"]) < 1e-3


def test_memory_that_is_used_again_is_not_written_before_it_is_copied():
    runtime = on_cuda("adafocus-v2").runtime
    product = torch.randn(4096, 4096, device="cuda")
    clips = [pixels(16, seed) for seed in range(40)]
    uploaded = []
    for clip in clips:
        product = product @ product  # so that copies queue up
        uploaded.append(runtime.upload([clip]))
    assert all(np.array_equal(on_device[0].cpu(), clip) for on_device, clip in zip(uploaded, clips, strict=True))


@pytest.mark.parametrize("family", LOOKING)
def test_graphs_give_the_bits_of_the_stages(family, caplog):
    runtime = on_cuda(family).runtime
    spec, shown = runtime.model.spec, [pixels(runtime.model.spec.glance_frames, seed) for seed in range(4)]
    patches = torch.rand(4, spec.focus_frames, 3, 32, 32, device="cuda")
    expected = runtime.glance(runtime.upload(shown)), runtime.focus(patches)
    with runtime.spread():
        for _ in range(5):
            answers = runtime.glance(runtime.upload(shown)), runtime.focus(patches)
            assert all(map(torch.equal, answers, expected))
    assert not caplog.messages, "a stage could not be captured"


def test_a_batch_run_gives_the_records_of_videos_alone(tmp_path):
    paths = [str(numbered_clip(tmp_path / f"{number}.mp4", frames=20 + number)) for number in range(13)]
    alone = {path: without_timings(on_cuda("adafocus-v1").tag_video(path).to_dict(logits=True)) for path in paths}
    results = tag_as_they_come(paths, on_cuda("adafocus-v1"), TagRequest())
    assert {result.video.path: without_timings(result.to_dict(logits=True)) for result in results} == alone


def test_tf32_differs_from_full_precision_by_little():
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("the device has no tf32")
    full, reduced = (TorchRuntime(tiny_model("adafocus-v1"), device="cuda", precision=p) for p in ("fp32", "tf32"))
    shown = full.upload([pixels(16)])
    expected, seen = full.glance(shown), reduced.glance(shown)
    assert 0 < (seen - expected).abs().max() / expected.std() < 0.05
