"""Everything that is to be known about a GPU, in one command of at most eight minutes.

    python bench/gpu.py [--json FILE] [--wheels FOLDER] [--device cuda|cpu] [--seconds 450]

Each part is a process of its own with a time limit, and what it has found by then is kept. The JSON has every field;
one that could not be measured is empty and has a reason. The last thing printed is the paragraph for
docs/performance.md. Without a GPU all that a processor can do is tried with small models, which shows that the parts
work and nothing else. Packages that are missing are installed from the wheels in a folder, into a temporary one.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NEEDED = ("numpy", "torch", "PIL", "av", "typer", "rich", "yaml", "platformdirs", "safetensors", "pytest")
P = 128
FAMILIES = ("adafocus-v1", "adafocus-v2", "uni-adafocus-tsm")
NETWORKS = ("slow-r50", "i3d-r50", "r2plus1d-18", "s3d")
CASES = ("v2-actnet-mbv2-p128", "v1-actnet-p128", "uni-sthv1-p128-8x12", "slow-r50-k400")
BATCHES = (16, 32, 64, 1)
TRAINING_CLIPS = 16

Found = Iterator[tuple[str, Any]]


class CannotMeasure(Exception):  # noqa: N818 - it is a reason
    """Why a field stays empty."""


@dataclass(frozen=True)
class Machine:
    device: str

    @property
    def has_gpu(self) -> bool:
        return self.device != "cpu"

    @property
    def precisions(self) -> tuple[str, ...]:
        if not self.has_gpu:
            return ("fp32", "bf16")
        import torch

        return ("fp32", *(("tf32", "bf16") if torch.cuda.get_device_capability() >= (8, 0) else ()), "fp16")

    def spec(self, family: str) -> Any:
        """As published, with patches of 128 pixels; on a processor as small as in the tests."""
        from adafocus_cli.models import default_spec, family_named
        from tests.tiny import tiny_spec

        if not self.has_gpu:
            return replace(tiny_spec(family), candidate_frames=default_spec(family).candidate_frames)
        return default_spec(family, patch_size=P if family_named(family).cuts_patches else None)

    def tagger(self, family: str, precision: str, batch: int) -> Any:
        import torch

        from adafocus_cli.labels import LabelSet
        from adafocus_cli.models import build
        from adafocus_cli.runtime.pytorch import TorchRuntime
        from adafocus_cli.schema import ModelInfo
        from adafocus_cli.tagger import ClipTagger

        torch.manual_seed(0)
        spec = self.spec(family)
        runtime = TorchRuntime(build(spec), device=self.device, precision=precision, batch_size=batch)
        info = ModelInfo(name=family, family=family, dataset=None, sha256="0" * 64, patch_size=spec.patch_size)
        return ClipTagger(runtime, LabelSet(tuple(map(str, range(spec.classes))), "numbers"), lambda: info)


@dataclass(frozen=True)
class Part:
    measure: Callable[[Machine], Found]
    fields: tuple[str, ...]
    share: float
    """Of the time that is left, beside the shares of those that follow."""


def about(machine: Machine) -> Found:
    import torch

    yield "torch", torch.__version__
    yield "python", platform.python_version()
    if not machine.has_gpu:
        raise CannotMeasure("no CUDA device")
    properties = torch.cuda.get_device_properties(machine.device)
    yield "name", properties.name
    yield "capability", f"{properties.major}.{properties.minor}"
    yield "memory_gib", round(properties.total_memory / 2**30, 1)


def tests(machine: Machine) -> Found:
    """Those that are marked `gpu`."""
    files = [str(path) for path in sorted(ROOT.glob("tests/**/test_*.py")) if "mark.gpu" in path.read_text("utf-8")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", *files],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error|skipped)", done.stdout)}
    yield "counts", counts
    yield "failed", re.findall(r"^(?:FAILED|ERROR) (.*)$", done.stdout, re.MULTILINE)
    if not counts:
        raise CannotMeasure(f"pytest ended with status {done.returncode}: {(done.stdout + done.stderr)[-300:]}")


def goldens(machine: Machine) -> Found:
    """How far the answers are from those of the authors' code, in units of their spread, and whether the first is."""
    import numpy as np
    import torch

    from adafocus_cli.tagger import ClipTagger
    from tests import oracle
    from tests.conftest import deviation
    from tests.models.test_golden import frames_of
    from tests.oracle import synth

    with tempfile.TemporaryDirectory() as folder:
        for case in CASES if machine.has_gpu else ("uni-sthv1-p128-8x12",):
            file, patch_size = Path(folder, f"{case}.pth.tar"), oracle.layout(case).get("patch_size")
            torch.save(synth.checkpoint(case), file)
            frames, expected = frames_of(case), np.load(oracle.file_of(f"golden/{case}.npz"))["logits"]
            for precision in machine.precisions if machine.has_gpu else ("fp32",):
                how: dict[str, Any] = {"device": machine.device, "precision": precision, "runtime": "torch"}
                tagger = ClipTagger.load(file, patch_size=patch_size, batch_size=1, **how)
                logits = tagger.tag_frames(*frames).logits
                same = int(logits.argmax()) == int(expected.argmax())
                yield precision, {case: {"deviation": deviation(logits, expected), "same_label": same}}
    if not machine.has_gpu:
        raise CannotMeasure("no CUDA device")


