"""A record as a film: the box, the label and the meter at a moment."""

from __future__ import annotations

from itertools import pairwise

import pytest

from adafocus_cli.errors import UsageError
from adafocus_cli.render.story import Story
from tests.render.films import BOXES, TIMES, record_of


def test_the_box_is_where_the_record_says_when_it_says_so() -> None:
    story = Story.of(record_of("a.mp4"))
    assert [story.box_at(time) for time in TIMES] == list(BOXES)
    assert (story.box_at(0.0), story.box_at(9.0)) == (BOXES[0], BOXES[-1])


def test_between_looks_the_box_glides() -> None:
    story = Story.of(record_of("a.mp4"))
    assert story.box_at(0.6) == pytest.approx((70, 20, 130, 80))
    lefts = [(story.box_at(0.2 + 0.08 * step) or BOXES[0])[0] for step in range(11)]
    steps = [after - before for before, after in pairwise(lefts)]
    assert min(steps) >= 0
    assert max(steps[0], steps[-1]) < max(steps) / 2  # slow at both ends


def test_looks_in_another_order_are_shown_in_that_of_the_film() -> None:
    record = record_of("a.mp4")
    record["trajectory"].reverse()
    assert Story.of(record) == Story.of(record_of("a.mp4"))


def test_the_meter_ends_at_the_cost_of_the_record() -> None:
    story = Story.of(record_of("a.mp4"))
    assert [story.spent_at(time) for time in (0.0, *TIMES, 2.0)] == pytest.approx([0.6, 1.4, 2.2, 3.0, 3.0])
    assert story.looks_until(0.1999) == 1  # records round times


def test_without_looks_there_is_no_box() -> None:
    story = Story.of(record_of("a.mp4", trajectory=[]))
    assert (story.box_at(1.0), story.spent_at(0.0)) == (None, 3.0)


def test_segments_say_which_label_holds() -> None:
    segments = [
        {"start": 0.0, "end": 0.8, "label": "a", "index": 0, "score": 0.9},
        {"start": 0.8, "end": 1.6, "label": "b", "index": 1, "score": 0.8},
    ]
    story = Story.of(record_of("a.mp4", segments=segments))
    said = [story.tag_at(time) for time in (0.0, 0.79, 0.8, 1.7)]
    assert [tag and tag.label for tag in said] == ["a", "a", "b", None]


def test_what_is_no_record_is_refused() -> None:
    with pytest.raises(UsageError, match="does not have the fields"):
        Story.of({"status": "ok", "video": None})
