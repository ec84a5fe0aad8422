"""`adafocus classify` with an engine that tags nothing: options, formats, files, exit codes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from adafocus_cli.errors import DeviceError, ModelError
from adafocus_cli.requests import ModelRequest, TagRequest
from tests.cli.conftest import Adafocus
from tests.cli.fake_engine import FakeEngine
from tests.output.test_journal import write


def test_results_come_as_json_lines_into_a_pipe(adafocus: Adafocus, engine: FakeEngine, weights: str) -> None:
    outcome = adafocus("classify", "a.mp4", "b.mp4", "-w", weights)
    assert outcome.code == 0
    assert outcome.paths == ["a.mp4", "b.mp4"]
    assert outcome.err == ""
    assert engine.closed


def test_some_failures_are_records_and_exit_status_3(adafocus: Adafocus, engine: FakeEngine, weights: str) -> None:
    outcome = adafocus("classify", "a.mp4", "broken.mp4", "b.mp4", "-w", weights)
    assert outcome.code == 3
    assert [record["status"] for record in outcome.records] == ["ok", "error", "ok"]
    assert outcome.err.splitlines() == [
        "adafocus: broken.mp4: the file is cut off; download it again",
        "adafocus: 1 of 3 videos could not be tagged",
    ]


def test_the_first_table_of_the_default_model_is_followed_by_what_it_knows(
    adafocus: Adafocus, engine: FakeEngine, weights: str
) -> None:
    outcome = adafocus("classify", "broken.mp4", "a.mp4", "b.mp4", "-f", "table")
    assert outcome.err.splitlines() == [
        "adafocus: objects names 1,000 kinds of things, no actions or people; for actions: adafocus models list"
    ]
    for asked in (("-m", "motion"), ("-w", weights)):
        assert adafocus("classify", "a.mp4", "-f", "table", *asked).err == ""
    for other in (("-f", "jsonl"), ("-f", "table", "-q")):
        assert adafocus("classify", "a.mp4", *other).err == ""
    assert adafocus("classify", "broken.mp4", "-f", "table").err == ""


def test_only_failures_are_exit_status_3_too(adafocus: Adafocus, engine: FakeEngine, weights: str) -> None:
    assert adafocus("classify", "broken.mp4", "-w", weights).code == 3


def test_quiet_says_what_failed_and_nothing_else(
    adafocus: Adafocus, engine: FakeEngine, weights: str, tmp_path: Path
) -> None:
    (tmp_path / "nothing").mkdir()
    outcome = adafocus("classify", "broken.mp4", "a.mp4", tmp_path / "nothing", "-w", weights, "-q")
    assert outcome.err == "adafocus: broken.mp4: the file is cut off; download it again\n"


def test_the_usual_options_are_those_of_the_engine(adafocus: Adafocus, engine: FakeEngine, weights: str) -> None:
    adafocus("classify", "a.mp4", "-w", weights)
    assert engine.request == TagRequest()


def test_options_reach_the_engine_and_the_model(
    adafocus: Adafocus, engine: FakeEngine, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ModelRequest] = []
    monkeypatch.setattr("adafocus_cli.tagger.ClipTagger.of", asked.append)
    adafocus(
        *("classify", "a.mp4", "-w", weights, "-m", "other", "--decoder", "pyav"),
        *("--decode", "fast", "--decode-timeout", "7"),
        *("--workers", "3", "--batch-size", "4", "-k", "2", "--min-score", "0.25"),
        *("--patch-size", "96", "--labels", "names.txt", "--device", "cuda:1", "--precision", "fp16"),
        *("--runtime", "torch"),
    )
    assert engine.request is not None
    assert (engine.request.decoder, engine.request.decode) == ("pyav", "fast")
    assert engine.request.limits.seconds == 7
    assert (engine.request.workers, engine.request.top_k, engine.request.min_score) == (3, 2, 0.25)
    assert engine.load is not None
    engine.load()
    assert asked == [
        ModelRequest(
            source=Path(weights),
            patch_size=96,
            labels="names.txt",
            device="cuda:1",
            precision="fp16",
            batch_size=4,
            runtime="torch",
        )
    ]


@pytest.mark.parametrize(
    ("name", "begins"), [("t.csv", "path,"), ("t.JSON", "["), ("t.jsonl", '{"schema"'), ("tags", '{"schema"')]
)
def test_the_output_file_says_the_format(
    adafocus: Adafocus, engine: FakeEngine, weights: str, tmp_path: Path, name: str, begins: str
) -> None:
    outcome = adafocus("classify", "a.mp4", "-w", weights, "-o", tmp_path / name)
    assert outcome.out == ""
    assert (tmp_path / name).read_text().startswith(begins)


def test_trajectories_have_a_file_of_their_own(
    adafocus: Adafocus, engine: FakeEngine, weights: str, tmp_path: Path
) -> None:
    patches = tmp_path / "patches.csv"
    outcome = adafocus("classify", "a.mp4", "broken.mp4", "-w", weights, "--trajectories", patches, "-f", "csv")
    assert len(list(csv.DictReader(io.StringIO(outcome.out)))) == 2
    assert len(list(csv.DictReader(patches.open()))) == 16


def test_segments_have_a_row_each_in_a_file_of_their_own(
    adafocus: Adafocus, engine: FakeEngine, weights: str, tmp_path: Path
) -> None:
    files = ("-o", tmp_path / "tags.csv", "--window", 5, "--segments", tmp_path / "segments.csv")
    for _ in range(2):  # its own earlier file is replaced
        assert adafocus("classify", "film.mp4", "a.mp4", "broken.mp4", "-w", weights, *files).code == 3
    assert (tmp_path / "segments.csv").read_text().splitlines() == [
        "path,start,end,label,index,score",
        "film.mp4,0.0,3.75,Arm wrestling,2,0.9",
        "film.mp4,6.25,10.0,Sumo,4,0.85",
    ]


def test_the_table_shows_failures_itself(adafocus: Adafocus, engine: FakeEngine, weights: str) -> None:
    outcome = adafocus("classify", "a.mp4", "broken.mp4", "-w", weights, "-f", "table")
    assert "1 tagged · 1 failed" in outcome.out
    assert outcome.err == ""


def test_logits_are_added(adafocus: Adafocus, engine: FakeEngine, weights: str) -> None:
    assert adafocus("classify", "a.mp4", "-w", weights, "--logits").records[0]["logits"] == [0.5, -1.25]


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["classify"], 2, "no videos were given"),
        (["classify", "a.mp4", "-w", "gone.pth"], 1, "there is no checkpoint gone.pth"),
        (["classify", "a.mp4", "-w", "."], 1, "neither a checkpoint nor the folder of a training run"),
        (["classify", "a.mp4", "-w", "-"], 2, "not read from standard input"),
        (["classify", "-", "--files-from", "-"], 2, "only once"),
        (["classify", "a.mp4", "-0"], 2, "add - or --files-from"),
        (["classify", "a.mp4", "-w", "{weights}", "-o", "b.mp4"], 2, "would be overwritten"),
        (["classify", "a.mp4", "-w", "{weights}", "-o", "/no/where"], 2, "cannot write to /no/where"),
        (["classify", "a.mp4", "-w", "{weights}", "-o", "x", "--trajectories", "x"], 2, "give two files"),
        (["classify", "a.mp4", "-w", "{weights}", "--trajectories", "-"], 2, "give a file"),
        (["classify", "a.mp4", "-w", "{weights}", "--window", "5", "--segments", "-"], 2, "give a file"),
        (
            ["classify", "a.mp4", "-w", "{weights}", "--window", "5", "--segments", "x", "--trajectories", "x"],
            2,
            "give two files",
        ),
        (["classify", "a.mp4", "-w", "{weights}", "--logits", "-f", "csv"], 2, "--format jsonl"),
        (["classify", "--files-from", "gone.txt", "-w", "{weights}"], 2, "cannot read the list gone.txt"),
        (["classify", "a.mp4", "--top-k", "0"], 2, "--top-k"),
        (["classify", "a.mp4", "--min-score", "2"], 2, "--min-score"),
        (["classify", "a.mp4", "--device", "gpu"], 2, "auto, cpu, cuda, cuda:N or mps"),
        (["classify", "a.mp4", "--format", "xml"], 2, "table, json, jsonl or csv"),
        (["classify", "a.mp4", "--decode-timeout", "0"], 2, "seconds above 0"),
        (["classify", "a.mp4", "--wights", "x"], 2, "--weights"),
        (["clip.mp4"], 2, "adafocus classify clip.mp4"),
    ],
)
def test_errors_are_one_line(
    adafocus: Adafocus, engine: FakeEngine, weights: str, arguments: list[str], code: int, part: str
) -> None:
    outcome = adafocus(*(argument.format(weights=weights) for argument in arguments))
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.err.startswith("adafocus: error: ")
    assert outcome.err.count("\n") == 1
    assert part in outcome.err


def test_a_name_that_begins_with_a_dash(
    adafocus: Adafocus, engine: FakeEngine, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-x.mp4").touch()
    assert "./-x.mp4" in adafocus("classify", "-x.mp4", "-w", weights).err
    assert adafocus("classify", "-w", weights, "--", "-x.mp4").paths == ["-x.mp4"]


@pytest.mark.parametrize(("error", "code"), [(ModelError("odd \x1b[31m file"), 1), (DeviceError("no cuda"), 1)])
def test_errors_of_the_model_are_one_line(
    adafocus: Adafocus, engine: FakeEngine, weights: str, error: Exception, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> object:
        raise error

    monkeypatch.setattr("adafocus_cli.cli.classify._tag", fails)
    outcome = adafocus("classify", "a.mp4", "-w", weights)
    assert outcome.code == code
    assert outcome.err.count("\n") == 1
    assert "\x1b" not in outcome.err


def test_a_mistake_of_ours_shows_its_traceback_only_when_asked(
    adafocus: Adafocus, engine: FakeEngine, weights: str
) -> None:
    brief = adafocus("classify", "crash.mp4", "-w", weights)
    assert brief.code == 1
    assert brief.err == "adafocus: error: ZeroDivisionError: a mistake; run it again with --verbose for the details\n"
    assert "Traceback" in adafocus("classify", "crash.mp4", "-w", weights, "-v").err


@pytest.mark.parametrize("name", ["tags.jsonl", "tags.json", "tags.csv"])
def test_an_earlier_file_survives_a_run_that_has_nothing_to_say(
    adafocus: Adafocus, engine: FakeEngine, weights: str, tmp_path: Path, name: str
) -> None:
    earlier = tmp_path / name
    earlier.write_text("results\n")
    assert adafocus("classify", "crash.mp4", "-w", weights, "-o", earlier, "--overwrite").code == 1
    assert earlier.read_text() == "results\n"


@pytest.mark.parametrize("option", ["-o", "--trajectories"])
@pytest.mark.parametrize("name", ["notes.txt", "notes.jsonl", "notes.json", "notes.csv"])
def test_what_is_not_of_classify_is_replaced_only_if_asked_to(
    adafocus: Adafocus, engine: FakeEngine, weights: str, tmp_path: Path, name: str, option: str
) -> None:
    notes = tmp_path / name
    notes.write_text("dear diary\n")
    refused = adafocus("classify", "a.mp4", "-w", weights, option, notes)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert f"{notes} is there already" in refused.err
    assert notes.read_text() == "dear diary\n"
    assert adafocus("classify", "a.mp4", "-w", weights, option, notes, "--overwrite").code == 0
    assert "clip.mp4" in notes.read_text() or "a.mp4" in notes.read_text()


@pytest.mark.parametrize("ending", ["jsonl", "csv", "json"])
def test_records_of_batch_are_replaced_only_if_asked_to(
    adafocus: Adafocus, engine: FakeEngine, weights: str, tmp_path: Path, ending: str
) -> None:
    output = tmp_path / f"tags.{ending}"
    write(output, "a.mp4")
    before = output.read_bytes()
    assert "--overwrite" in adafocus("classify", "a.mp4", "-w", weights, "-o", output).err
    assert output.read_bytes() == before


@pytest.mark.parametrize("name", ["tags.json", "tags.jsonl", "tags.csv", "tags"])
def test_its_own_earlier_results_are_replaced(
    adafocus: Adafocus, engine: FakeEngine, weights: str, tmp_path: Path, name: str
) -> None:
    for path in ("a.mp4", "b.mp4"):
        files = ("-o", tmp_path / name, "--trajectories", tmp_path / "patches")
        assert adafocus("classify", path, "-w", weights, *files).code == 0
    text = (tmp_path / name).read_text()
    assert ("b.mp4" in text, "a.mp4" in text) == (True, False)


@pytest.mark.parametrize("name", ["t.jsonl.gz", "t.csv.zst", "t.json.gz", "t.sqlite", "t.SQLITE3", "t.db", "t.parquet"])
def test_names_of_formats_that_only_batch_writes_are_refused(
    adafocus: Adafocus, engine: FakeEngine, weights: str, tmp_path: Path, name: str
) -> None:
    outcome = adafocus("classify", "a.mp4", "-w", weights, "-o", tmp_path / name)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "adafocus batch" in outcome.err
    assert not (tmp_path / name).exists()


def test_no_videos_among_the_inputs(adafocus: Adafocus, engine: FakeEngine, weights: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    outcome = adafocus("classify", tmp_path / "empty", "-w", weights, "-f", "json")
    assert outcome.code == 1
    assert json.loads(outcome.out) == []
    warning, error = outcome.err.splitlines()
    assert "warning: no video files in the folder" in warning
    assert "no videos among the inputs" in error