def peak(machine: Machine) -> Found:
    from adafocus_cli.benchmark.interleaved import time_interleaved
    from adafocus_cli.benchmark.peak import kernels

    for precision in machine.precisions:
        tried = kernels(machine.device, precision)
        timings = time_interleaved([each.task() for each in tried], 5 if machine.has_gpu else 1, lambda text: None)
        yield precision, max(rate for each in tried for rate in each.rates(timings[each.name]))
    if not machine.has_gpu:
        raise CannotMeasure("no CUDA device")


def speed(machine: Machine) -> Found:
    """Videos a second of models that have their frames, by batch, precision and graphs; what matters comes first."""
    import torch

    from adafocus_cli.benchmark.bench_model import noise_clip
    from adafocus_cli.flops import cost_of

    families = (*FAMILIES, *NETWORKS)
    for batch in BATCHES if machine.has_gpu else (1,):
        for family in families if batch in (1, 16) else FAMILIES:
            gmacs = cost_of(machine.spec(family)).gmacs
            for precision in machine.precisions if machine.has_gpu else ("fp32",):
                tagger = machine.tagger(family, precision, batch)
                tag = partial(tagger.tag, [noise_clip(tagger.family)] * batch)
                row = {"batch": batch, "precision": precision, "gmacs": gmacs}
                yield family, [{**row, "graphs": False, "videos_per_second": batch / repeated(tag, machine)}]
                if machine.has_gpu:
                    with tagger.runtime.spread():
                        yield family, [{**row, "graphs": True, "videos_per_second": batch / repeated(tag, machine)}]
                del tagger, tag
                if machine.has_gpu:
                    torch.cuda.empty_cache()


def repeated(action: Callable[[], object], machine: Machine) -> float:
    """Seconds, the median; what is done for the first time was done before."""
    for _ in range(4 if machine.has_gpu else 1):
        action()
    taken: list[float] = []
    while len(taken) < (5 if machine.has_gpu else 1) and sum(taken) < 2:
        started = time.perf_counter()
        action()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def stages(machine: Machine) -> Found:
    """Milliseconds of a video by stage, each waited for."""
    from adafocus_cli.benchmark.interleaved import time_interleaved
    from adafocus_cli.benchmark.model_only import StageTimer

    for family in FAMILIES if machine.has_gpu else ("adafocus-v2",):
        for precision in machine.precisions if machine.has_gpu else ("fp32",):
            tagger = machine.tagger(family, precision, 16)
            timing = time_interleaved([StageTimer(tagger).task("")], 5 if machine.has_gpu else 1, lambda text: None)[""]
            yield family, {precision: {part: 1000 * seconds for part, seconds in timing.parts.items()}}


