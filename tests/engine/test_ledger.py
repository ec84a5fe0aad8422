"""What becomes of each path of a batch: with real files and a real journal, and results that nobody computed."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from adafocus_cli.engine.ledger import Ledger
from adafocus_cli.output.journal import Journal
from tests.output.made_up import failed, tagged

SETTINGS = {"model": "m"}


@pytest.fixture
def videos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in {"a.mp4": "a", "b.mp4": "b", "twin.mp4": "a"}.items():
        Path(name).write_text(content)


class Run:
    """One run into tags.jsonl."""

    def __init__(self):
        self.failures = []
        self.journal = Journal.open(Path("tags.jsonl"), settings=SETTINGS, mode="resume")
        self.ledger = Ledger(self.journal, failed=self.failures.append, stop=threading.Event())

    def __enter__(self):
        return self.ledger

    def __exit__(self, *error):
        self.ledger.close()
        self.journal.close()


def records():
    found = [json.loads(line) for line in Path("tags.jsonl").read_text().splitlines()]
    return {record["video"]["path"]: record for record in found}


@pytest.mark.usefixtures("videos")
def test_what_is_done_is_skipped_and_what_changed_is_done_again():
    with Run() as ledger:
        assert list(ledger.paths(["a.mp4", "b.mp4"])) == ["a.mp4", "b.mp4"]
        ledger.take(tagged("a.mp4"))
        ledger.take(tagged("b.mp4"))
    Path("b.mp4").write_text("changed")
    with Run() as ledger:
        assert list(ledger.paths(["a.mp4", "b.mp4"])) == ["b.mp4"]
        ledger.take(tagged("b.mp4"))
    assert (ledger.tally.done_before, ledger.tally.tagged) == (1, 1)
    assert set(records()) == {"a.mp4", "b.mp4"}


@pytest.mark.usefixtures("videos")
def test_what_failed_is_tried_again():
    for result in (failed("a.mp4", "a.mp4: broken"), tagged("a.mp4")):
        with Run() as ledger:
            assert list(ledger.paths(["a.mp4"])) == ["a.mp4"]
            ledger.take(result)
    assert records()["a.mp4"]["status"] == "ok"


@pytest.mark.usefixtures("videos")
@pytest.mark.parametrize("when", ["in flight", "in this run", "in an earlier run"])
def test_a_twin_has_the_labels_of_the_first_and_says_so(when):
    with Run() as ledger:
        paths = ledger.paths(["a.mp4", "twin.mp4"])
        assert next(paths) == "a.mp4"
        if when == "in flight":
            assert list(paths) == []
        ledger.take(tagged("a.mp4"))
        if when == "in this run":
            assert list(paths) == []
    if when == "in an earlier run":
        with Run() as ledger:
            assert list(ledger.paths(["twin.mp4"])) == []
    assert ledger.tally.copied == 1
    assert records()["twin.mp4"]["copied_from"] == "a.mp4"
    assert records()["twin.mp4"]["labels"] == records()["a.mp4"]["labels"]


@pytest.mark.usefixtures("videos")
def test_the_twin_of_a_failure_has_a_failure_of_its_own():
    run = Run()
    with run as ledger:
        assert list(ledger.paths(["a.mp4", "twin.mp4"])) == ["a.mp4"]
        ledger.take(failed("a.mp4", "a.mp4: broken; copy it again"))
    assert [failure.message for failure in run.failures] == [
        "a.mp4: broken; copy it again",
        "twin.mp4: broken; copy it again",
    ]
    assert {record["status"] for record in records().values()} == {"error"}


@pytest.mark.usefixtures("videos")
def test_a_path_that_is_named_twice_is_tagged_once():
    with Run() as ledger:
        assert list(ledger.paths(["a.mp4", "a.mp4", "twin.mp4", "twin.mp4", "a.mp4"])) == ["a.mp4"]
        ledger.take(tagged("a.mp4"))
    assert (ledger.tally.tagged, ledger.tally.copied) == (1, 1)


@pytest.mark.usefixtures("videos")
@pytest.mark.parametrize("grown", ["a.mp4", "twin.mp4"])
def test_a_file_that_changes_while_it_is_tagged_is_tagged_again(grown):
    def watched():
        yield from ("a.mp4", "twin.mp4")
        Path(grown).write_text("more of it")
        yield grown

    with Run() as ledger:
        paths = ledger.paths(watched())
        assert next(paths) == "a.mp4"
        with ThreadPoolExecutor() as pool:
            again = pool.submit(list, paths)
            assert not wait([again], timeout=0.2).done  # until what is on its way has its record
            ledger.take(tagged("a.mp4"))
            assert again.result() == [grown]
        ledger.take(tagged(grown))
    with Run() as ledger:
        assert list(ledger.paths(["a.mp4", "twin.mp4"])) == []


@pytest.mark.usefixtures("videos")
def test_a_file_that_cannot_be_read_is_a_failure_and_no_work():
    with Run() as ledger:
        assert list(ledger.paths(["absent.mp4", ".", "b.mp4"])) == ["b.mp4"]
        ledger.take(tagged("b.mp4"))
    assert ledger.tally.failed == {"could not be opened": 2}
    assert "there is no such file" in records()["absent.mp4"]["error"]["message"]


@pytest.mark.usefixtures("videos")
def test_after_the_end_nothing_is_written():
    run = Run()
    with run as ledger:
        paths = ledger.paths(["a.mp4", "absent.mp4", "b.mp4"])
        next(paths)
    assert list(paths) == []
    assert run.failures == []
