"""Converted files: the same answers, the same bytes, and no trust in what they claim."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from adafocus_cli import Tagger, checkpoint, weights_file
from adafocus_cli.errors import ModelError
from adafocus_cli.files import sha256_of
from tests.library.conftest import TINY
from tests.oracle import synth

CASE = "v1-sthv1-p144"


@pytest.fixture(scope="module")
def converted(checkpoint_file, tmp_path_factory):
    from adafocus_cli.library.install import convert_file

    path = tmp_path_factory.mktemp("converted") / "a.safetensors"
    convert_file(checkpoint_file(CASE), path, name="mine", patch_size=144, labels="sthv1")
    return path


def test_logits_are_the_same_bytes(converted, checkpoint_file):
    frames = synth.frames(3, 8), synth.frames(4, 12)
    published = Tagger.load(checkpoint_file(CASE), patch_size=144, device="cpu").tag_frames(*frames)
    tagger = Tagger.load(converted, device="cpu")
    ours = tagger.tag_frames(*frames)
    assert published.step_logits.tobytes() == ours.step_logits.tobytes()
    assert ours.labels[0].label == tagger.labels[ours.labels[0].index] != "class 0"
    assert ours.model.dataset == "sthv1"


def test_tensors_lie_as_torch_lays_them(converted):
    _, tensors = weights_file.read(converted)
    assert all(tensor.data_ptr() % 64 == 0 for tensor in tensors.values())


def test_anybody_can_read_the_file(converted):
    tensors = load_file(converted)
    assert tensors.keys() == checkpoint.load(converted).tensors.keys()


def test_the_same_model_gives_the_same_bytes(tiny_file, adafocus, tmp_path):
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    for path in (first, second):
        assert adafocus("models", "convert", tiny_file, "-o", path).code == 0
    assert first.read_bytes() == second.read_bytes()
    about = weights_file.read_about(first)
    assert (about.spec, about.source, about.labels) == (TINY, "tiny.safetensors", ("a", "b", "c", "d", "e"))
    assert about.source_sha256


def test_what_is_converted_again_is_still_the_same_model(tiny_file, adafocus, store, tmp_path):
    """Thresholds that fit the first file fit all that were made from it, whoever converted or installed them."""
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    adafocus("models", "convert", tiny_file, "-o", first)
    adafocus("models", "convert", first, "-o", second)
    adafocus("models", "add", second, "--name", "mine")
    identity = Tagger.load(tiny_file, device="cpu").model.identity
    assert {Tagger.load(model, device="cpu").model.identity for model in (first, second, "mine")} == {identity}
    assert weights_file.read_about(store.path_of("mine")).source == "tiny.safetensors"
    assert store.record_of("mine").source_sha256 == sha256_of(second) != identity  # first sight is of the file itself


def test_convert_wants_a_name_that_says_what_it_is(tiny_file, adafocus, tmp_path):
    assert adafocus("models", "convert", tiny_file, "-o", tmp_path / "x.pth").code == 2
    assert "there is no file" in adafocus("models", "convert", tmp_path / "none", "-o", "x.safetensors").error
    outcome = adafocus("models", "convert", tiny_file, "-o", tmp_path / "no" / "x.safetensors")
    assert "cannot write" in outcome.error


def rewritten(tiny_file, path, change_header):
    """The file with another header."""
    content = tiny_file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    about = json.loads(header["__metadata__"]["adafocus"])
    change_header(header, about)
    if "__metadata__" in header and "adafocus" in header["__metadata__"]:
        header["__metadata__"]["adafocus"] = json.dumps(about)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    return path


LIES = {
    "no metadata": (lambda header, about: header.pop("__metadata__"), "does not say which model"),
    "metadata of another kind": (lambda h, a: h["__metadata__"].pop("adafocus"), "does not say which model"),
    "no spec": (lambda header, about: about.pop("spec"), "does not say which model"),
    "wrong classes": (lambda header, about: about["spec"].update(classes=7), "the file does not fit together"),
    "absurd frames": (lambda header, about: about["spec"].update(glance_frames=10**9), "does not say which model"),
    "text for a number": (lambda header, about: about["spec"].update(classes="5"), "does not say which model"),
    "no frames": (lambda header, about: about["spec"].update(glance_frames=0), "does not say which model"),
    "a width below nothing": (lambda h, a: a["spec"]["glance"].update(width=-1), "does not say which model"),
    "half a pixel": (lambda h, a: a["spec"]["focus"].update(size=32.5), "does not say which model"),
    "no colours": (lambda h, a: a["spec"].update(std=[0.2, 0.2, 0]), "does not say which model"),
    "a number for colours": (lambda h, a: a["spec"].update(mean=5), "cannot be read"),
    "short videos in no way": (lambda h, a: a["spec"].update(short_videos="never"), "does not say which model"),
    "compression to nothing": (lambda h, a: a["spec"].update(compression=0), "does not say which model"),
    "views of no test": (lambda h, a: a["spec"].update(views=7), "does not say which model"),
    "a network elsewhere": (lambda h, a: a["spec"].update(backbone="../../net.pth"), r"put net\.pth into the same"),
    "a list for a family": (lambda h, a: a["spec"].update(family=["adafocus-v1"]), "does not say which model"),
    "a number for a hash": (lambda header, about: about.update(source_sha256=5), "does not say which model"),
    "a list for a name": (lambda header, about: about.update(name=["x"]), "does not say which model"),
    "unknown family": (lambda header, about: about["spec"].update(family="zap"), "'zap'"),
    "unknown network": (lambda h, a: a["spec"].update(focus={"arch": "vit", "size": 32}), "is not a network"),
    "patches larger than frames": (lambda h, a: a["spec"]["focus"].update(size=999), "patch size 999"),
    "newer format": (lambda header, about: about.update(format="adafocus-weights/9"), "update adafocus"),
    "a tensor less": (lambda header, about: header.pop("classifier.fc.bias"), "damaged|lacks"),
    "offsets outside": (lambda h, a: h["classifier.fc.bias"].update(data_offsets=[0, 1 << 40]), "damaged"),
    "labels of another model": (lambda header, about: about.update(labels=["x"]), "has 1 names"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_file_that_lies_is_one_clear_line(tiny_file, tmp_path, lie):
    change, words = LIES[lie]
    path = rewritten(tiny_file, tmp_path / "lie.safetensors", change)
    with pytest.raises(ModelError, match=words):
        Tagger.load(path, device="cpu")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08\x00",
        struct.pack("<Q", 1 << 40) + b"{",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        struct.pack("<Q", 4) + b"\xff\xff\xff\xff",
    ],
)
def test_what_is_no_safetensors_file_is_one_clear_line(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        checkpoint.load(path)


def test_a_cut_file_is_one_clear_line(tiny_file, tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(tiny_file.read_bytes()[:-10])
    with pytest.raises(ModelError, match="damaged"):
        checkpoint.load(path)


def test_tensors_of_others_are_not_taken_for_a_model(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match="does not say which model it holds"):
        checkpoint.load(path)


def test_a_file_is_told_by_its_first_bytes_too(tiny_file, tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(tiny_file.read_bytes())
    assert checkpoint.load(path).spec == TINY


def test_values_survive(tiny_file):
    _, tensors = weights_file.read(tiny_file)
    again = load_file(tiny_file)
    assert all(np.array_equal(tensors[name], again[name]) for name in tensors)