def batch(machine: Machine) -> Found:
    """From files to records, and how much of the time the model waits for frames."""
    from made_clips import make

    from adafocus_cli.engine.local import tag_as_they_come
    from adafocus_cli.requests import TagRequest
    from adafocus_cli.schema import VideoResult

    with tempfile.TemporaryDirectory() as folder:
        paths = make(Path(folder), 400 if machine.has_gpu else 2, size=(340, 256))
        for precision in machine.precisions if machine.has_gpu else ("fp32",):
            tagger = machine.tagger("adafocus-v2", precision, 16)
            loops, inferring, count, started = 2 if machine.has_gpu else 1, 0.0, 0, time.perf_counter()
            with closing(tag_as_they_come(paths, tagger, TagRequest())) as results:
                for result in results:
                    count += 1
                    if count == len(paths) // 4:  # what starts up is over
                        started, inferring = time.perf_counter(), 0.0
                    assert isinstance(result, VideoResult), result
                    inferring += result.runtime.seconds["infer"]
            wall = time.perf_counter() - started
            yield "videos_per_second", {precision: (len(paths) - len(paths) // 4) / wall}
            yield "waiting_for_frames", {precision: max(0.0, 1 - inferring / (loops * wall))}
            yield "decoding_processes", TagRequest().workers


def decoding(machine: Machine) -> Found:
    """Frames a second of one H.264 stream of 1280 × 720, all of them, to pixels in the processor's memory."""
    import av
    from av.codec import hwaccel

    from adafocus_cli.benchmark.videos import encode
    from adafocus_cli.worlds import world

    scene = world("motion").scene(0)
    with tempfile.TemporaryDirectory() as folder:
        file, count = Path(folder, "clip.mp4"), 500 if machine.has_gpu else 8
        pictures = scene.frames(range(scene.count))
        encode(file, (pictures[i % len(pictures)] for i in range(count)), fps=25, size=(1280, 720))

        def pyav(**how: Any) -> float:
            started = time.perf_counter()
            with av.open(str(file), **how) as container:
                for frame in container.decode(video=0):
                    frame.to_ndarray(format="rgb24")
            return count / (time.perf_counter() - started)

        yield "pyav", pyav()
        if shutil.which("ffmpeg"):
            yield "ffmpeg", _ffmpeg(file, count)
        else:
            yield "ffmpeg", CannotMeasure("the program ffmpeg is not there")
        if not machine.has_gpu:
            raise CannotMeasure("no CUDA device")
        if "cuda" in hwaccel.hwdevices_available():
            yield "pyav_nvdec", _tried(lambda: pyav(hwaccel=hwaccel.HWAccel("cuda", allow_software_fallback=False)))
        else:
            yield "pyav_nvdec", CannotMeasure("PyAV's FFmpeg was built without CUDA")
        yield "ffmpeg_nvdec", _tried(lambda: _ffmpeg(file, count, "-hwaccel", "cuda"))


def _ffmpeg(file: Path, count: int, *how: str) -> float:
    if not shutil.which("ffmpeg"):
        raise CannotMeasure("the program ffmpeg is not there")
    command = ["ffmpeg", "-v", "error", *how, "-i", str(file), "-pix_fmt", "rgb24", "-f", "rawvideo", "-y", os.devnull]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode or (how and "rror" in done.stderr):
        raise CannotMeasure(done.stderr.strip()[-200:] or f"ffmpeg ended with status {done.returncode}")
    return count / (time.perf_counter() - started)


def _tried(measure: Callable[[], float]) -> float | CannotMeasure:
    try:
        return measure()
    except Exception as error:
        return CannotMeasure(f"{type(error).__name__}: {error}")


def training(machine: Machine) -> Found:
    """Clips a second of steps of recipe v2, from frames at hand to new weights."""
    import torch

    from adafocus_cli.models import build
    from adafocus_cli.training.recipes import RECIPES

    stage, spec = RECIPES["v2"].usual[0], machine.spec("adafocus-v2")
    clips = TRAINING_CLIPS if machine.has_gpu else 2
    for precision in machine.precisions if machine.has_gpu else ("fp32",):
        torch.manual_seed(0)
        learner = stage.learner_of(build(spec)).to(machine.device).train()
        optimizer = torch.optim.SGD([p for group in learner.groups().values() for p in group], lr=stage.lr)
        scaler = torch.amp.GradScaler(machine.device, enabled=precision == "fp16")
        shape = (clips, len(learner.model.plan(100).frames), *spec.framing.shape)
        frames = torch.randint(0, 256, shape, dtype=torch.uint8)
        targets = torch.randint(0, spec.classes, (clips,), device=machine.device)
        number = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)

        def step() -> None:
            with torch.autocast(machine.device, number, enabled=number is not None):  # noqa: B023 - called at once
                loss = learner(frames.to(machine.device), targets).loss  # noqa: B023
            scaler.scale(loss).backward()  # noqa: B023
            scaler.step(optimizer)  # noqa: B023
            scaler.update()  # noqa: B023
            optimizer.zero_grad()  # noqa: B023
            loss.item()

        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=precision == "tf32"
        ):
            yield "clips_per_second", {precision: clips / repeated(step, machine)}
        if machine.has_gpu:
            yield "memory_gib", {precision: torch.cuda.max_memory_allocated() / 2**30}
            torch.cuda.reset_peak_memory_stats()
    yield "clips_a_step", clips
    if not machine.has_gpu:
        raise CannotMeasure("no CUDA device")


