"""What all tests share: made-up checkpoints in the published layouts, and the answers of the authors' code to them."""

from __future__ import annotations

import gc
import os

# One thread for each process: they run side by side. It has to be said before torch is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("SVT_LOG", "0")  # read once, when the first clip of AV1 is made

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adafocus_cli.video.process import VideoProcess
from tests import oracle
from tests.forked import start_child
from tests.oracle import synth

NO_BROWSER = "no Chromium can be started here"


def pytest_collection() -> None:
    """Half of the time in which modules are loaded would go into looking for garbage among them."""
    gc.disable()


def pytest_collection_finish() -> None:
    """What is loaded by now is not garbage and need not be looked through again."""
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A page that nobody looked at is worth a loud line."""
    missed = [each for each in terminalreporter.stats.get("skipped", ()) if NO_BROWSER in str(each.longrepr)]
    if missed:
        text = f"{len(missed)} tests of the page of `report` did not run: {NO_BROWSER}; `make browser` gets one"
        terminalreporter.section(text, red=True, bold=True)


@pytest.fixture(scope="session", autouse=True)
def _children_that_decode_are_forked() -> Iterator[None]:
    """Those of this process; half a second each is what loading takes. Those of `adafocus` are as users have them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VideoProcess, "_start_child", staticmethod(start_child))
        yield


@cache
def has_bf16() -> bool:
    """Whether OpenVINO calculates in bf16 on this processor."""
    from adafocus_cli.runtime.openvino import the_core

    return "BF16" in the_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def shared_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> Path:
    """The same in all processes that the tests run in."""
    top = tmp_path_factory.getbasetemp()
    folder = (top.parent if "PYTEST_XDIST_WORKER" in os.environ else top) / name
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Writes the checkpoint of an oracle case, once for all processes that the tests run in."""
    import torch

    folder = shared_folder(tmp_path_factory, "checkpoints")

    def path_of(case: str) -> Path:
        layout = oracle.layout(case)
        name = layout["case"]
        if "num_input_focus_segments" in layout:  # which only a name tells
            name += f"/p{layout['patch_size']}_{layout['num_glance_segments']}and{layout['num_focus_segments']}"
        path = folder / f"{name}.pth.tar"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            mine = path.with_name(f"{path.name}.{os.getpid()}")
            torch.save(synth.checkpoint(case), mine)
            mine.replace(path)
        return path

    return path_of


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, np.ndarray]]:
    """What the authors' code computed for a case."""
    return lambda case: dict(np.load(oracle.file_of(f"golden/{case}.npz")))


@pytest.fixture(scope="session")
def tagger_of(checkpoint_file: Callable[[str], Path]) -> Iterator[Callable[[str], Any]]:
    """The tagger of an oracle case on the processor, by torch or another runtime; the last few are kept."""
    from adafocus_cli import Tagger

    kept: dict[tuple[Path, str], Tagger] = {}

    def load(case: str, runtime: str = "torch") -> Tagger:
        path = checkpoint_file(case)
        if (path, runtime) not in kept:
            while len(kept) >= 2:
                kept.pop(next(iter(kept)))
            kept[path, runtime] = Tagger.load(
                path,
                patch_size=oracle.layout(case).get("patch_size"),
                device="cpu",
                precision="fp32",
                runtime=runtime,
            )
        return kept[path, runtime]

    yield load
    kept.clear()


def deviation(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, in units of the spread of the reference."""
    return float(np.abs(ours - theirs).max() / theirs.std())


def without_timings(record: dict[str, Any]) -> dict[str, Any]:
    """A record but for the only part that may differ between runs."""
    if "runtime" not in record:
        return record
    return {**record, "runtime": {name: value for name, value in record["runtime"].items() if name != "seconds"}}
