"""`adafocus render`: where the record comes from, and what is refused before anything is drawn."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from adafocus_cli.render import process
from tests.cli.conftest import Adafocus
from tests.cli.fake_engine import FakeEngine
from tests.output.made_up import failed, tagged
from tests.output.test_journal import write

Rendered = list[dict[str, Any]]


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> Rendered:
    """What would be rendered."""
    calls: Rendered = []
    monkeypatch.setattr(
        process, "render", lambda path, record, **more: calls.append({"path": path, "record": record, **more})
    )
    return calls


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("clip.mp4", "other.mp4", "broken.mp4"):
        Path(name).write_bytes(b"video")
    old, new = tagged("clip.mp4", labels=()), tagged("clip.mp4")
    lines = [json.dumps(result.to_dict()) for result in (old, tagged("far.mp4"), new, failed("broken.mp4"))]
    path = tmp_path / "tags.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_the_newest_record_of_the_video_is_drawn(results: Path, adafocus: Adafocus, rendered: Rendered) -> None:
    outcome = adafocus("render", "clip.mp4", "--results", results, "-o", "a.webm", "--decode-timeout", 7)
    assert (outcome.code, outcome.out) == (0, "")
    (call,) = rendered
    assert call["record"]["labels"][0]["label"] == "Arm wrestling"
    assert (call["output"], call["folder"], call["limits"].seconds) == (Path("a.webm"), None, 7)


def test_results_may_be_an_array_of_json(results: Path, adafocus: Adafocus, rendered: Rendered) -> None:
    Path("tags.json").write_text(f"[{','.join(results.read_text().splitlines())}]")
    assert adafocus("render", "clip.mp4", "--results", "tags.json", "-o", "a.mp4").code == 0
    assert rendered[0]["record"]["labels"][0]["label"] == "Arm wrestling"


def test_a_record_is_found_by_another_path_to_the_same_file(
    results: Path, adafocus: Adafocus, rendered: Rendered
) -> None:
    assert adafocus("render", Path.cwd() / "clip.mp4", "--results", results, "--frames", "looks").code == 0
    assert (rendered[0]["folder"], rendered[0]["output"]) == (Path("looks"), None)


def test_without_results_the_video_is_tagged(
    results: Path, adafocus: Adafocus, rendered: Rendered, engine: FakeEngine, weights: str
) -> None:
    assert adafocus("render", "clip.mp4", "-o", "a.mp4", "-w", weights, "--max-gmacs", 5).code == 0
    assert rendered[0]["record"]["video"]["path"] == "clip.mp4"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "nothing to write; give --output FILE"),
        (["-o", "a.avi"], 2, "does not have a known format; give a name that ends in .mp4, .webm or .gif"),
        (["-o", "clip.mp4"], 2, "is the input video; give another file"),
        (["-o", "other.mp4"], 2, " exists; give another one, or --overwrite to replace it"),
        (["--frames", "full"], 2, " exists; give another one, or --overwrite to replace it"),
        (["-o", "a.mp4", "--results", "tags.jsonl", "-m", "motion"], 2, "give one or the other"),
        (["-o", "a.mp4", "--results", "no.jsonl"], 2, "there is no file no.jsonl"),
        (["-o", "no/a.mp4"], 2, "there is no folder no;"),
        (["-o", "a.mp4", "--results", "tags.csv"], 2, "CSV has only a part of each record"),
        (["-o", "a.mp4", "--results", "clip.mp4"], 2, "has no known format; give a file that ends in .json, .jsonl"),
        (["-o", "a.mp4", "--results", "empty.jsonl"], 2, "has no record of clip.mp4"),
    ],
)
def test_what_cannot_be_done_is_said_first(
    arguments: list[str], code: int, said: str, results: Path, adafocus: Adafocus, rendered: Rendered
) -> None:
    Path("full").mkdir()
    Path("full/file").touch()
    Path("empty.jsonl").touch()
    write(Path("tags.csv"), "clip.mp4")
    outcome = adafocus("render", "clip.mp4", *arguments)
    assert (outcome.code, rendered) == (code, [])
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


def test_what_is_there_is_replaced_when_asked_for(results: Path, adafocus: Adafocus, rendered: Rendered) -> None:
    arguments = ("clip.mp4", "--results", results, "-o", "other.mp4", "--frames", ".", "--overwrite")
    assert adafocus("render", *arguments).code == 0
    assert len(rendered) == 1


def test_a_failure_cannot_be_drawn(results: Path, adafocus: Adafocus) -> None:
    outcome = adafocus("render", "broken.mp4", "--results", results, "-o", "a.mp4")
    assert (outcome.code, os.path.lexists("a.mp4")) == (2, False)
    assert "is a failure: the file is cut off" in outcome.err


def test_other_storage_is_refused(results: Path, adafocus: Adafocus) -> None:
    assert "copy it to this machine" in adafocus("render", "s3://bucket/a.mp4", "-o", "a.mp4").err
