"""Videos as folders of numbered images: the right ones, read as video frames are, by the same loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adafocus_cli.errors import VideoError
from adafocus_cli.evaluation.data import Sample
from adafocus_cli.evaluation.frames import FrameFolder, tag_samples
from adafocus_cli.requests import TagRequest
from adafocus_cli.video.framing import Framing
from tests.clips import number_picture, numbered_clip, read_number
from tests.conftest import without_timings
from tests.tiny import tiny_tagger


def image_folder(path, *, frames=30, name="img_{:05d}.png", first=1, number=0):
    path.mkdir(parents=True, exist_ok=True)
    for frame in range(frames):
        Image.fromarray(number_picture(number + frame, 128, 96)).save(path / name.format(first + frame))
    return str(path)


@pytest.mark.parametrize(("name", "first"), [("img_{:05d}.png", 1), ("{:05d}.jpg", 1), ("{}.jpg", 0), ("f {}.PNG", 1)])
def test_images_are_in_the_order_of_their_numbers(tmp_path, name, first):
    folder = FrameFolder.open(image_folder(tmp_path, name=name, first=first, frames=12))
    assert [read_number(folder.pixels(frame, Framing())) for frame in range(12)] == list(range(12))
    assert (folder.info().width, folder.info().height, folder.info().frames) == (128, 96, 12)


def test_the_pictures_are_taken_not_the_flow_beside_them_and_no_more_than_the_list_says(tmp_path):
    image_folder(tmp_path, name="flow_x_{:05d}.jpg", number=500)
    image_folder(tmp_path)
    (tmp_path / "notes.txt").touch()
    folder = FrameFolder.open(str(tmp_path), frames=10)
    assert folder.info().frames == 10
    assert read_number(folder.pixels(9, Framing())) == 9


def test_folders_that_are_none(tmp_path):
    (tmp_path / "thumbnail.jpg").touch()
    with pytest.raises(VideoError, match=r"no numbered images .*img_00001.jpg"):
        FrameFolder.open(str(tmp_path))
    (tmp_path / "img_1.jpg").write_text("no image")
    with pytest.raises(VideoError, match=r"image img_1.jpg cannot be read"):
        FrameFolder.open(str(tmp_path)).info()


def test_a_folder_of_no_frames_and_one_that_may_not_be_read(tmp_path, monkeypatch):
    image_folder(tmp_path, frames=2)
    with pytest.raises(VideoError, match="the list gives it 0 frames; say how many it has"):
        FrameFolder.open(str(tmp_path), frames=0)

    def refused(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(VideoError, match=f"{tmp_path}: Permission denied; check that the folder may be read"):
        FrameFolder.open(str(tmp_path))


@pytest.mark.parametrize("family", ["adafocus-v1", "uni-adafocus-tsm"])
@pytest.mark.parametrize("lanes", [1, 2])
def test_a_folder_gives_the_record_of_its_video(tmp_path, family, lanes):
    """From a lossless clip; `uni` asks for frames again after its glance."""
    tagger = tiny_tagger(family, lanes=lanes)
    samples = []
    for number in (0, 100):
        options = {"frames": 30, "first_number": number, "codec": "ffv1", "pixel_format": "bgra"}
        samples.append(Sample(str(numbered_clip(tmp_path / f"{number}.mkv", **options)), "x"))
        samples.append(Sample(image_folder(tmp_path / str(number), number=number), "x"))
    results = dict(tag_samples(samples, tagger, TagRequest(workers=2)))
    for clip, folder in ((results[0], results[1]), (results[2], results[3])):
        np.testing.assert_array_equal(clip.step_logits, folder.step_logits)
        ours, theirs = (without_timings(result.to_dict()) for result in (folder, clip))
        assert (ours["cost"], ours["frames_decoded"]) == (theirs["cost"], theirs["frames_decoded"])
        assert [look["box"] for look in ours["trajectory"]] == [look["box"] for look in theirs["trajectory"]]


def test_what_is_broken_fails_alone(tmp_path):
    """In the header, in an image that comes later, or altogether."""
    good, bad, late = (image_folder(tmp_path / name, name="{:03d}.jpg") for name in ("good", "bad", "late"))
    (tmp_path / "bad" / "001.jpg").write_text("no image")
    (tmp_path / "late" / "016.jpg").write_bytes((tmp_path / "late" / "016.jpg").read_bytes()[:300])
    (tmp_path / "empty").mkdir()
    samples = [Sample(path, "x") for path in (bad, good, late, str(tmp_path / "empty"), str(tmp_path / "absent.mp4"))]
    results = dict(tag_samples(samples, tiny_tagger("adafocus-v1"), TagRequest(workers=2)))
    assert [results[place].status for place in range(5)] == ["error", "ok", "error", "error", "error"]
    assert [results[place].stage for place in (0, 2, 3, 4)] == ["decode", "decode", "open", "open"]
    assert "016.jpg" in results[2].message
