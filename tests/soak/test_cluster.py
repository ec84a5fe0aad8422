"""Real clusters of Ray: machines that join and leave, workers that are killed, drivers that are killed or interrupted.

What the driver does then is tested quickly, with workers that are told what to do, in tests/engine/test_cluster.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.batches import kill_after, processes_left
from tests.engine import test_cluster
from tests.engine.test_cluster import STORE_BYTES, cluster_of, path_in, run
from tests.forked import ROOT, Forked

pytest.importorskip("ray")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

made, rigged = test_cluster.made, test_cluster.rigged  # fixtures


@pytest.fixture(scope="module")
def two_machines(tmp_path_factory):
    """The second one may be taken away."""
    with cluster_of(tmp_path_factory.mktemp("rigged"), 1, 1) as both:
        yield both


@pytest.mark.usefixtures("rigged")
def test_lost_workers_and_a_lost_machine_cost_nothing_but_what_kills_every_worker(made, two_machines, tmp_path):
    paths = links(made, tmp_path, 30)
    paths[3] = str(Path(paths[3]).rename(tmp_path / "poison.mp4"))
    with closing(run(made, paths, "ray", two_machines.address)) as results:
        found = [next(results) for _ in range(4)]
        kill_one_of(sorted(two_machines.pids.iterdir(), key=lambda file: file.stat().st_mtime))
        found += [next(results) for _ in range(6)]
        two_machines.remove_node(two_machines.others[0], allow_graceful=False)
        found += list(results)
    assert Counter(map(path_in, found)) == Counter(paths)
    (failure,) = [result for result in found if result.status == "error"]
    assert (Path(failure.path).stem, failure.type, failure.stage) == ("poison", "WorkerError", "infer")
    assert "its worker was lost 3 times" in failure.message
    assert "\n" not in failure.message


def kill_one_of(files):
    """The last of these processes that is still there."""
    while files:
        with suppress(ProcessLookupError):
            return os.kill(int(files.pop().name), signal.SIGKILL)
    raise AssertionError("there is no worker")


def links(made, folder, count):
    """So many videos of their own names."""
    for number in range(count):
        (folder / f"{number}.mp4").symlink_to(made / f"videos/{number % 10}.mp4")
    return [str(folder / f"{number}.mp4") for number in range(count)]


@pytest.mark.usefixtures("rigged")
def test_machines_that_join_get_workers_and_those_that_leave_give_their_videos_back(made, two_machines, tmp_path):
    videos, pids_before = links(made, tmp_path, 30), set(two_machines.pids.iterdir())

    def await_workers(count):
        end = time.monotonic() + 60
        while len(set(two_machines.pids.iterdir()) - pids_before) < count:
            assert time.monotonic() < end, "no worker has joined"
            time.sleep(0.05)

    joined, left = threading.Event(), threading.Event()

    def paths():
        yield from videos[:6]
        joined.wait(120)
        yield from videos[6:18]
        left.wait(120)
        yield from videos[18:]

    with ThreadPoolExecutor() as pool:  # Ray adds machines in the main thread only
        running = pool.submit(lambda: list(run(made, paths(), "ray", two_machines.address, workers=None)))
        try:
            await_workers(1)
            machine = two_machines.add_node(num_cpus=2, object_store_memory=STORE_BYTES)
            await_workers(3)
            joined.set()
            two_machines.remove_node(machine, allow_graceful=False)
        finally:
            joined.set()
            left.set()
        found = running.result()
    assert Counter(map(path_in, found)) == Counter(videos)
    assert {result.status for result in found} == {"ok"}


def start(made, output, *more, engine="ray"):
    command = ["batch", made / "many", "-m", made / "tiny.safetensors", "-o", output]
    command += ["--engine", engine, "--device", "cpu", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return Forked("adafocus_cli", command, env=environment, stderr=subprocess.PIPE, start_new_session=True)


@pytest.fixture(scope="module")
def many(made):
    """Many names, few contents: but for a byte at their end, which players skip."""
    (made / "many").mkdir()
    for number in range(40):
        content = (made / f"videos/{number % 10}.mp4").read_bytes()
        (made / f"many/{number}.mp4").write_bytes(content + bytes([number]))
    return {str(path) for path in (made / "many").iterdir()}


def lines(output):
    return output.read_text().splitlines() if output.exists() else []


def test_a_killed_driver_and_an_interrupted_one_are_gone_on_with(made, many, two_machines, tmp_path):
    output = tmp_path / "tags.jsonl"
    kill_after(start(made, output, "--address", two_machines.address), lambda: len(lines(output)) > 2)
    kept = output.read_bytes()[: output.read_bytes().rindex(b"\n") + 1]
    alone = start(made, output)  # with a cluster of its own
    while len(lines(output)) < kept.count(b"\n") + 3 and alone.poll() is None:
        time.sleep(0.01)
    os.killpg(alone.pid, signal.SIGINT)  # as a terminal does
    _, said = alone.communicate(timeout=100)
    assert (alone.returncode, b"finishing the videos in progress" in said, b"Traceback" in said) == (
        130,
        True,
        False,
    ), said
    assert processes_left(alone) == []
    assert 0 < len(lines(output)) < 40
    last = start(made, output, engine="local")
    _, said = last.communicate(timeout=100)
    assert last.returncode == 0, said
    assert output.read_bytes().startswith(kept)
    assert Counter(json.loads(line)["video"]["path"] for line in lines(output)) == dict.fromkeys(many, 1)
