"""A Ray cluster of two machines that are both this one: the same records as locally, and none lost or doubled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from adafocus_cli import weights_file
from adafocus_cli.cli.batch import Engine
from adafocus_cli.engine import cluster
from adafocus_cli.engine.worker import Worker
from adafocus_cli.files import sha256_of
from adafocus_cli.requests import ModelRequest, TagRequest
from tests.batches import kill_after, processes_left
from tests.clips import cut_off, numbered_clip
from tests.conftest import without_timings
from tests.engine.test_as_they_come import CRASH, misbehave_on
from tests.forked import ROOT, Forked
from tests.tiny import tiny_model, tiny_spec

pytest.importorskip("ray")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


class Rigged(Worker):
    """Its decoder crashes on some videos, and it dies itself of others."""

    def start(self, setup, files):
        misbehave_on(pytest.MonkeyPatch(), "crash", CRASH)
        Path(os.environ["RIGGED"], "pids", str(os.getpid())).touch()
        tempfile.tempdir = str(Path(os.environ["RIGGED"], "temporary"))
        super().start(setup, files)

    def tag(self, path):
        if "poison" in path:
            os._exit(1)
        return super().tag(path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model, and twelve videos of which one is damaged and one crashes its decoder."""
    folder = tmp_path_factory.mktemp("made")
    with (folder / "tiny.safetensors").open("wb") as file:
        about = weights_file.About(spec=tiny_spec("adafocus-v2"), name="tiny")
        weights_file.write(file, about, tiny_model("adafocus-v2").state_dict())
    (folder / "videos").mkdir()
    names = [*map(str, range(10)), "crash", "damaged"]
    for number, name in enumerate(names):
        numbered_clip(folder / f"videos/{name}.mp4", frames=15 + number, first_number=100 * number)
    cut_off(folder / "videos/damaged.mp4", 0.5)
    return folder


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory):
    """Their cluster; the second one may be taken away, and workers tell who they are."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
        patch.setenv("OMP_NUM_THREADS", "1")
        rigged = tmp_path_factory.mktemp("rigged")
        patch.setenv("RIGGED", str(rigged))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        quick = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
        node = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
        made = Cluster(initialize_head=True, head_node_args={**node, "_system_config": quick})
        made.second = made.add_node(**node)
        made.pids, made.temporary = rigged / "pids", rigged / "temporary"
        made.pids.mkdir()
        made.temporary.mkdir()
        yield made
        made.shutdown()


@pytest.fixture
def rigged(monkeypatch):
    monkeypatch.setattr(cluster, "Worker", Rigged)
    misbehave_on(monkeypatch, "crash", CRASH)


def run(made, paths, engine, address=None, model="tiny.safetensors", workers=2, **options):
    """Results by an engine as `batch` has them, one by one."""
    choice = ModelRequest(source=str(made / model), device="cpu")
    who = Engine(name=engine, address=address, workers=workers)
    return who.tag(paths, who.load(choice), choice, TagRequest(workers=2, **options), threading.Event())


def path_in(result):
    return result.to_dict()["video"]["path"]


@pytest.mark.usefixtures("rigged")
def test_a_cluster_gives_the_records_of_the_local_engine(made, two_nodes):
    pytest.importorskip("fsspec")
    paths = [f"file://{made}/videos/0.mp4", *sorted(map(str, (made / "videos").iterdir()))]
    found, expected = (
        {path_in(r): without_timings(r.to_dict(logits=True)) for r in run(made, paths, *how, max_gmacs=1.0)}
        for how in (("ray", two_nodes.address), ("local",))
    )
    assert found == expected
    assert len(found) == 13
    failed = {Path(path).stem for path, record in found.items() if record["status"] == "error"}
    assert failed == {"crash", "damaged"}
    assert list(two_nodes.temporary.iterdir()) == []


@pytest.mark.usefixtures("rigged")
def test_the_file_of_a_network_goes_with_the_one_that_only_compresses(made, two_nodes):
    network, small = made / "network.safetensors", made / "small.safetensors"
    tensors = tiny_model("sfc").state_dict()
    with network.open("wb") as file:
        kept = {name: tensor for name, tensor in tensors.items() if name.startswith("net.")}
        weights_file.write(file, weights_file.About(spec=tiny_spec("slow-r50")), kept)
    spec = replace(tiny_spec("sfc"), backbone=network.name, backbone_sha256=sha256_of(network))
    with small.open("wb") as file:
        weights_file.write(file, weights_file.About(spec=spec), {n: t for n, t in tensors.items() if n not in kept})
    found, expected = (
        [
            without_timings(result.to_dict())
            for result in run(made, [str(made / "videos/1.mp4")], *how, model=small.name)
        ]
        for how in (("ray", two_nodes.address), ("local",))
    )
    assert found == expected
    assert (len(found), found[0]["status"]) == (1, "ok")


@pytest.mark.usefixtures("rigged")
def test_lost_workers_and_a_lost_machine_cost_nothing_but_what_kills_every_worker(made, two_nodes, tmp_path):
    paths = links(made, tmp_path, 30)
    paths[3] = str(Path(paths[3]).rename(tmp_path / "poison.mp4"))
    with closing(run(made, paths, "ray", two_nodes.address)) as results:
        found = [next(results) for _ in range(4)]
        kill_one_of(sorted(two_nodes.pids.iterdir(), key=lambda file: file.stat().st_mtime))
        found += [next(results) for _ in range(6)]
        two_nodes.remove_node(two_nodes.second, allow_graceful=False)
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
def test_machines_that_join_get_workers_and_those_that_leave_give_their_videos_back(made, two_nodes, tmp_path):
    videos, pids_before = links(made, tmp_path, 30), set(two_nodes.pids.iterdir())

    def await_workers(count):
        end = time.monotonic() + 60
        while len(set(two_nodes.pids.iterdir()) - pids_before) < count:
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
        running = pool.submit(lambda: list(run(made, paths(), "ray", two_nodes.address, workers=None)))
        try:
            await_workers(1)
            machine = two_nodes.add_node(num_cpus=2, object_store_memory=100 << 20)
            await_workers(3)
            joined.set()
            two_nodes.remove_node(machine, allow_graceful=False)
        finally:
            joined.set()
            left.set()
        found = running.result()
    assert Counter(map(path_in, found)) == Counter(videos)
    assert {result.status for result in found} == {"ok"}


# The command line


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


def test_a_killed_driver_and_an_interrupted_one_are_gone_on_with(made, many, two_nodes, tmp_path):
    output = tmp_path / "tags.jsonl"
    kill_after(start(made, output, "--address", two_nodes.address), lambda: len(lines(output)) > 2)
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


# The driver alone, with workers that are told what to do


class Told:
    """As much of Ray as the driver uses: every call of a worker has its answer at once, or never."""

    class exceptions:  # noqa: N801
        class RayError(Exception):
            pass

    def __init__(self, answer):
        self.answer = answer
        self.killed = []
        self.answers = {}

    def remote(self, _):
        return self

    def options(self, **_):
        return self

    def kill(self, actor):
        self.killed.append(actor)

    def wait(self, due, *, num_returns, timeout):
        return [each for each in due if self.answers[each] is not None][:num_returns], []

    def get(self, each):
        if isinstance(self.answers[each], Exception):
            raise self.answers[each]
        return self.answers[each]

    def hired(self):
        told = self

        class Method:
            def __init__(self, name):
                self.name = name

            def remote(self, *arguments):
                ticket = object()
                told.answers[ticket] = told.answer(self.name, *arguments)
                return ticket

        class Actor:
            start, tag, stop = Method("start"), Method("tag"), Method("stop")

        return Actor()


class Hiring(Told):
    """`ray.remote(Worker).options(…).remote()` hires."""

    def remote(self, *arguments):
        return self if arguments else self.hired()


def drive(answer, paths, *, depth=2, patience=60.0):
    plan = cluster.ClusterPlan(workers=2, cpus=1, gpus=0, depth=depth)
    feed = cluster._PathReader(paths, threading.Event())
    return cluster._Driver(Hiring(answer), plan, feed, None, None, patience).results()


def test_a_worker_of_which_nothing_is_heard_is_given_up():
    found = list(
        drive(lambda name, *given: None if given == ("late",) else given or "up", ["a", "late", "b"], patience=0.5)
    )
    (failure,) = [result for result in found if hasattr(result, "type")]
    assert (failure.path, failure.type) == ("late", "WorkerError")
    assert "nothing was heard of it" in failure.message
    assert ("a",) in found
    assert ("b",) in found


def test_a_video_that_was_with_a_lost_worker_has_its_second_try_alone():
    lost = Counter()

    def answer(name, *given):
        if given == ("poison",):
            return None if not lost["now"] else Hiring.exceptions.RayError("died")
        return given

    results = drive(answer, ["poison", "a", "b", "c"], patience=0.5)
    lost["now"] = 1
    found = list(results)
    assert sorted(result for result in found if isinstance(result, tuple)) == [("a",), ("b",), ("c",)]
    assert len(found) == 4


def test_workers_that_never_start_are_an_error_and_no_endless_work():
    with pytest.raises(cluster.AdaFocusError, match="loses one worker after the other"):
        list(
            drive(lambda name, *given: Hiring.exceptions.RayError("no such module") if name == "start" else given, "ab")
        )


def test_paths_that_break_off_are_an_error_when_the_others_are_through():
    def broken():
        yield "a"
        raise OSError("the list is gone")

    results = drive(lambda name, *given: given, broken())
    assert next(results) == ("a",)
    with pytest.raises(OSError, match="the list is gone"):
        next(results)


def test_there_is_a_worker_for_each_accelerator_or_else_for_each_processor():
    nodes = [{"CPU": 4.0}, {"CPU": 16.0, "GPU": 2.0}]
    plan = cluster.ClusterPlan.of(nodes, workers=None, lanes=16)
    assert plan == cluster.ClusterPlan(workers=None, cpus=8, gpus=1, depth=32)
    assert plan.count(nodes) == 2
    assert plan.count([*nodes, {"CPU": 8.0, "GPU": 4.0}]) == 3  # it has processors for one only
    plan = cluster.ClusterPlan.of(nodes, workers=None, lanes=None)
    assert plan == cluster.ClusterPlan(workers=None, cpus=1, gpus=0, depth=3)
    assert plan.count(nodes) == 20
    assert plan.count([]) == 1
    assert cluster.ClusterPlan.of(nodes, workers=3, lanes=16).count(nodes) == 3


def test_a_machine_with_another_version_is_refused(made):
    setup = cluster.Setup(model=ModelRequest(source="m"), sha256="", request=TagRequest(), version="0")
    with pytest.raises(cluster.AdaFocusError, match="has adafocus"):
        Worker().start(setup, {})
