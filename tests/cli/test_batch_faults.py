"""`batch` on a library of bad files, and killed while it runs: a small version of tests/soak."""

from __future__ import annotations

from pathlib import Path

from tests import batches
from tests.corpus import KINDS, good_clip, make


def test_every_bad_file_has_one_failure_and_every_good_clip_is_tagged_as_it_is_alone(tmp_path: Path) -> None:
    corpus = make(tmp_path / "videos", good=3, bad=len(KINDS))
    output = tmp_path / "tags.jsonl"
    process = batches.start(corpus.paths, output)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 3, said.decode()
    assert batches.processes_left(process) == []
    found = batches.records_by_path(output)
    assert {path: len(records) for path, records in found.items()} == dict.fromkeys(corpus.paths, 1)
    assert {path for path, (record,) in found.items() if record["status"] == "error"} == {str(p) for p in corpus.bad}
    for path in map(str, corpus.good):
        assert batches.comparable(found[path][0]) == batches.alone(path)


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    paths = [str(good_clip(tmp_path, number)) for number in range(6)]
    output = tmp_path / "tags.jsonl"
    for count in (1, 4):

        def enough(count: int = count) -> bool:
            return output.exists() and output.read_bytes().count(b"\n") >= count

        batches.kill_after(batches.start(paths, output), enough)
    kept = output.read_bytes()[: output.read_bytes().rindex(b"\n") + 1]
    assert batches.run(paths, output)[0] == 0
    assert output.read_bytes().startswith(kept)
    found = batches.records_by_path(output)
    assert {path: len(records) for path, records in found.items()} == dict.fromkeys(paths, 1)
    for path in (paths[0], paths[-1]):
        assert batches.comparable(found[path][0]) == batches.alone(path)