def uploading(machine: Machine) -> Found:
    """10⁹ bytes a second of frames that come in arrays of a clip each, and how often memory was pinned for them."""
    import numpy as np
    import torch

    tagger = machine.tagger("adafocus-v2", "fp32", 16)
    shape = (16, *tagger.spec.framing.shape)
    clips = [np.random.default_rng(seed).integers(0, 256, shape, np.uint8) for seed in range(16)]
    giga, runtime = sum(clip.nbytes for clip in clips) / 1e9, tagger.runtime

    def copied(upload: Callable[[], torch.Tensor]) -> Callable[[], object]:
        return lambda: upload().flatten()[-1:].cpu()

    yield "ours", giga / repeated(copied(lambda: runtime.upload(clips)), machine)
    if not machine.has_gpu:
        raise CannotMeasure("no CUDA device")
    stacked = {
        "stacked_and_pinned": lambda: (
            torch.from_numpy(np.stack(clips)).pin_memory().to(machine.device, non_blocking=True)
        ),
        "stacked": lambda: torch.from_numpy(np.stack(clips)).to(machine.device),
    }
    for name, upload in stacked.items():
        yield name, giga / repeated(copied(upload), machine)
    if not hasattr(torch.cuda, "host_memory_stats"):
        raise CannotMeasure("this torch does not count it")
    before = torch.cuda.host_memory_stats()["num_host_alloc"]
    for _ in range(100):
        runtime.upload(clips)
    yield "pinned_anew_in_100", torch.cuda.host_memory_stats()["num_host_alloc"] - before


_FORMATS = ("fp32", "tf32", "bf16", "fp16")
PARTS: Mapping[str, Part] = {
    "about": Part(about, ("torch", "python", "name", "capability", "memory_gib"), 0.3),
    "tests": Part(tests, ("counts", "failed"), 0.2),
    "goldens": Part(goldens, _FORMATS, 0.12),
    "peak": Part(peak, _FORMATS, 0.05),
    "speed": Part(speed, (*FAMILIES, *NETWORKS), 0.28),
    "stages": Part(stages, FAMILIES, 0.06),
    "batch": Part(batch, ("videos_per_second", "waiting_for_frames", "decoding_processes"), 0.1),
    "decoding": Part(decoding, ("pyav", "ffmpeg", "pyav_nvdec", "ffmpeg_nvdec"), 0.05),
    "training": Part(training, ("clips_per_second", "memory_gib", "clips_a_step"), 0.05),
    "uploading": Part(uploading, ("ours", "stacked_and_pinned", "stacked", "pinned_anew_in_100"), 0.04),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("gpu.json"))
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("--device", choices=("cuda", "cpu"))
    parser.add_argument("--seconds", type=float)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.wheels is not None:
            install(given.wheels, Path(folder))
        sys.path[:0] = [str(ROOT), str(ROOT / "bench")]
        device = given.device or ("cuda" if _asked(_has_cuda) else "cpu")
        machine = Machine(device)
        if not machine.has_gpu:
            print("No CUDA device: trying what a processor can do, with small models.", file=sys.stderr)
        report = measured(machine, given.seconds or (450 if machine.has_gpu else 160))
    given.json.write_text(json.dumps(report, indent=1) + "\n")
    print(paragraph(report))


def install(wheels: Path, folder: Path) -> None:
    """What is missing, and nothing over what is there."""
    from importlib.util import find_spec

    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(folder)]
        subprocess.run([*command, *map(str, sorted(wheels.glob("*.whl")))], check=True)
        sys.path.append(str(folder))


