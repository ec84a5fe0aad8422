"""What takes minutes: hundreds of bad files, twenty kills, thousands of videos, hours of film. `make soak` runs it."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import pytest

from adafocus_cli.training.recipes import DENSE, QUICK, RECIPES
from tests import batches
from tests.clips import number_picture
from tests.corpus import good_clip, make
from tests.forked import ROOT, Forked
from tests.training.conftest import SIZES, WORLD, X3D, make_videos
from tests.training.test_resume import same_end
from tests.training.test_sfc import save as save_network

GOOD, BAD = 100, 312
KILLS, KILLED_VIDEOS = 20, 200
FEW, MANY = 200, 2000
KILLS_OF_TRAINING = 5
AT_HAND = "--device cpu --threads 1 --batch-size 4".split()  # noqa: SIM905 - as it is typed


def test_three_hundred_bad_files_among_a_hundred_good_ones(tmp_path: Path) -> None:
    corpus = make(tmp_path / "videos", good=GOOD, bad=BAD)
    output = tmp_path / "tags.jsonl"
    process = batches.start(corpus.paths, output)
    process.communicate(timeout=1800)
    assert process.returncode == 3
    assert batches.processes_left(process) == []
    found = batches.records_by_path(output)
    assert {path: len(records) for path, records in found.items()} == dict.fromkeys(corpus.paths, 1)
    assert {path for path, (record,) in found.items() if record["status"] == "error"} == {str(p) for p in corpus.bad}
    for path in map(str, corpus.good):
        assert batches.comparable(found[path][0]) == batches.alone(path)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "jsonl.gz", "sqlite"])
def test_twenty_kills_lose_nothing_and_double_nothing(ending: str, tmp_path: Path) -> None:
    paths = [str(good_clip(tmp_path, number)) for number in range(KILLED_VIDEOS)]
    unbroken, output = tmp_path / f"unbroken.{ending}", tmp_path / f"tags.{ending}"
    began = time.monotonic()
    assert batches.run(paths, unbroken)[0] == 0
    length = time.monotonic() - began
    chance = random.Random(0)
    for _ in range(KILLS):
        # Late enough to have loaded the model now and then, early enough that the last one has something left to do.
        moment = time.monotonic() + chance.uniform(0, 0.3 * length)
        batches.kill_after(batches.start(paths, output), lambda moment=moment: time.monotonic() > moment)
    assert batches.run(paths, output)[0] == 0
    expected, found = batches.records_by_path(unbroken), batches.records_by_path(output)
    assert all(len(records) == 1 for records in found.values())
    assert found.keys() == expected.keys()
    for path, (record,) in found.items():
        mine, other = (dict(batches.comparable(each)) for each in (record, expected[path][0]))
        mine.pop("seconds", None)  # of a row
        other.pop("seconds", None)
        assert mine == other


def test_memory_stays_where_it_was(tmp_path: Path) -> None:
    originals = [good_clip(tmp_path, number) for number in range(20)]
    paths = []
    for number in range(MANY):  # each with a content of its own
        original = originals[number % len(originals)]
        path = tmp_path / f"{number:04}{original.suffix}"
        shutil.copy(original, path)
        with path.open("ab") as file:
            file.write(number.to_bytes(4, "big"))
        paths.append(str(path))
    output = tmp_path / "tags.jsonl"
    process = batches.start(paths, output)
    after: dict[int, list[int]] = {FEW: [], MANY: []}
    while process.poll() is None:
        done = output.read_bytes().count(b"\n") if output.exists() else 0
        for count, sizes in after.items():
            if 0 <= done - (count - 100) < 100:  # in the last hundred before it
                sizes.append(resident_kib(process))
        time.sleep(0.2)
    process.communicate()
    assert process.returncode == 0
    few, many = (sorted(sizes)[len(sizes) // 2] for sizes in after.values())
    print(f"resident memory: {few} KiB after {FEW} videos, {many} KiB after {MANY}")
    assert many < 1.1 * few


def resident_kib(process: subprocess.Popen[bytes] | Forked) -> int:
    """Of all processes of its session together."""
    listing = subprocess.run(["ps", "-eo", "sid,rss"], capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in listing.splitlines()[1:])
    return sum(int(size) for session, size in rows if session == str(process.pid))


def test_two_hours_take_as_little_memory_as_two_minutes(tmp_path: Path) -> None:
    peaks = {}
    for minutes in (2, 120):
        film = _film(tmp_path / f"{minutes}.mp4", minutes=minutes)
        output = tmp_path / f"{minutes}.jsonl"
        process = batches.start([str(film)], output, "--window", 10, "--stride", 5, "--subtitles", "vtt")
        peak = 0
        while process.poll() is None:
            peak = max(peak, resident_kib(process))
            time.sleep(0.05)
        process.communicate()
        assert process.returncode == 0
        ((record,),) = batches.records_by_path(output).values()
        assert len(record["windows"]) == 12 * minutes - 1
        assert (record["segments"][0]["start"], record["segments"][-1]["end"]) == (0.0, 60.0 * minutes)
        peaks[minutes] = peak
    print(f"peak memory: {peaks[2]} KiB for 2 minutes, {peaks[120]} KiB for 120")
    assert peaks[120] < 1.15 * peaks[2]


def test_an_hour_of_a_fast_stream_takes_no_more_memory_than_its_first_minute(tmp_path: Path) -> None:
    film = _film(tmp_path / "hour.ts", minutes=60)
    output, records = tmp_path / "windows.jsonl", tmp_path / "tags.jsonl"
    command = [sys.executable, "-m", "adafocus_cli", "live", "-", "-m", "motion", "--window", "4", "--stride", "2"]
    with film.open("rb") as content, output.open("wb") as lines:
        pipe = subprocess.Popen(["cat"], stdin=content, stdout=subprocess.PIPE)
        process = subprocess.Popen(
            [*command, "-f", "jsonl", "-o", str(records)],
            cwd=ROOT,
            stdin=pipe.stdout,
            stdout=lines,
            start_new_session=True,
        )
        assert pipe.stdout is not None
        pipe.stdout.close()
        began, sizes = time.monotonic(), {"minute": 0, "hour": 0}
        while process.poll() is None:
            done = output.read_bytes().count(b"\n")
            part = "minute" if done < 30 else "hour"  # of the stream
            sizes[part] = max(sizes[part], resident_kib(process))
            time.sleep(0.1)
        pipe.wait()
    assert process.returncode == 0
    starts = [json.loads(line)["live"]["start"] for line in output.read_text().splitlines()]
    assert starts == [2.0 * number for number in range(1799)]
    print(f"peak memory: {sizes['minute']} KiB in a minute, {sizes['hour']} KiB in the hour")
    print(f"{3600 / (time.monotonic() - began):.1f} times as fast as it is shown")
    assert sizes["hour"] <= 1.1 * sizes["minute"]


EPOCHS = {"v1": "1,1,2,1", "v1-tsm": "1,1,2,1", "v1-tsm-together": "1,2", "skip": "2,2"}
"""Of the recipes with several stages; the others have one."""
LEARNS_FROM = {"skip": "v1", "sfc": "dense"}
"""The recipe whose model a recipe goes on with."""


@pytest.mark.parametrize("recipe", RECIPES)
def test_five_kills_at_any_moment_do_not_change_what_is_learnt(recipe: str, tmp_path: Path) -> None:
    """The same curve, and the same files bit for bit."""
    videos = make_videos(tmp_path / "videos")
    for folder in ("whole", "broken"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "videos").symlink_to(videos)
    given = [*_training(recipe, tmp_path), "-o", "run"]
    began = time.monotonic()
    assert _learning(given, tmp_path / "whole").wait() == 0
    length = time.monotonic() - began
    broken = tmp_path / "broken" / "run"
    kept = broken / ("evidence" if recipe == QUICK else "last.pt")
    chance, again, kills = random.Random(recipe), given, 0
    while (process := _learning(again, broken.parent)).poll() is None and kills < KILLS_OF_TRAINING:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0, 0.5 * length))
        if process.poll() is not None:
            break  # quicker than chance
        process.kill()
        process.wait()
        assert batches.processes_left(process) == []
        kills += 1
        again = ["train", "--resume", "run"] if kept.exists() else given
    assert process.wait() == 0
    assert kills
    files = ("model",) if recipe == QUICK else ("best", "last", "model")
    same_end(tmp_path / "whole" / "run", broken, files=files)


def _training(recipe: str, folder: Path) -> list[str]:
    """A training of a second or two; what it goes on with is made first, in the folder."""
    if recipe == QUICK:
        return ["train", "videos", "--folds", "2", "--tune"]
    sizes = [*SIZES, "--val-share", "0.25", *(X3D if recipe == "uni-x3d" else ())]
    if recipe == DENSE:
        network = save_network(folder / "network.safetensors", "x3d-s", ("up", "down", "left"))
        sizes = ["--init", str(network), "--frames", "4", *AT_HAND]
    elif recipe in LEARNS_FROM:
        before = LEARNS_FROM[recipe]
        command = [*_training(before, folder), "-o", str(folder / before)]
        assert _learning(command, folder / "whole").wait() == 0
        sizes = ["--init", str(folder / before / "model.safetensors"), *AT_HAND]
    return ["train", "videos", "-r", recipe, "--epochs", EPOCHS.get(recipe, "3"), *sizes]


def _learning(arguments: list[str], folder: Path) -> Forked:
    with_worker = [*arguments, "--workers", "1"]
    return Forked("adafocus_cli", with_worker, cwd=folder, stderr=subprocess.DEVNULL, start_new_session=True)


def test_torchrun_starts_processes_that_learn_together(tmp_path: Path) -> None:
    """The short tests start them themselves."""
    command = ["train", *WORLD, *SIZES, "-r", "v1", "--epochs", "0,0,1", "-o", str(tmp_path / "run")]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*torchrun, "-m", "adafocus_cli", *command], cwd=ROOT, check=True, timeout=300)
    assert (tmp_path / "run" / "model.safetensors").exists()


def _film(path: Path, *, minutes: int, fps: int = 5) -> Path:
    """Small and slow, so that it is quickly made; its pictures come round every 400 frames."""
    pictures = [av.VideoFrame.from_ndarray(number_picture(n, 160, 120), format="rgb24") for n in range(400)]
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=fps, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(60 * minutes * fps):
            frame = pictures[number % len(pictures)].reformat(format="yuv420p")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path
