"""Installed models: added, found by name everywhere, verified, removed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from adafocus_cli.errors import AdaFocusError, ModelError, UsageError
from adafocus_cli.library.catalogue import check_name
from adafocus_cli.library.store import ModelStore, default_home, find_model

np = pytest.importorskip("numpy")


@pytest.fixture
def installed(adafocus, tiny_file):
    """The tiny model, as `mine`."""
    assert adafocus("models", "add", tiny_file, "--name", "mine").code == 0
    return "mine"


def test_an_added_model_is_found_by_name_everywhere(installed, store):
    from adafocus_cli import Tagger

    tagger = Tagger.load(installed, device="cpu")
    assert tagger.model.name == "mine"
    assert tagger.labels.names == ("a", "b", "c", "d", "e")
    assert tagger.model.sha256 == store.record_of("mine").sha256
    result = tagger.tag_frames(np.zeros((2, 64, 64, 3), np.uint8))
    assert len(result.labels) == 5


def test_adding_makes_no_room_for_downloads(installed, store):
    assert not store.downloads.exists()


def test_it_is_listed_and_shown(installed, adafocus):
    assert re.search(r"mine\s+32 .*✓ installed", adafocus("models", "list").out)
    record = json.loads(adafocus("models", "show", "mine", "--format", "json").out)
    assert record["installed"] is True
    assert record["record"]["classes"] == 5
    assert len(record["label_names"]) == 5
    assert record["record"]["source_sha256"] in adafocus("models", "show", "mine").out


def test_adding_twice_asks_to_remove_first(installed, adafocus, tiny_file):
    outcome = adafocus("models", "add", tiny_file, "--name", "mine")
    assert outcome.code == 1
    assert "remove it first: adafocus models remove mine" in outcome.error
    assert adafocus("models", "remove", "mine").code == 0
    assert adafocus("models", "add", tiny_file, "--name", "mine").code == 0


def test_verify_finds_one_flipped_bit(installed, adafocus, store, tiny_file):
    assert adafocus("models", "verify", "mine").code == 0
    adafocus("models", "add", tiny_file, "--name", "other")
    path = store.path_of("mine")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    outcome = adafocus("models", "verify", "--all", "--format", "json")
    assert outcome.code == 3
    states = {record["name"]: record["state"] for record in json.loads(outcome.out)}
    assert states == {"objects": "intact", "motion": "intact", "mine": "changed", "other": "intact"}
    assert adafocus("models", "verify", "mine").code == 1


def test_verify_wants_to_know_what(adafocus):
    assert adafocus("models", "verify").code == 2
    assert (
        "there is no model 'v1-sthv1-p14'; similar: v1-sthv1-p14" in adafocus("models", "verify", "v1-sthv1-p14").error
    )
    known = adafocus("models", "verify", "v1-sthv1-p144")
    assert (known.code, "not installed" in known.out) == (1, True)


def test_a_removed_model_is_gone(installed, adafocus, store):
    assert adafocus("models", "remove", "mine").code == 0
    assert store.installed() == []
    assert store.record_of("mine") is None
    assert adafocus("models", "remove", "mine").code == 2


def test_a_file_of_another_family_is_not_installed_under_a_published_name(adafocus, tiny_file, store):
    outcome = adafocus("models", "add", tiny_file, "--name", "v2-jester-p128")
    assert outcome.code == 1
    assert "is a checkpoint of adafocus-v1, but adafocus-v2-tsm is expected" in outcome.error
    assert store.installed() == []


def test_a_label_list_must_fit(adafocus, tiny_file, tmp_path):
    outcome = adafocus("models", "add", tiny_file, "--name", "mine", "--labels", "jester")
    assert outcome.code == 1
    assert "has 27 names, but the model answers 5 classes" in outcome.error
    names = tmp_path / "names.txt"
    names.write_text("one\ntwo\nthree\nfour\nfive\n")
    assert adafocus("models", "add", tiny_file, "--name", "mine", "--labels", names).code == 0


def test_the_folder_of_a_run_is_its_model_or_the_best_so_far(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "best.safetensors").touch()
    assert find_model(run) == find_model(f"{run}/") == run / "best.safetensors"
    (run / "model.safetensors").touch()
    assert find_model(run) == run / "model.safetensors"


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        ("v1-activitynet-p12", UsageError, "similar: v1-activitynet-p1"),
        ("xyzzy", UsageError, "see `adafocus models list`"),
        ("V2-ActivityNet-P128-MBV2", UsageError, "similar: v2-activitynet-p128-mbv2"),
        ("v2-fcvid-p128-mbv2", ModelError, "get it with: adafocus models pull v2-fcvid-p128-mbv2"),
        ("uni-fcvid-p128", ModelError, "adafocus models add fcvid_p128.pth.tar --name uni-fcvid-p128"),
        ("nowhere/model.pth", UsageError, "no model file 'nowhere/model.pth'"),
        ("model.pth.tar", UsageError, "no model file 'model.pth.tar'"),
    ],
)
def test_a_model_that_is_not_there_comes_with_the_next_step(model, error, words):
    with pytest.raises(error, match=re.escape(words)):
        find_model(model)


@pytest.mark.parametrize("name", ["../x", "-x", "", "a/b", "a\\b", ".x", "x.", "x" * 65, "A", "é", "a\n", "con\x00"])
def test_names_that_could_do_harm_are_refused(name, tiny_file, store):
    with pytest.raises(UsageError):
        check_name(name)
    with pytest.raises(AdaFocusError):
        store.path_of(name)


def test_home_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("ADAFOCUS_HOME", "~/models")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_home() == tmp_path / "models"
    monkeypatch.setenv("ADAFOCUS_HOME", "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    if sys.platform == "linux":
        assert default_home() == tmp_path / "xdg" / "adafocus"


def test_a_home_that_cannot_be_written_is_one_clear_line(adafocus, tiny_file, tmp_path, monkeypatch):
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    monkeypatch.setenv("ADAFOCUS_HOME", str(blocked / "home"))
    outcome = adafocus("models", "add", tiny_file, "--name", "mine")
    assert outcome.code == 1
    assert "set ADAFOCUS_HOME to a writable folder" in outcome.error
    assert adafocus("models", "list").code == 0


def test_a_crash_while_writing_leaves_nothing(store, tiny_file, adafocus, monkeypatch):
    def crash(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", crash)
    outcome = adafocus("models", "add", tiny_file, "--name", "mine")
    assert "is full; make room" in outcome.error
    assert store.installed() == []
    assert list(store.models.iterdir()) == []


def test_a_damaged_record_says_what_to_do(installed, adafocus, store):
    (store.models / "mine.json").write_text("{")
    assert "remove it and add the model mine again" in adafocus("models", "verify", "mine").error


def test_listing_needs_no_torch():
    code = (
        "import sys; from adafocus_cli.cli.app import run; run(['models', 'list']);"
        "run(['models', 'show', 'v1-sthv1-p144']); assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_store_of_another_home_is_another_store(tmp_path, installed):
    assert ModelStore(tmp_path / "elsewhere").installed() == []
