"""The JSON Schema that `adafocus schema` prints: every record fits it, and it has no field that no record has."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from importlib import resources
from typing import Any

import pytest

from adafocus_cli.cli.app import run
from adafocus_cli.output.records import copied, with_origin
from adafocus_cli.schema import SCHEMA, SkippedFrame, Tag
from tests.clips import numbered_clip
from tests.output.made_up import failed, in_windows, tagged
from tests.output.test_journal import SETTINGS, source
from tests.tiny import tiny_tagger

validators = pytest.importorskip("jsonschema.validators")

TEXT = (resources.files("adafocus_cli") / "data" / "record.schema.json").read_text("utf-8")
PUG = Tag("pug", 254, 0.9, parent="dog", looks=(1,))


def made_up() -> list[dict[str, Any]]:
    first, *others = in_windows().windows
    skipped = (SkippedFrame(3, 0.12),)
    film = in_windows(windows=(replace(first, labels=(PUG,), skipped=skipped), *others), skipped=skipped)
    of_batch = with_origin(tagged("a.mp4", labels=(PUG,)).to_dict(), source("a.mp4"), SETTINGS)
    return [
        film.to_dict(logits=True),
        tagged("a\udcff.mp4", labels=(), best_guess=PUG, fps=None, duration=None).to_dict(),
        of_batch,
        copied(of_batch, source("twin.mp4")),
        failed("b\udcff.mp4").to_dict(),
        with_origin(failed().to_dict(), None, SETTINGS),
    ]


def closed(schema: Any) -> Any:
    """The schema without room for fields that it does not name."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(value) for name, value in schema.items()}
    return {**inner, "additionalProperties": False} if isinstance(schema.get("properties"), dict) else inner


def fits(record: Any, schema: Any = None) -> bool:
    validator = validators.Draft202012Validator(schema or json.loads(TEXT))
    return bool(validator.is_valid(json.loads(json.dumps(record))))


def test_it_is_a_schema_of_the_version_that_records_name() -> None:
    schema = json.loads(TEXT)
    validators.Draft202012Validator.check_schema(schema)
    assert schema["title"] == SCHEMA
    assert {schema["$defs"][kind]["properties"]["schema"]["const"] for kind in ("result", "failure")} == {SCHEMA}


def test_it_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["schema"]) == 0
    assert capfd.readouterr().out == TEXT


@pytest.mark.parametrize("place", range(6))
def test_every_field_of_a_record_is_in_it(place: int) -> None:
    record = made_up()[place]
    assert fits(record)
    assert fits(record, closed(json.loads(TEXT)))


def test_records_of_a_model_fit_it(tmp_path: Any) -> None:
    path = numbered_clip(tmp_path / "a.mp4", frames=60)
    tagger = tiny_tagger("adafocus-v2")
    for options in ({}, {"window": 1.0}):
        record = tagger.tag_video(str(path), **options).to_dict(logits=True)
        assert fits(record, closed(json.loads(TEXT)))


def names_in(value: Any) -> set[str]:
    if isinstance(value, list):
        return {name for each in value for name in names_in(each)}
    if not isinstance(value, dict):
        return set()
    return set(value) | {name for each in value.values() for name in names_in(each)}


def properties_of(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return {name for each in schema for name in properties_of(each)}
    if not isinstance(schema, dict):
        return set()
    own = schema.get("properties")
    found = set(own) if isinstance(own, dict) else set()
    return found | {name for each in schema.values() for name in properties_of(each)}


def test_it_has_no_field_that_no_record_has() -> None:
    assert properties_of(json.loads(TEXT)) <= names_in(made_up())


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.pop("labels"),
        lambda record: record.update(schema="adafocus/2"),
        lambda record: record.update(status="maybe"),
        lambda record: record["labels"][0].update(score=2),
        lambda record: record["labels"][0].update(index=-1),
        lambda record: record["trajectory"][0]["box"].pop(),
        lambda record: record["windows"][0]["cost"].pop("gmacs"),
        lambda record: record["segments"][0].update(label=None),
        lambda record: record["video"].update(width="wide"),
        lambda record: record.update(source={"size": 3}),
    ],
)
def test_what_is_not_a_record_does_not_fit(change: Any) -> None:
    record = deepcopy(made_up()[0])
    assert fits(record)
    change(record)
    assert not fits(record)
