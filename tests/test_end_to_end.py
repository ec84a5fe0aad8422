"""The program as people run it: real weights files, real clips, real processes, nothing replaced.

Processes that only differ in their arguments are forked, which saves loading torch for each.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from adafocus_cli import weights_file
from adafocus_cli.models import build, default_spec
from adafocus_cli.spec import Network
from tests import oracle
from tests.clips import cut_off, flip_bytes, numbered_clip
from tests.conftest import deviation, without_timings
from tests.forked import ROOT, Forked, shell

CASE = "v1-actnet-p128"
ADAFOCUS = [sys.executable, "-m", "adafocus_cli"]
FRAMES = 40


@pytest.fixture(scope="module")
def published(checkpoint_file, tmp_path_factory):
    """The published file under its published name, which tells the patch size."""
    path = tmp_path_factory.mktemp("published") / "128s3_checkpoint.pth.tar"
    path.symlink_to(checkpoint_file(CASE))
    return str(path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A model with the frames, patches and classes of the published one, and networks that are quick."""
    spec = replace(
        default_spec("adafocus-v1", patch_size=128),
        dataset="activitynet",
        policy_width=16,
        classifier_width=32,
        glance=Network("mobilenet_v2", 224, width=0.1),
        focus=Network("resnet18", 128, width=0.125),
    )
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    with path.open("wb") as file:
        weights_file.write(file, weights_file.About(spec=spec), build(spec).state_dict())
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Good and bad files of all kinds, as people have them."""
    top = tmp_path_factory.mktemp("videos")
    good = {
        "plain.mp4": {},
        "one frame.mp4": {"frames": 1},
        "two frames.mp4": {"frames": 2},
        "few.mp4": {"frames": 9},
        "one pixel.mkv": {"frames": 5, "size": (1, 1), "codec": "ffv1", "pixel_format": "bgra"},
        "small.mkv": {"frames": 20, "size": (17, 3), "codec": "ffv1", "pixel_format": "bgra"},
        "4k.mp4": {"frames": 3, "size": (3840, 2160), "options": {"preset": "ultrafast"}},
        "variable.mkv": {"frames": 30, "times": [n * n for n in range(30)]},
        'it\'s "quoted".mp4': {"frames": 20},
        "two\nlines.mp4": {"frames": 20},
        "-dash.mp4": {"frames": 20},
        "видео 视频 ویدیو.mp4": {"frames": 20},
        "upright.mov": {"frames": 20, "size": (96, 64), "rotation": 90},
        "sub/folder/deep.webm": {"codec": "libvpx-vp9", "frames": 20},
    }
    for name, options in good.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        numbered_clip(path, **{"frames": FRAMES, **options})
    bad = ["text.mp4", "empty.mp4", "cut off.mp4"]
    (top / "text.mp4").write_text("this is no video\n" * 50)
    (top / "empty.mp4").touch()
    cut_off(numbered_clip(top / "cut off.mp4", frames=FRAMES), 0.5)
    if os.geteuid() != 0:
        shutil.copy(top / "plain.mp4", top / "private.mp4")
        (top / "private.mp4").chmod(0)
        bad.append("private.mp4")
    flip_bytes(numbered_clip(top / "damaged.ts", frames=200), start=0.3, stop=0.7)
    (top / "a folder.mp4").mkdir()
    return top, list(good), bad


def adafocus(command, *arguments, cwd=ROOT, **options):
    """By torch, for it takes a second to load OpenVINO, which the other runs do."""
    process = Forked(
        "adafocus_cli",
        [command, "--runtime", "torch", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def records(done):
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


def test_a_folder_of_everything_gives_one_record_each(weights, folder):
    top, good, bad = folder
    command = [*ADAFOCUS, "classify", top, "-w", weights, "--labels", "activitynet"]
    done = subprocess.run(command, capture_output=True, timeout=300)
    assert done.returncode == 3, done.stderr.decode()
    by_name = {str(Path(r["video"]["path"]).relative_to(top)): r for r in records(done)}
    assert sorted(by_name) == sorted([*good, *bad, "damaged.ts"])
    for name in good:
        record = by_name[name]
        assert record["status"] == "ok", record
        assert len(record["labels"]) == 5
        assert record["video"]["frames_replaced"] == 0
        video, boxes = record["video"], [look["box"] for look in record["trajectory"]]
        assert len(boxes) == 16
        for left, top_, right, bottom in boxes:
            assert 0 <= left < right <= video["width"], name
            assert 0 <= top_ < bottom <= video["height"], name
    for name in bad:
        assert by_name[name]["status"] == "error"
        assert by_name[name]["error"]["stage"] in ("open", "decode")
    assert by_name["one frame.mp4"]["frames_decoded"] == 1
    assert by_name["two frames.mp4"]["video"]["frames"] == 2
    assert (by_name["4k.mp4"]["video"]["width"], by_name["4k.mp4"]["video"]["height"]) == (3840, 2160)
    upright = by_name["upright.mov"]["video"]
    assert (upright["width"], upright["height"], upright["rotation"]) == (64, 96, 90)
    damaged = by_name["damaged.ts"]
    assert damaged["status"] == "error" or damaged["video"]["packets_damaged"] + damaged["video"]["frames_replaced"] > 0
    stderr = done.stderr.decode()
    assert f"{len(bad)} of" in stderr.splitlines()[-1] or f"{len(bad) + 1} of" in stderr.splitlines()[-1]
    assert "Traceback" not in stderr


def test_folders_and_odd_names_on_the_command_line(published, folder):
    top, _, _ = folder
    done = adafocus("classify", "-w", published, "--", "-dash.mp4", "a folder.mp4", "two\nlines.mp4", cwd=top)
    assert [r["status"] for r in records(done)] == ["ok", "ok"]
    assert b"no video files" in done.stderr
    assert adafocus("classify", "absent.mp4", "-w", published).returncode == 3


def test_a_video_has_the_same_record_alone_in_company_and_again(weights, folder):
    top, good, _ = folder
    paths = [top / name for name in good[:6]]
    together = [without_timings(r) for r in records(adafocus("classify", *paths, "-w", weights, "--logits"))]
    again = records(adafocus("classify", *paths, "-w", weights, "--logits", "--batch-size", 8, "--workers", 3))
    alone = [records(adafocus("classify", path, "-w", weights, "--logits"))[0] for path in paths[:2]]
    assert together == [without_timings(r) for r in again]
    assert together[:2] == [without_timings(r) for r in alone]


def test_formats_agree(weights, folder, tmp_path):
    top, _, _ = folder
    paths = [top / "plain.mp4", top / "text.mp4"]
    (tagged, failed) = records(adafocus("classify", *paths, "-w", weights))
    array = json.loads(adafocus("classify", *paths, "-w", weights, "-f", "json").stdout)
    assert [without_timings(r) for r in array] == [without_timings(tagged), failed]
    looks = tmp_path / "looks.csv"
    done = adafocus("classify", *paths, "-w", weights, "-f", "csv", "--trajectories", looks)
    first, second = csv.DictReader(done.stdout.decode().splitlines())
    assert first["label"] == tagged["labels"][0]["label"]
    assert float(first["gmacs"]) == tagged["cost"]["gmacs"]
    assert second["status"] == "error"
    with looks.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["frame"]) for row in rows] == [look["frame"] for look in tagged["trajectory"]]
    table = adafocus("classify", *paths, "-w", weights, "-f", "table", env={**os.environ, "COLUMNS": "60"})
    assert max(map(len, table.stdout.decode().splitlines())) <= 60
    assert tagged["labels"][0]["label"] in table.stdout.decode()


def test_abstention_leaves_the_list_of_labels_empty(weights, folder):
    top, _, _ = folder
    (record,) = records(adafocus("classify", top / "plain.mp4", "-w", weights, "--min-score", 0.9))
    assert (record["status"], record["labels"]) == ("ok", [])


@pytest.mark.skipif(not shutil.which("jq"), reason="jq is not installed")
def test_find_into_adafocus_into_jq(weights, folder):
    top, _, _ = folder
    script = "find . -name 't*.mp4' -print0 | sort -z | adafocus classify --files-from - -0 -w $W | jq -r .status"
    done = shell(f"W='{weights}'; {script}", cwd=top, timeout=120)
    assert done.stdout.split() == ["error", "ok", "ok"]


def test_a_reader_that_stops_listening_ends_it_quietly(weights, folder):
    top, _, _ = folder
    command = ["classify", "plain.mp4", "few.mp4", "variable.mkv", "-w", weights]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = Forked("adafocus_cli", command, cwd=top, start_new_session=True, **pipes)
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["status"] == "ok"
    process.stdout.close()
    assert process.wait(timeout=120) == 141
    assert process.stderr.read() == b""
    assert_no_children(process.pid)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_ctrl_c_while_it_loads_is_one_line():
    process = subprocess.Popen([*ADAFOCUS, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until_it_takes_signals(process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (130, "adafocus: interrupted\n")


@pytest.mark.parametrize("moment", [0, 3])
def test_ctrl_c_stops_at_once_and_leaves_nothing(published, folder, moment):
    top, _, _ = folder
    command = [*ADAFOCUS, "classify", *["plain.mp4"] * 200, "-w", published]
    process = subprocess.Popen(
        command, cwd=top, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_until_it_takes_signals(process)
    time.sleep(moment)
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)  # all the videos take longer
    assert process.returncode == 130
    assert stderr == "adafocus: interrupted\n"
    assert all(json.loads(line)["status"] == "ok" for line in stdout.splitlines())
    assert_no_children(process.pid)


def test_a_killed_parent_takes_its_decoders_along(weights, folder):
    top, _, _ = folder
    command = ["classify", *["plain.mp4"] * 200, "-w", weights]
    process = Forked("adafocus_cli", command, cwd=top, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.wait()
    assert_no_children(process.pid)


def wait_until_it_takes_signals(process):
    """Before, Ctrl-C ends Python itself, which no program can help."""
    status = Path(f"/proc/{process.pid}/status")
    while status.exists() and process.poll() is None:
        caught = re.search(r"^SigCgt:\s*(\w+)", status.read_text(), re.MULTILINE)
        if caught and int(caught[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.001)


def assert_no_children(parent):
    """The decoding processes are told whose they are."""
    for _ in range(50):
        listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        if f"video.server {parent} " not in listing:
            return
        time.sleep(0.1)
    raise AssertionError("a decoding process is left")


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["plain.mp4", "-w", "absent.pth"], 1, "there is no checkpoint absent.pth"),
        (["plain.mp4", "-w", "text.mp4"], 1, "damaged, cut short or not a checkpoint"),
        (["plain.mp4", "--patch-size", "500"], 1, "patch size 500 does not fit; 32 to 224"),
        (["plain.mp4", "--labels", "jester"], 1, "has 27 names, but the model answers 200 classes"),
        (["plain.mp4", "--labels", "none.txt"], 2, "cannot read label list none.txt"),
        (["plain.mp4", "--device", "cuda:7"], 1, "device cuda:7 is not there"),
        (["plain.mp4", "--device", "tpu"], 2, "--device tpu is not a device"),
        (
            ["plain.mp4", "--max-gmacs", "0.001"],
            2,
            "no answer fits under 0.001 GMACs: the first one of this model costs 0.",
        ),
        (["plain.mp4", "--exit", "none.yaml"], 2, "cannot read exit file none.yaml"),
        (["a folder.mp4"], 1, "no videos among the inputs"),
        ([], 2, "no videos were given"),
    ],
)
def test_mistakes_are_one_line_with_the_next_step(weights, folder, arguments, code, complaint):
    top, _, _ = folder
    model = [] if "-w" in arguments else ["-w", weights]
    done = adafocus("classify", *arguments, *model, cwd=top, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert (done.returncode, done.stdout) == (code, b"")
    *_, line = done.stderr.decode().splitlines()
    assert line.startswith("adafocus: error: ")
    assert complaint in line
    assert "Traceback" not in done.stderr.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="needs the resource module")
def test_three_minutes_at_720p_stay_far_below_the_memory_limit(published, tmp_path):
    part = numbered_clip(
        tmp_path / "part.mp4", frames=60, fps=3, size=(1280, 720), options={"preset": "ultrafast", "g": "60"}
    )
    path = repeated(part, tmp_path / "long.mp4", times=9)
    # A small process between, for a child's peak begins with what its parent has.
    script = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-c", script, *ADAFOCUS, "classify", str(path), "-w", published]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert int(done.stdout) * (1 if sys.platform == "darwin" else 1024) < 1.5e9


def repeated(clip, path, *, times):
    """The clip several times in one file, without encoding it again."""
    with av.open(str(clip)) as source, av.open(str(path), "w") as output:
        packets = [packet for packet in source.demux() if packet.dts is not None]
        step, stream = packets[1].dts - packets[0].dts, output.add_stream_from_template(source.streams.video[0])
        contents = [(bytes(packet), packet.dts, packet.pts, packet.is_keyframe) for packet in packets]
        for number in range(times):
            for content, dts, pts, is_keyframe in contents:
                packet = av.Packet(content)
                packet.dts, packet.pts = (each + number * len(contents) * step for each in (dts, pts))
                packet.stream, packet.time_base = stream, source.streams.video[0].time_base
                packet.is_keyframe = is_keyframe
                output.mux(packet)
    return path


@pytest.mark.skipif("ADAFOCUS_REFERENCE_CLIP" not in os.environ, reason="ADAFOCUS_REFERENCE_CLIP names no clip")
@pytest.mark.parametrize("case", oracle.goldens(whole_path=True))
def test_the_whole_path_gives_the_authors_answer(case, tagger_of, golden):
    """Decoders differ by one grey level, so from the file a little more than from frames."""
    tagger = tagger_of(case)
    result = tagger.tag_video(os.environ["ADAFOCUS_REFERENCE_CLIP"])
    expected = golden(case)
    if result.video.frames != expected["num_frames"]:
        pytest.skip(f"{case} was computed from a clip of {expected['num_frames']} frames")
    assert sorted(look.frame for look in result.trajectory) == expected["frame_indices"].tolist()
    assert deviation(result.logits, expected["logits"]) < 2e-2
    corners = np.array([(look.box[1] - 16, look.box[0] - 58) for look in result.trajectory])  # of the centre 224×224
    np.testing.assert_allclose(corners, expected["patch_top_left"], atol=0 if tagger.family.whole_pixels else 1e-2)
