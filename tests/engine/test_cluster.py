"""A Ray cluster gives the same records as this machine alone; and what its driver does when workers or machines go.

Real ones that go, and drivers that are killed, are in tests/soak.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from adafocus_cli import weights_file
from adafocus_cli.cli.batch import Engine
from adafocus_cli.engine import cluster
from adafocus_cli.engine.worker import Worker
from adafocus_cli.files import sha256_of
from adafocus_cli.labels import resolve
from adafocus_cli.requests import ModelRequest, TagRequest
from tests.clips import cut_off, numbered_clip
from tests.conftest import without_timings
from tests.engine.test_as_they_come import CRASH, misbehave_on
from tests.forked import ROOT
from tests.tiny import tiny_model, tiny_spec

pytest.importorskip("ray")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

STORE_BYTES = 100 << 20


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


@contextmanager
def cluster_of(rigged, *cpus):
    """Of machines with so many processors each, that are all this one; its workers tell who they are."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RIGGED", str(rigged))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # else other tests leave them no time
        quick = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
        head = {"num_cpus": cpus[0], "include_dashboard": False, "no_monitor": True, "_system_config": quick}
        made = Cluster(initialize_head=True, head_node_args={**head, "object_store_memory": STORE_BYTES})
        made.others = [made.add_node(num_cpus=count, object_store_memory=STORE_BYTES) for count in cpus[1:]]
        made.pids, made.temporary = rigged / "pids", rigged / "temporary"
        made.pids.mkdir()
        made.temporary.mkdir()
        yield made
        made.shutdown()


@pytest.fixture(scope="module")
def one_machine(tmp_path_factory):
    with cluster_of(tmp_path_factory.mktemp("rigged"), 2) as made:
        yield made


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
def test_a_cluster_gives_the_records_of_the_local_engine(made, one_machine):
    pytest.importorskip("fsspec")
    paths = [f"file://{made}/videos/0.mp4", *sorted(map(str, (made / "videos").iterdir()))]
    found, expected = (
        {path_in(r): without_timings(r.to_dict(logits=True)) for r in run(made, paths, *how, max_gmacs=1.0)}
        for how in (("ray", one_machine.address), ("local",))
    )
    assert found == expected
    assert len(found) == 13
    failed = {Path(path).stem for path, record in found.items() if record["status"] == "error"}
    assert failed == {"crash", "damaged"}
    assert list(one_machine.temporary.iterdir()) == []


def test_machines_are_sent_the_wider_names_and_wait_for_a_model_that_sees_windows(monkeypatch):
    sent = {}
    monkeypatch.setattr(cluster, "tag_on_cluster", lambda paths, setup, file, **how: sent.update(how, setup=setup))
    choice = ModelRequest(source="objects", device="cpu")
    who = Engine(name="ray", address=None, workers=1)
    who.tag([], who.load(choice), choice, TagRequest(workers=1), threading.Event())
    assert resolve(sent["setup"].model.labels, dataset=None, classes=1000).parent(207) == "dog"
    assert sent["in_windows"]


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
        self.machines = []

    def is_initialized(self):
        return True

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": float(cpus)}} for cpus in self.machines]

    def put(self, what):
        return what

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
    return drive_on(Hiring(answer), cluster.ClusterPlan(workers=2, cpus=1, gpus=0, depth=depth), paths, patience)


def drive_on(ray, plan, paths, patience=60.0):
    feed = cluster._PathReader(paths, threading.Event())
    return cluster._Driver(ray, plan, feed, None, None, patience).results()


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


def test_a_video_that_kills_every_worker_fails_and_costs_no_other():
    def answer(name, *given):
        return Hiring.exceptions.RayError("died") if given == ("poison",) else given or "up"

    found = list(drive(answer, ["a", "b", "poison", "c", "d"]))
    (failure,) = [result for result in found if hasattr(result, "type")]
    assert (failure.path, failure.type, failure.stage) == ("poison", "WorkerError", "infer")
    assert "its worker was lost 3 times (died)" in failure.message
    assert "\n" not in failure.message
    assert sorted(result for result in found if result is not failure) == [("a",), ("b",), ("c",), ("d",)]


def test_machines_that_join_get_workers_and_those_that_leave_give_their_videos_back(monkeypatch):
    monkeypatch.setattr(cluster, "_CLUSTER_SECONDS", 0.0)
    started = []

    def answer(name, *given):
        if name == "start":
            started.append(len(ray.machines))
            return None if "left" in started else "up"  # there is no room for it any more
        if given == ("with it",) and "left" not in started:
            started.append("left")
            ray.machines.pop()
            return Hiring.exceptions.RayError("its machine has left")
        return given

    ray = Hiring(answer)
    ray.machines = [1]
    results = drive_on(ray, cluster.ClusterPlan(workers=None, cpus=1, gpus=0, depth=1), ["a", "b", "with it", "c"])
    found = [next(results)]
    assert started == [1]
    ray.machines.append(2)
    found += results
    assert started == [1, 2, 2, "left", 1], "a fresh worker was wanted until the machine was missed"
    assert len(ray.killed) == 2, "the lost one, and the one that waits for the machine"
    assert sorted(found) == [("a",), ("b",), ("c",), ("with it",)]


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


def test_the_file_of_a_network_goes_with_the_one_that_only_compresses(made, monkeypatch):
    network, small = made / "network.safetensors", made / "small.safetensors"
    tensors = tiny_model("sfc").state_dict()
    with network.open("wb") as file:
        kept = {name: tensor for name, tensor in tensors.items() if name.startswith("net.")}
        weights_file.write(file, weights_file.About(spec=tiny_spec("slow-r50")), kept)
    spec = replace(tiny_spec("sfc"), backbone=network.name, backbone_sha256=sha256_of(network))
    with small.open("wb") as file:
        weights_file.write(file, weights_file.About(spec=spec), {n: t for n, t in tensors.items() if n not in kept})
    worker = Worker()
    monkeypatch.setattr(
        cluster, "library", lambda: Hiring(lambda name, *given: getattr(worker, name)(*given) or "done")
    )
    found, expected = (
        [without_timings(r.to_dict()) for r in run(made, [f"{made}/videos/1.mp4"], engine, model=small.name, workers=1)]
        for engine in ("ray", "local")
    )
    assert found == expected
    assert (len(found), found[0]["status"]) == (1, "ok")


def test_a_machine_with_another_version_is_refused(made):
    setup = cluster.Setup(model=ModelRequest(source="m"), sha256="", request=TagRequest(), version="0")
    with pytest.raises(cluster.AdaFocusError, match="has adafocus"):
        Worker().start(setup, {})
