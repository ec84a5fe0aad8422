"""Names in any script: drawn with a font that has their letters, else readable in plain ones."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import ImageFont

from adafocus_cli import drawing
from adafocus_cli.drawing import drawable, font_for


@pytest.fixture(autouse=True)
def no_cache():
    drawing._font_file.cache_clear()
    yield
    drawing._font_file.cache_clear()


def test_pillows_own_font_is_taken_where_it_has_all_letters(monkeypatch):
    monkeypatch.setattr(drawing, "_candidates", lambda letters: pytest.fail("asked the system"))
    assert drawable("creme brulee…", 7, longest=30) == "creme brulee…"
    assert drawable("a label of many letters", 7, longest=10) == "a label o…"


def test_letters_that_pillows_own_font_lacks_are_not_drawn_with_it(monkeypatch):
    monkeypatch.setattr(drawing, "_candidates", lambda letters: iter(()))
    assert drawable("crème brûlée", 7, longest=30) == "creme brulee"


def test_without_a_font_for_it_a_name_is_written_in_plain_letters_or_by_its_number(monkeypatch):
    monkeypatch.setattr(drawing, "_candidates", lambda letters: iter(("no such font.ttf",)))
    assert drawable("ševčík", 7, longest=30) == "sevcik"
    assert drawable("東京", 7, longest=30) == "class 7"
    assert drawable("a\nb", 7, longest=30) == "class 7"


def test_a_font_of_the_system_that_lacks_letters_is_passed_over(monkeypatch, tmp_path):
    """Pillow's own stands in for one."""
    file = tmp_path / "latin.ttf"
    file.write_bytes(ImageFont.load_default(16).font_bytes)
    monkeypatch.setattr(drawing, "_candidates", lambda letters: iter((str(file),)))
    assert drawable("東京", 7, longest=30) == "class 7"


@pytest.mark.skipif(not shutil.which("fc-list"), reason="needs fontconfig")
def test_what_the_system_has_a_font_for_is_drawn_with_it():
    letters = "Москва"
    if drawable(letters, 7, longest=30) != letters:
        pytest.skip("no font here has Cyrillic letters")
    shapes = {bytes(font_for(letters, 20).getmask(letter)) for letter in letters[:5]}
    assert len(shapes) == 5, "no two are the same empty box"
    assert np.count_nonzero(list(font_for(letters, 20).getmask(letters)))
