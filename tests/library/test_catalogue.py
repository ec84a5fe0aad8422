"""The packaged catalogue is sane, and catalogues of others are read strictly."""

from __future__ import annotations

import json
import re
from dataclasses import asdict

import pytest

from adafocus_cli import labels
from adafocus_cli.errors import AdaFocusError, ModelError
from adafocus_cli.library import catalogue
from adafocus_cli.models import FAMILIES, default_spec, dense
from adafocus_cli.nn.clip_networks import torchvision_models
from adafocus_cli.spec import ModelSpec

ALL = catalogue.packaged().entries
ENTRIES = [entry for entry in ALL if entry.name not in catalogue.INCLUDED]
CLASSES = {
    "activitynet": 200,
    "fcvid": 239,
    "minikinetics": 200,
    "sthv1": 174,
    "sthv2": 174,
    "jester": 27,
    "kinetics400": 400,
}
NETWORKS = [family.name for family in dense.FAMILIES]


def test_all_released_checkpoints_are_there():
    released = [entry for entry in ENTRIES if entry.page]
    counts = {family: sum(entry.family == family for entry in released) for family in FAMILIES}
    assert {name: count for name, count in counts.items() if count} == {
        "adafocus-v1": 3,
        "adafocus-v1-tsm": 6,
        "adafocus-v2": 10,
        "adafocus-v2-tsm": 10,
        "uni-adafocus": 3,
        "uni-adafocus-tsm": 9,
        **dict.fromkeys(NETWORKS, 1),
    }
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES) == len(released) + 2
    assert len(released) == 41 + len(NETWORKS)


def test_models_that_were_not_released_say_so():
    entries = {entry.name: entry for entry in ENTRIES if not entry.page}
    accuracies = {name: entry.accuracy for name, entry in entries.items()}
    assert accuracies == {"v1-activitynet-p96": 71.9, "uni-kinetics400-p128-x3d": 75.3}
    for entry in entries.values():
        assert "not released" in entry.note
        assert entry.how_to_get.startswith(f"no address of {entry.file} is known; ")


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_entry_is_sane(entry):
    spec = ModelSpec.from_dict(
        asdict(default_spec(entry.family, patch_size=entry.patch_size)) | entry.changes | {"classes": 1}
    )
    if entry.family in NETWORKS:
        assert entry.name == f"{entry.family}-k400"
        assert entry.patch_size is None
    else:
        assert spec.patch_size == entry.patch_size
        assert f"p{entry.patch_size}" in entry.name
    assert len(entry.label_set()) == CLASSES[entry.dataset]
    assert entry.labels == entry.dataset
    assert entry.licence
    entry = entry.resolved()
    assert entry.file.endswith((".pth.tar", ".pth", ".pyth"))
    assert (entry.accuracy is None) == (entry.metric is None)
    assert entry.gmacs is None or entry.accuracy is not None
    for address in (entry.url, entry.page):
        assert address is None or address.startswith("https://")
    assert entry.page or not entry.url


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.gmacs], ids=lambda entry: entry.name)
def test_published_cost_is_that_of_the_layers(entry):
    """Within 3 %: the authors count by hand, and leave out small parts; those of X3D count something more."""
    from adafocus_cli.flops import cost_of

    spec = ModelSpec.from_dict(
        asdict(default_spec(entry.family, patch_size=entry.patch_size))
        | entry.changes
        | {"classes": CLASSES[entry.dataset]}
    )
    assert cost_of(spec).gmacs == pytest.approx(entry.gmacs, rel=0.09 if entry.family.startswith("x3d") else 0.03)


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.torchvision], ids=lambda entry: entry.name)
def test_the_list_repeats_what_torchvision_says_of_its_weights(entry):
    meta = torchvision_models().get_weight(entry.torchvision).meta
    assert entry.family.replace("-", "_") == entry.torchvision.partition("_Weights")[0].lower()
    assert entry.accuracy == pytest.approx(meta["_metrics"]["Kinetics-400"]["acc@1"], abs=0.005)
    assert entry.gmacs is None or entry.gmacs == pytest.approx(meta["_ops"], abs=0.005)
    assert entry.megabytes == pytest.approx(meta["_file_size"] * 1.048576, abs=1)
    assert entry.label_set().names == labels.packaged("kinetics400").names


