"""Checkpoint files: good ones in every published shape, and bad ones, each with one line that names the trouble."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from adafocus_cli import checkpoint, weights_file
from adafocus_cli.errors import ModelError
from tests.oracle import synth

CASE = "v1-actnet-p128"


@pytest.fixture(scope="module")
def root():
    """The nested dict of a published file."""
    return synth.checkpoint(CASE)


@pytest.fixture
def save(tmp_path):
    def write(content, name="128s3_checkpoint.pth.tar"):
        path = tmp_path / name
        torch.save(content, path)
        return path

    return write


def without(root, *beginnings):
    """A copy whose full section lacks some tensors, and which has no other copy of them."""
    whole = {n: t for n, t in root["model_state_dict"].items() if not n.startswith(beginnings)}
    return {"model_state_dict": whole}


class TestTolerance:
    def test_sections_alone_are_enough(self, root, save):
        loaded = checkpoint.load(save({n: root[n] for n in ("glancer", "focuser", "fc", "policy")}))
        assert torch.equal(loaded.tensors["classifier.fc.bias"], root["fc"]["fc.bias"])

    def test_the_old_copy_of_the_policy_is_enough(self, root, save):
        loaded = checkpoint.load(save(without(root, "focuser.policy.policy.")))
        assert "policy.gru.weight_ih_l0" in loaded.tensors

    def test_wrapped_names_extra_entries_and_numpy_numbers_do_not_matter(self, root, save):
        whole = {f"module.{n}": t for n, t in root["model_state_dict"].items()}
        extras = {"best_acc": np.float64(75.0), "epoch": np.int64(3), "acc": np.float32(1), "lr": [0.1], "args": None}
        loaded = checkpoint.load(save({"state_dict": whole | {"junk": torch.zeros(3)}, **extras}))
        assert loaded.spec.classes == 200

    def test_half_precision_and_cuda_storages_load_in_full_on_the_processor(self, root, save, monkeypatch):
        halves = {n: t.half() if t.is_floating_point() else t for n, t in root["model_state_dict"].items()}
        monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        path = save({"model_state_dict": halves})
        monkeypatch.undo()
        assert b"cuda:0" in path.read_bytes()
        tensor = checkpoint.load(path).tensors["classifier.fc.weight"]
        assert (tensor.device.type, tensor.dtype) == ("cpu", torch.float32)

    def test_counters_of_batch_norm_may_be_missing(self, root, save):
        whole = {n: t for n, t in root["model_state_dict"].items() if not n.endswith("num_batches_tracked")}
        assert checkpoint.load(save({"model_state_dict": whole})).build()

    def test_the_file_of_old_torch_versions_is_read(self, root, tmp_path):
        path = tmp_path / "128s3_checkpoint.pth.tar"
        torch.save({"model_state_dict": root["model_state_dict"]}, path, _use_new_zipfile_serialization=False)
        assert checkpoint.load(path).spec.classes == 200


class TestPatchSize:
    @pytest.mark.parametrize(
        ("name", "size"),
        [
            ("128s3_checkpoint.pth.tar", 128),
            ("144x144.pth.tar", 144),
            ("sthv1_144x144.pth.tar", 144),
            ("actnet_p96_mbv2.pth.tar", 96),
            ("sthv1_p128_8and12.pth.tar", 128),
            ("jester_p176.pth.tar", 176),
            ("best.pth", None),
            ("model_epoch128.pth", None),
            ("p96_and_p128.pth", None),
            ("224x128.pth", None),
        ],
    )
    def test_is_told_by_published_names_only(self, name, size):
        assert checkpoint.patch_size_in(Path(name)) == size

    def test_is_asked_for_where_nothing_tells_it(self, root, save):
        path = save(root, "best.pth")
        with pytest.raises(ModelError, match="--patch-size"):
            checkpoint.load(path)
        assert checkpoint.load(path, patch_size=96).spec.patch_size == 96

    def test_that_does_not_fit_the_frame_is_refused(self, root, save):
        with pytest.raises(ModelError, match="patch size 300 does not fit; 32 to 224"):
            checkpoint.load(save(root), patch_size=300)


class TestFrames:
    @pytest.mark.parametrize(
        ("name", "focus"),
        [("sthv1_p128_8and8.pth.tar", 8), ("sthv1_p128_8and16.pth.tar", 16), ("uni-sthv1-p128-8x12.pth", 12)],
    )
    def test_only_the_name_tells_how_often_uni_on_tsm_looks(self, checkpoint_file, tmp_path, name, focus):
        path = tmp_path / name
        path.symlink_to(checkpoint_file("uni-sthv1-p128-8x12"))
        spec = checkpoint.load(path).spec
        assert (spec.glance_frames, spec.focus_frames, spec.candidate_frames) == (8, focus, 3 * focus)

    def test_where_nothing_tells_it_the_usual_number_is_taken_and_said(self, checkpoint_file, tmp_path, caplog):
        path = tmp_path / "best.pth"
        path.symlink_to(checkpoint_file("uni-sthv1-p128-8x12"))
        assert checkpoint.load(path, patch_size=128).spec.focus_frames == 12
        assert "best.pth does not tell how many frames it looks at; 12 of 36 are taken" in caplog.text


class TestRefusals:
    def test_a_file_that_would_run_code_has_run_nothing(self, tmp_path):
        witness = tmp_path / "it ran"

        class Attack:
            def __reduce__(self):
                return os.mkdir, (str(witness),)

        for new in (True, False):
            path = tmp_path / f"128s3_attack{new}.pth"
            torch.save({"fc": {"weight": torch.zeros(3)}, "extra": Attack()}, path, _use_new_zipfile_serialization=new)
            with pytest.raises(ModelError, match=r"asks to run posix.mkdir .* refused, and nothing of it was run"):
                checkpoint.load(path)
        plain = tmp_path / "plain.pth"
        plain.write_bytes(pickle.dumps(Attack()))
        with pytest.raises(ModelError):
            checkpoint.load(plain)
        assert not witness.exists()

    def test_a_truncated_file(self, root, save):
        path = save(root)
        size = path.stat().st_size
        for keep in (int(0.999 * size), size // 2, 5000, 10, 0):
            os.truncate(path, keep)
            with pytest.raises(ModelError, match="damaged, cut short or not a checkpoint"):
                checkpoint.load(path)

    def test_what_is_no_checkpoint_at_all(self, tmp_path, save):
        text = tmp_path / "notes.pth"
        text.write_text("hello\n" * 100)
        with pytest.raises(ModelError, match="not a checkpoint; get it again"):
            checkpoint.load(text)
        with pytest.raises(ModelError, match="holds a list, not the tensors"):
            checkpoint.load(save([1, 2]))
        with pytest.raises(ModelError, match="has 1 tensors, but is not a checkpoint of adafocus-v1, "):
            checkpoint.load(save({"state_dict": {"a": torch.zeros(1)}}))
        with pytest.raises(ModelError, match=r"cannot read model .* No such file"):
            checkpoint.load(tmp_path / "absent.pth")

    def test_a_missing_tensor_is_named_as_in_the_file(self, root, save):
        with pytest.raises(ModelError, match=r"lacks classifier\.gru\.bias_hh_l0, which adafocus-v1 needs"):
            checkpoint.load(save(without(root, "classifier.gru.bias_hh_l0")))
        with pytest.raises(ModelError, match=r"lacks focuser\.net\.conv1\.weight and \d+ more"):
            checkpoint.load(save(without(root, "focuser.net.")))

    def test_a_policy_with_several_places_a_video_is_not_read_as_one_of_fewer_frames(self, save):
        root = synth.checkpoint("v1-sthv1-p144")
        for tensors in (root[section] for section in synth.layout("v1-sthv1-p144")["sections"]):
            for name in [name for name in tensors if name.endswith("state_encoder.0.weight")]:
                tensors[name] = tensors[name][:, : 4 * 1280].clone()  # 8 frames in 2 divisions
        with pytest.raises(ModelError, match=r"144x144.pth has a policy that sees 4 frames .*\(video_div > 1\)"):
            checkpoint.load(save(root, "144x144.pth"))

    def test_uni_on_tsm_needs_the_answer_of_its_first_exit(self, checkpoint_file, tmp_path, save):
        published = checkpoint.load(checkpoint_file("uni-sthv1-p128-8x12"), patch_size=128)
        tensors = {name: tensor for name, tensor in published.tensors.items() if not name.startswith("exit_fc.")}
        old = tmp_path / "old.safetensors"  # as earlier versions wrote it
        with old.open("wb") as file:
            weights_file.write(file, weights_file.About(spec=published.spec), tensors)
        with pytest.raises(ModelError, match=r"old.safetensors lacks exit_fc\.weight and 1 more, .* convert .* again"):
            checkpoint.load(old)
        root = synth.checkpoint("uni-sthv1-p128-8x12")
        del root["state_dict"]["module.global_CNN.new_new_fc.weight"]
        with pytest.raises(ModelError, match=r"lacks global_CNN\.new_new_fc\.weight, which uni-adafocus-tsm needs"):
            checkpoint.load(save(root, "sthv1_p128_8and12.pth.tar"))

    def test_a_wrong_shape_is_named_with_both_shapes(self, root, save):
        wrong = without(root, "focuser.net.conv1.weight")
        wrong["model_state_dict"]["focuser.net.conv1.weight"] = torch.zeros(64, 3, 5, 5)
        with pytest.raises(ModelError, match=r"focuser\.net\.conv1\.weight is 64×3×5×5, but .* needs 64×3×7×7"):
            checkpoint.load(save(wrong))

    @pytest.mark.parametrize(
        "bias",
        [
            torch.zeros(1).expand(200),  # one number that says it is many would fill the memory when it is copied
            torch.zeros(200, device="meta"),
            torch.zeros(200).to_sparse(),
            torch.zeros(200, dtype=torch.complex64),
        ],
        ids=["expanded", "meta", "sparse", "complex"],
    )
    def test_tensors_without_a_number_for_each_place_are_named(self, root, save, bias):
        odd = without(root, "classifier.fc.bias")
        odd["model_state_dict"]["classifier.fc.bias"] = bias
        with pytest.raises(ModelError, match=r"tensor classifier\.fc\.bias is not stored as plain numbers"):
            checkpoint.load(save(odd))

    def test_a_packed_archive_is_not_unpacked(self, save, tmp_path):
        packed = tmp_path / "128s3_packed.pth"
        with zipfile.ZipFile(save({})) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
            for entry in source.namelist():
                target.writestr(entry, source.read(entry))
        assert checkpoint.read(save({})) == {}
        with pytest.raises(ModelError, match="damaged, cut short or not a checkpoint"):
            checkpoint.read(packed)

    def test_class_counts_that_contradict_each_other(self, root, save):
        wrong = without(root, "classifier.fc.bias")
        wrong["model_state_dict"]["classifier.fc.bias"] = torch.zeros(174)
        with pytest.raises(ModelError, match=r"classifier\.fc\.bias is 174, but .* needs 200"):
            checkpoint.load(save(wrong))

    def test_tensors_without_the_dimensions_that_tell_the_spec(self, root, save):
        wrong = without(root, "classifier.gru.weight_hh_l0")
        for shape in ((3,), ()):
            wrong["model_state_dict"]["classifier.gru.weight_hh_l0"] = torch.zeros(shape)
            with pytest.raises(ModelError, match="shapes that no adafocus-v1 model has"):
                checkpoint.load(save(wrong))
        del wrong["model_state_dict"]["classifier.fc.weight"]
        wrong["model_state_dict"]["classifier.fc.weight"] = torch.zeros(())
        with pytest.raises(ModelError, match="shapes that no adafocus-v1 model has"):
            checkpoint.load(save(wrong))

    def test_a_file_of_the_first_stage_says_so(self, root, save):
        first_stage = without(root, "focuser.policy.")
        with pytest.raises(ModelError, match=r"only the first training stage's weights: .* without its policy"):
            checkpoint.load(save(first_stage))