def _has_cuda(answer: Connection) -> None:
    import torch

    answer.send(torch.cuda.is_available())


def _asked(question: Callable[[Connection], None]) -> Any:
    """In a process of its own: one that has used a device cannot be forked for the parts."""
    mine, theirs = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=question, args=(theirs,))
    process.start()
    theirs.close()
    answer = mine.recv()
    process.join()
    return answer


_FORK = multiprocessing.get_context("fork")


def measured(machine: Machine, seconds: float) -> dict[str, Any]:
    """All parts; what one leaves of its time is for those that follow, so that a short part may be given plenty."""
    import torch  # noqa: F401 - loaded once, for all processes that are forked

    ends = time.monotonic() + seconds
    parts = dict[str, Any]()
    rest = sum(part.share for part in PARTS.values())
    for name, part in PARTS.items():
        limit = max(0.0, ends - time.monotonic()) * part.share / rest
        rest -= part.share
        print(f"{name}, at most {limit:.0f} s", file=sys.stderr, flush=True)
        parts[name] = run(part, machine, limit)
    return {"schema": "adafocus-gpu/1", "device": machine.device, "parts": parts}


def run(part: Part, machine: Machine, limit: float) -> dict[str, Any]:
    mine, theirs = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_send, args=(part, machine, theirs))
    started = time.monotonic()
    process.start()
    theirs.close()
    values, reasons = dict[str, Any](), dict[str, str]()
    reason = f"not reached in {limit:.0f} s"
    try:
        while mine.poll(max(0.0, started + limit - time.monotonic())):
            field, value = mine.recv()
            if field is None:
                reason = value
            elif isinstance(value, CannotMeasure):
                reasons[field] = str(value)
            else:
                values[field] = _joined(values.get(field), value)
    except EOFError:
        process.join(5)
        if process.exitcode:
            reason = f"its process ended with status {process.exitcode}"
    process.kill()
    process.join()
    empty = {field: reasons.get(field, reason) for field in part.fields if field not in values}
    return {
        "seconds": round(time.monotonic() - started, 1),
        "values": {field: values.get(field) for field in part.fields},
        "reasons": empty,
        "cut_short": reason if reason.startswith("not reached") else None,
    }


def _joined(before: Any, value: Any) -> Any:
    """Fields that come bit by bit."""
    if isinstance(before, dict) and isinstance(value, dict):
        return {**before, **{name: _joined(before.get(name), more) for name, more in value.items()}}
    return [*before, *value] if isinstance(before, list) and isinstance(value, list) else value


def _send(part: Part, machine: Machine, found: Connection) -> None:
    import torch

    if not machine.has_gpu:
        torch.set_num_threads(1)
    try:
        for field, value in part.measure(machine):
            found.send((field, value))
        found.send((None, "not measured on this device"))
    except CannotMeasure as reason:
        found.send((None, str(reason)))
    except BaseException as error:
        found.send((None, f"{type(error).__name__}: {error}"[:500]))


def paragraph(report: Mapping[str, Any]) -> str:
    """For docs/performance.md."""
    values = {name: part["values"] for name, part in report["parts"].items()}
    about = values["about"]
    if about["name"] is None:
        return "No GPU was there: nothing of this is a measurement of one."
    lines = [f"On one {about['name']} ({about['memory_gib']} GiB, torch {about['torch']}, `python bench/gpu.py`):", ""]
    lines += ["| model | precision | batch | graphs | videos/s | of peak |", "| --- | --- | --- | --- | --- | --- |"]
    for family, rows in values["speed"].items():
        for precision in _FORMATS:
            some = [row for row in rows or () if row["precision"] == precision]
            if some:
                best = max(some, key=lambda row: row["videos_per_second"])
                top = (values["peak"] or {}).get(precision)
                share = f"{best['videos_per_second'] * best['gmacs'] / top:.0%}" if top else ""
                graphs = "yes" if best["graphs"] else "no"
                found = f"{best['batch']} | {graphs} | {best['videos_per_second']:.0f} | {share}"
                lines.append(f"| {family} | {precision} | {found} |")
    lines += ["", f"Tests: {values['tests']['counts']}."]
    for name in ("peak", "stages", "batch", "decoding", "training", "uploading"):
        lines.append(f"{name}: {json.dumps(values[name])}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