def test_an_enum_that_torchvision_does_not_have_is_named():
    text = "groups: [{family: r3d-18, labels: kinetics400, models: [{name: a, torchvision: %s}]}]"
    for name in ("R3D_18_Weights.NEXT", "R3D_19_Weights.DEFAULT", "r3d_18"):
        with pytest.raises(ModelError, match=f"torchvision .* has no weights '{name}'; check the spelling"):
            catalogue.parse(text % name, "mine")["a"].resolved()


def test_names_tell_the_file_for_v2_and_uni():
    for entry in ENTRIES[: -len(NETWORKS)]:
        size = catalogue.Path(entry.file).name
        assert str(entry.patch_size) in size, entry.name


@pytest.mark.parametrize("name", labels.packaged_names())
def test_every_packaged_list_says_how_sure_it_is(name):
    origin = labels.origin(name)
    assert origin.sureness in ("high", "medium")
    assert origin.title
    assert origin.reason


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a catalogue"),
        ("[1, 2", "not YAML"),
        ("groups: 3", "is not a catalogue"),
        ("groups: [{family: x}]", "without `models:`"),
        ("groups: [{models: [3]}]", "is not a mapping"),
        ("groups: [{models: [{name: a}]}]", "needs at least"),
        ("groups: [{models: [{name: ../a, family: f, file: x}]}]", "cannot be a model's name"),
        ("groups: [{models: [{name: a, family: f, file: ../x}]}]", "not the plain name"),
        ("groups: [{models: [{name: a, family: f, file: ''}]}]", "not the plain name"),
        ("groups: [{models: [{name: a, family: f, file: ..}]}]", "not the plain name"),
        ("groups: [{models: [{name: a, family: f, file: 2026-99-99}]}]", "not YAML"),
        ("groups: [{models: [{name: a, family: f, file: x, url: 'http://e.org/x'}]}]", "starts with https"),
        ("groups: [{models: [{name: a, family: f, file: x, url: 7}]}]", "a string is expected"),
        ("groups: [{models: [{name: a, family: f, file: x, speed: 7}]}]", "'speed'"),
        ("groups: [{models: [{name: a, family: f, file: x, patch_size: big}]}]", "a number is expected"),
        ("groups: [{models: [{name: a, family: f, file: x, spec: {speed: 1}}]}]", "spec can only have"),
        ("groups: [{models: [{name: a, family: f, file: x}, {name: a, family: f, file: y}]}]", "twice"),
        ("groups: [{models: [{name: a, family: f, file: x, sha256: abc}]}]", "64 hexadecimal digits"),
    ],
)
def test_a_wrong_catalogue_is_one_clear_line(adafocus, tmp_path, text, words):
    path = tmp_path / "models.yaml"
    path.write_text(text)
    outcome = adafocus("models", "list", "--catalogue", path)
    assert outcome.code in (1, 2)
    assert words in outcome.error


def test_another_catalogue_goes_before_the_packaged_one():
    mine = catalogue.parse("groups: [{models: [{name: v1-sthv1-p144, family: f, file: x}]}]", "mine")
    both = mine.before(catalogue.packaged())
    assert both["v1-sthv1-p144"].file == "x"
    assert len(both.entries) == len(ALL)


def test_a_list_beside_the_catalogue_is_found(tmp_path):
    (tmp_path / "names.txt").write_text("yes\nno\n")
    (tmp_path / "models.yaml").write_text("groups: [{labels: names.txt, models: [{name: a, family: f, file: x}]}]")
    assert catalogue.read(str(tmp_path / "models.yaml"))["a"].label_set().names == ("yes", "no")


def test_unreadable_catalogues(tmp_path):
    with pytest.raises(AdaFocusError, match="cannot read catalogue"):
        catalogue.read(str(tmp_path / "none.yaml"))


def test_the_list_recommends_and_has_sizes_and_a_model_lists_its_labels(adafocus):
    listed = adafocus("models", "list").out
    assert listed.startswith("Recommended\nobjects ")
    assert re.search(r"^v2-jester-p128 +128 +96\.6 +18\.5 +121 ", listed, re.MULTILINE)
    assert "Drumming Fingers" in " ".join(adafocus("models", "show", "v2-jester-p128").out.split())
    names = json.loads(adafocus("models", "show", "motion", "-f", "json").out)["label_names"]
    assert len(names) == 17
