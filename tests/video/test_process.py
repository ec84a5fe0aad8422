"""The decoding child: what it answers, what happens when it does not, and that none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from adafocus_cli.errors import UsageError, VideoError
from adafocus_cli.video.framing import Framing
from adafocus_cli.video.limits import Limits
from adafocus_cli.video.process import VideoProcess
from adafocus_cli.video.sampling import spread
from tests.clips import cut_off, numbered_clip, read_number

X264 = {"preset": "veryfast", "g": "25", "bf": "3"}
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(numbered_clip(tmp_path_factory.mktemp("clips") / "a.mp4", frames=100, options=X264))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("clips") / "b.mkv"
    return str(numbered_clip(path, frames=50, first_number=1000, options=X264))


@pytest.fixture(autouse=True)
def _children_as_users_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VideoProcess, "_start_child", subprocess.Popen)


def child_of(process: VideoProcess) -> int:
    assert process._child is not None
    return process._child.pid


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return status != "Z"


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_frames_of_several_videos_in_turn(clip: str, other: str) -> None:
    with VideoProcess(decoder="pyav") as process:
        first, second = process.open(clip), process.open(other)
        for number in (5, 30, 31, 2):
            assert read_number(process.frames(first, [number]).pixels[0]) == number
            assert read_number(process.frames(second, [number]).pixels[0]) == 1000 + number
        frames = process.frames(first, [9, 9, 3], framing=Framing(112))
    assert first.info.path == clip
    assert (first.info.frames, first.info.width, first.info.height, first.info.fps) == (100, 128, 96, 25.0)
    assert (first.info.codec, first.info.decoder, first.warnings) == ("h264", "pyav", ())
    assert frames.pixels.shape == (3, 112, 112, 3)
    assert frames.times == pytest.approx((0.36, 0.36, 0.12))
    assert (frames.replaced, frames.damaged, frames.decoder) == (0, frozenset(), "pyav")
    assert frames.seconds > 0


def test_more_videos_than_are_kept_open(tmp_path: Path, clip: str) -> None:
    paths = [tmp_path / f"{i}.mp4" for i in range(12)]
    for path in paths:
        path.write_bytes(Path(clip).read_bytes())
    with VideoProcess(decoder="pyav") as process:
        videos = [process.open(str(path)) for path in paths]
        for number in (40, 60):
            assert [read_number(process.frames(video, [number]).pixels[0]) for video in videos] == [number] * 12


def test_a_new_child_opens_the_video_again(clip: str) -> None:
    with VideoProcess() as process:
        video = process.open(clip)
        os.kill(child_of(process), signal.SIGKILL)
        assert wait_until(lambda: process._child is not None and process._child.poll() is not None)
        assert read_number(process.frames(video, [7]).pixels[0]) == 7
        process.close()
        assert read_number(process.frames(video, [8]).pixels[0]) == 8


def test_after_some_videos_another_child_goes_on(clip: str, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VideoProcess, "_videos_per_child", 2)
    with VideoProcess(decoder="pyav") as process:
        first, _ = process.open(clip), process.open(other)
        child = child_of(process)
        assert read_number(process.frames(first, [5]).pixels[0]) == 5
        assert child_of(process) == child
        last = process.open(other)
        assert child_of(process) != child
        assert not Path(f"/proc/{child}").exists()
        assert read_number(process.frames(first, [7]).pixels[0]) == 7
        assert read_number(process.frames(last, [7]).pixels[0]) == 1007


def test_errors_name_the_file_and_the_child_stays(tmp_path: Path, clip: str) -> None:
    missing = str(tmp_path / "no\nsuch.mp4")
    with VideoProcess() as process:
        process.open(clip)
        pid = child_of(process)
        with pytest.raises(VideoError, match=r"no\\nsuch\.mp4: there is no such file; check the path") as caught:
            process.open(missing)
        assert caught.value.stage == "open"
        video = process.open(clip)
        with pytest.raises(IndexError, match="it has 100"):
            process.frames(video, [100])
        assert child_of(process) == pid
    with pytest.raises(UsageError, match="auto, pyav, decord"):
        VideoProcess(decoder="vlc")  # type: ignore[arg-type]


def test_a_file_that_changed_since(tmp_path: Path, clip: str) -> None:
    path = tmp_path / "changing.mp4"
    path.write_bytes(Path(clip).read_bytes())
    with VideoProcess() as process:
        video = process.open(str(path))
        process.close()
        numbered_clip(path, frames=10, options=X264)
        with pytest.raises(VideoError, match="frame 50 is not one of its 10"):
            process.frames(video, [50])
        path.unlink()
        process.close()
        with pytest.raises(VideoError, match="no such file"):
            process.frames(video, [5])


@pytest.mark.skipif(sys.platform == "win32", reason="no such names")
def test_undecodable_names_survive(tmp_path: Path, clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = os.fsdecode(b"bytes\xff \n.mp4")
    (tmp_path / name).write_bytes(Path(clip).read_bytes())
    monkeypatch.chdir(tmp_path)
    with VideoProcess(decoder="pyav") as process:
        video = process.open(name)
        assert video.info.path == name
        assert read_number(process.frames(video, [5]).pixels[0]) == 5


def test_too_little_time_is_a_clean_error(clip: str) -> None:
    with VideoProcess(limits=Limits(seconds=0.001)) as process, pytest.raises(VideoError, match="--decode-timeout"):
        process.open(clip)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the address space cannot be bounded")
def test_too_little_memory_is_an_error_of_the_video(tmp_path: Path) -> None:
    path = numbered_clip(tmp_path / "4k.mp4", frames=3, size=(3840, 2160), options={"preset": "ultrafast"})
    with VideoProcess(decoder="pyav", limits=Limits(memory_bytes=330 << 20)) as process, pytest.raises(VideoError):
        process.frames(process.open(str(path)), [0, 1, 2])


# Children that misbehave


FAKE_START = """
import json, os, signal, struct, sys, time
def send(header, payload=b""):
    text = json.dumps(header).encode()
    sys.stdout.buffer.write(struct.pack(">II", len(text), len(payload)) + text + payload)
    sys.stdout.buffer.flush()
