"""The square that a model sees, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from adafocus_cli.video.framing import Framing, Geometry
from adafocus_cli.video.pictures import preprocess

SIZES = [(340, 256), (256, 340), (640, 360), (1920, 1080), (17, 3), (3, 17), (1, 1), (256, 256), (301, 900), (250, 100)]


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_equals_torchvision(size: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    picture = noise(*size)
    resized = functional.resize(torch.from_numpy(picture).permute(2, 0, 1), [256], antialias=True)
    expected = functional.center_crop(resized, [224, 224]).permute(1, 2, 0).numpy()
    # Pillow rounds between its two passes, torchvision does not.
    assert np.abs(preprocess(picture).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("size", [(340, 256), (640, 360)])
def test_equals_pillow_exactly(size: tuple[int, int]) -> None:
    picture = noise(*size)
    resized = Image.fromarray(picture).resize(Geometry(*size).resized, Image.Resampling.BILINEAR)
    left, top = Geometry(*size).corner
    assert np.array_equal(preprocess(picture), np.asarray(resized)[top : top + 224, left : left + 224])


@pytest.mark.parametrize(
    ("size", "shape"),
    [((1280, 720), (360, 640)), ((720, 1281), (641, 360)), ((320, 240), (240, 320)), ((1, 1), (1, 1))],
)
def test_a_picture_that_is_kept_whole_is_never_made_larger(size: tuple[int, int], shape: tuple[int, int]) -> None:
    framing = Framing(360, whole=True)
    assert preprocess(noise(*size), framing).shape == framing.shape_of(*size) == (*shape, 3)


@pytest.mark.parametrize("size", [32, 112, 160, 224, 225])
def test_other_sizes(size: int) -> None:
    assert preprocess(noise(340, 256), Framing(size)).shape == (size, size, 3)


def test_a_very_long_picture_is_never_resized_whole() -> None:
    row = np.repeat(np.arange(60000, dtype=np.uint32) * 255 // 60000, 3).astype(np.uint8).reshape(1, 60000, 3)
    square = preprocess(row)
    assert square.shape == (224, 224, 3)
    assert abs(int(square.mean()) - 127) <= 1


def test_pictures_are_checked() -> None:
    with pytest.raises(ValueError, match="H×W×3 uint8"):
        preprocess(np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="at least 1"):
        Geometry(0, 5)


@pytest.mark.parametrize("size", SIZES)
def test_the_whole_frame_is_the_middle_of_the_source(size: tuple[int, int]) -> None:
    width, height = size
    left, top, right, bottom = Geometry(width, height).to_source((0.0, 0.0, 224.0, 224.0))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    # The crop is centred to half a pixel of the resized picture, whose sides are whole numbers.
    unit = min(width, height) / 256
    assert (left + right) / 2 == pytest.approx(width / 2, abs=unit)
    assert (top + bottom) / 2 == pytest.approx(height / 2, abs=unit)
    assert right - left == pytest.approx(224 * unit, rel=0.02)


def test_boxes_go_back_to_where_they_were_seen() -> None:
    picture = np.zeros((360, 640, 3), np.uint8)
    picture[100:140, 300:360] = 255
    rows, columns = np.nonzero(preprocess(picture)[:, :, 0] > 127)
    box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
    assert Geometry(640, 360).to_source(box) == pytest.approx((300, 100, 360, 140), abs=1.5)


def test_boxes_are_clipped_to_the_picture() -> None:
    assert Geometry(256, 256).to_source((-50.0, -50.0, 400.0, 400.0)) == (0.0, 0.0, 256.0, 256.0)


def test_squeezed_shows_all_of_a_picture() -> None:
    picture = np.zeros((90, 160, 3), np.uint8)
    picture[:, :80], picture[60:] = 200, 100
    square = preprocess(picture, Framing(48, squeezed=True))
    assert square.shape == (48, 48, 3)
    assert (square[4, 4, 0], square[4, 44, 0], square[44, 4, 0]) == (200, 0, 100)
