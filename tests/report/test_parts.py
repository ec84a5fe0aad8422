"""What the page is made from: records of any origin, files that may have moved, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adafocus_cli.report.build import Summary
from adafocus_cli.report.pictures import MOST_BYTES, PagePictures, find
from adafocus_cli.report.videos import MOST_LOOKS, Tagged, video_of
from adafocus_cli.schema import Exit, PatchBox
from tests.clips import numbered_clip
from tests.output.made_up import failed, tagged


def test_looks_are_in_the_order_of_the_film_and_thinned_where_there_are_too_many() -> None:
    looks = tuple(PatchBox(step, step, float(step), (0.0, 0.0, 9.0, 9.0)) for step in range(3000))
    video = video_of(tagged(trajectory=looks[::-1]).to_dict())
    assert isinstance(video, Tagged)
    assert video.look_count == 3000
    assert [look.time for look in video.looks] == list(range(0, 3000, 3000 // MOST_LOOKS))


def test_scores_by_step_are_shares_of_all_classes() -> None:
    logits = np.log([[0.5, 0.25, 0.125, 0.125, 0.0625], [0.1, 0.2, 0.3, 0.2, 0.2]])
    video = video_of(tagged(step_logits=logits).to_dict(logits=True))
    assert isinstance(video, Tagged)
    assert np.allclose(video.steps, [[0.125 / 1.0625, 0.125 / 1.0625, 0.0625 / 1.0625], [0.3, 0.2, 0.2]])
    assert video_of(tagged().to_dict(logits=True)).steps == ()  # type: ignore[union-attr]  # other classes


@pytest.mark.parametrize(
    "change",
    [
        {"labels": 3},
        {"video": {"path": "a"}},
        {"trajectory": [{"time": "x"}]},
        {"cost": None},
        {"exit": {"step": 1e999}},
    ],
)
def test_what_is_no_record_is_told_apart(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a record"):
        video_of({**tagged().to_dict(), **change})


def test_numbers_that_json_does_not_know_are_zero() -> None:
    record = tagged().to_dict()
    record["labels"][0]["score"] = record["video"]["fps"] = None
    video = video_of(record)
    assert isinstance(video, Tagged)
    assert (video.labels[0].score, video.fps) == (0.0, 0.0)


def test_the_summary_counts_labels_costs_exits_and_reasons() -> None:
    summary = Summary()
    for result in (
        tagged(),
        tagged(labels=(), exit=Exit(3, 16)),
        failed("a.mp4", "a.mp4: no"),
        failed("b.mp4", "b.mp4: no"),
    ):
        summary.add(video_of(result.to_dict()))
    told = summary.to_dict()
    assert told["labels"] == [("Arm wrestling", 1), ("no label", 1)]
    assert told["reasons"] == [("no", 2)]
    assert (told["exits"][3], told["exits"][15], sum(told["exits"])) == (1, 1, 2)
    assert told["costs"][41 // 5] == 2  # 27 of 65.4


def test_videos_are_found_where_they_were_and_where_they_went(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = tmp_path / "new/b/c.mp4"
    moved.parent.mkdir(parents=True)
    moved.touch()
    monkeypatch.chdir(tmp_path)
    assert find("new/b/c.mp4", None) == Path("new/b/c.mp4")
    for path in ("/old/a/b/c.mp4", "b/c.mp4", "../a/b/c.mp4"):
        assert find(path, None) is None
        assert find(path, Path("new")) == Path("new/b/c.mp4")
    assert find("c.mp4", Path("new")) is None
    for path in ("s3://bucket/new/b/c.mp4", "new", "", "a\0b", "x" * 5000):
        assert find(path, None) is None


def test_pictures_are_small_and_of_the_film_that_was_tagged(tmp_path: Path) -> None:
    file = numbered_clip(tmp_path / "a.mp4", frames=30, size=(340, 256))
    looks = tuple(PatchBox(step, 3 * step, 0.12 * step, (0.0, 0.0, 99.0, 99.0)) for step in range(10))
    video, other = (video_of(tagged(str(file), trajectory=looks, width=width).to_dict()) for width in (340, 341))
    none = video_of(tagged(str(file), trajectory=(), frames=30).to_dict())
    with PagePictures(4) as pictures:
        taken, of_other, without_looks = pictures.of([(video, file), (other, file), (none, file)])
    assert [(picture.time, picture.look) for picture in taken] == [(0.12, 1), (0.36, 3), (0.72, 6), (0.96, 8)]
    assert of_other == ()
    assert [picture.look for picture in without_looks] == [-1] * 4
    assert all(len(picture.address) < MOST_BYTES * 4 / 3 + 50 for picture in (*taken, *without_looks))