def receive():
    n, _ = struct.unpack(">II", sys.stdin.buffer.read(8))
    return json.loads(sys.stdin.buffer.read(n))
if os.path.exists(sys.argv[1]):
    send({"ready": True})
    receive()
else:  # once it has misbehaved, the real one takes its place
    from adafocus_cli.video import server
    sys.argv[1:] = sys.argv[2:]
    server.main()
    sys.exit()
os.remove(sys.argv[1])
"""

FAULTS = {
    "crash": ("os.kill(os.getpid(), signal.SIGSEGV)", r"the decoder crashed \(SIGSEGV\)"),
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", "was killed, perhaps for want of memory"),
    "abort": ("os.kill(os.getpid(), signal.SIGABRT)", r"gave up \(SIGABRT\), perhaps at its memory limit"),
    "exit": ("sys.exit(3)", r"ended early \(status 3\)"),
    "end in the middle": ("sys.stdout.buffer.write(b'\\0\\0\\0\\x40\\0\\0\\0\\0{'); sys.exit(0)", "ended early"),
    "hang": ("time.sleep(1000)", "took longer than 5 seconds; allow more with --decode-timeout SECONDS"),
    "rubbish": ("sys.stdout.buffer.write(b'rubbish' * 1000); sys.stdout.buffer.flush(); time.sleep(1000)", "no sense"),
    "not JSON": (
        "sys.stdout.buffer.write(b'\\0\\0\\0\\4\\0\\0\\0\\0{{{{'); sys.stdout.flush(); time.sleep(9)",
        "no sense",
    ),
    "another answer": ("send({'weather': 'fine'}); time.sleep(1000)", "no sense"),
    "wrong types": ("send({'info': {'path': 3}, 'warnings': 5}); time.sleep(1000)", "no sense"),
    "too much": ("send({}, b'x' * 99); time.sleep(1000)", "no sense"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("fault", FAULTS)
def test_after_a_fault_the_next_video_works(
    tmp_path: Path, clip: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, sentence = FAULTS[fault]
    script, flag = tmp_path / "fake.py", tmp_path / "flag"
    script.write_text(FAKE_START + code)
    flag.touch()
    monkeypatch.setattr(VideoProcess, "_command", (sys.executable, str(script), str(flag)))
    with VideoProcess(limits=Limits(seconds=5.0)) as process:
        process.start()
        pid = child_of(process)
        with pytest.raises(VideoError, match=sentence) as caught:
            process.open(clip)
        assert str(caught.value).startswith(f"{clip}: ")
        assert not is_running(pid)
        assert read_number(process.frames(process.open(clip), [9]).pixels[0]) == 9


def test_a_child_that_cannot_start(clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VideoProcess, "_command", (sys.executable, "-c", "import no_such_module"))
    with VideoProcess() as process, pytest.raises(VideoError, match=r"could be started .* ADAFOCUS_DECODER_LOG=1"):
        process.open(clip)
    monkeypatch.setattr(VideoProcess, "_command", ("/no/such/python",))
    with VideoProcess() as process, pytest.raises(VideoError, match="could be started"):
        process.open(clip)


def test_an_answer_must_have_the_size_asked_for(tmp_path: Path, clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with VideoProcess(decoder="pyav") as process:
        video = process.open(clip)
    script, flag = tmp_path / "fake.py", tmp_path / "flag"
    header = {"times": [0.0], "replaced": 0, "damaged": [], "decoder": "pyav", "seconds": 0.1}
    script.write_text(FAKE_START + f"send({header!r}); time.sleep(100)")
    flag.touch()
    monkeypatch.setattr(VideoProcess, "_command", (sys.executable, str(script), str(flag)))
    with VideoProcess() as process, pytest.raises(VideoError, match="no sense"):
        process.frames(video, [1])


# No child is left behind


def test_close_ends_a_busy_child(tmp_path: Path, clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script, flag = tmp_path / "fake.py", tmp_path / "flag"
    script.write_text(FAKE_START + "time.sleep(1000)")
    flag.touch()
    monkeypatch.setattr(VideoProcess, "_command", (sys.executable, str(script), str(flag)))
    process = VideoProcess()
    process.start()
    pid = child_of(process)
    assert is_running(pid)
    process.close()
    assert not is_running(pid)
    process.close()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_interrupt_ends_the_request_and_the_child(
    tmp_path: Path, clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, flag = tmp_path / "fake.py", tmp_path / "flag"
    script.write_text(FAKE_START + "time.sleep(1000)")
    flag.touch()
    monkeypatch.setattr(VideoProcess, "_command", (sys.executable, str(script), str(flag)))
    process = VideoProcess()
    process.start()
    pid = child_of(process)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        process.open(clip)
    assert not is_running(pid)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_child_dies_with_its_parent(clip: str, how: signal.Signals) -> None:
    code = f"""
    import time
    from adafocus_cli.video.process import VideoProcess
    process = VideoProcess()
    process.open({clip!r})
    print(process._child.pid, flush=True)
    time.sleep(1000)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_running(pid)
    parent.send_signal(how)
    parent.wait()
    parent.stdout.close()
    assert wait_until(lambda: not is_running(pid))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals")
