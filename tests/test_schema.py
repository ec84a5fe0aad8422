"""Records on their way back to results."""

from __future__ import annotations

import json
import math
import os
from typing import Any

import pytest

from adafocus_cli.schema import Failure, Result, VideoResult, path_of, result_of
from tests.output.made_up import failed, in_windows, tagged


@pytest.mark.parametrize(
    "result",
    [tagged(), in_windows(), tagged(labels=(), trajectory=(), fps=None), failed(), tagged(os.fsdecode(b"\xff\\udcff"))],
)
@pytest.mark.parametrize("logits", [False, True])
def test_a_record_makes_the_result_that_it_was_made_of(result: Result, logits: bool) -> None:
    record = json.loads(json.dumps(result.to_dict(logits=logits)))
    again = result_of(record)
    assert type(again) is type(result)
    assert again.to_dict(logits=logits) == record
    assert path_of(record) == (result.path if isinstance(result, Failure) else result.video.path)


def test_numbers_that_json_does_not_know_come_back_as_nan() -> None:
    record = tagged().to_dict()
    record["labels"][0]["score"] = None
    assert math.isnan(VideoResult.from_dict(record).labels[0].score)


def test_records_of_earlier_versions_have_fewer_fields_and_names_in_another_form() -> None:
    record = tagged("\udcff.mp4").to_dict()
    record["video"] |= {"path": "\udcff.mp4"}
    for name in ("path_bytes", "decode", "frames_off", "packets_damaged"):
        del record["video"][name]
    assert result_of(record).to_dict() == tagged("\udcff.mp4").to_dict()


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"status": "maybe"},
        {"status": "error", "video": {"path": "a"}},
        {**tagged().to_dict(), "cost": {}},
        {**tagged().to_dict(), "video": {**tagged().to_dict()["video"], "path_bytes": "?"}},
        [],
    ],
)
def test_what_has_not_the_fields_of_a_record_is_refused(record: Any) -> None:
    with pytest.raises(ValueError, match="not a record"):
        result_of(record)