def test_the_child_leaves_interrupts_to_its_parent(clip: str) -> None:
    with VideoProcess() as process:
        video = process.open(clip)
        pid = child_of(process)
        os.kill(pid, signal.SIGINT)
        assert read_number(process.frames(video, [3]).pixels[0]) == 3
        assert child_of(process) == pid


# Where it runs


def run_python(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    keep = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "ADAFOCUS_DECODER_LOG")}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=folder,
        env={**keep, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


USE = """
    import sys
    sys.path.insert(0, {repository!r})
    from adafocus_cli.video.process import VideoProcess
    with VideoProcess() as process:
        video = process.open({clip!r})
        print(process.frames(video, [1]).pixels.shape)
    print([name for name in sys.modules if name.split(".")[0] in ("av", "decord", "torch", "PIL")])
"""


def test_no_main_guard_no_install_no_decoder_in_the_parent(tmp_path: Path, clip: str) -> None:
    # A file of the user's must not stand in for a library, neither here nor in the child.
    (tmp_path / "av.py").write_text("raise RuntimeError('the wrong av')")
    (tmp_path / "secrets.py").write_text("raise RuntimeError('the wrong secrets')")
    code = "import sys; sys.path.remove('')\n" + textwrap.dedent(USE.format(repository=str(REPOSITORY), clip=clip))
    done = run_python(code, tmp_path)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["(1, 224, 224, 3)", "[]"]


def test_libraries_are_silent_unless_asked(tmp_path: Path, clip: str) -> None:
    pytest.importorskip("decord")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(Path(clip).read_bytes())
    cut_off(broken, 0.5)
    code = f"""
    import sys
    sys.path.insert(0, {str(REPOSITORY)!r})
    from adafocus_cli.video.process import VideoProcess
    with VideoProcess(decoder="decord") as process:
        try:
            process.open({str(broken)!r})
        except Exception as error:
            print(error)
    """
    quiet, loud = run_python(code, tmp_path), run_python(code, tmp_path, ADAFOCUS_DECODER_LOG="1")
    assert quiet.stderr == ""
    assert len(quiet.stdout.splitlines()) == 1
    assert loud.stdout == quiet.stdout
    assert loud.stderr != ""


def test_infos_are_plain(clip: str) -> None:
    with VideoProcess() as process:
        video = process.open(clip)
        frames = process.frames(video, spread(100, 4))
    assert {type(value) for value in asdict(video.info).values()} == {str, int, float}
    assert frames.pixels.dtype == np.uint8
