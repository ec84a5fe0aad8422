"""Names from outside, made safe to show."""

from __future__ import annotations

import pytest

from adafocus_cli.errors import printable
from adafocus_cli.output.texts import cell


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("clip.mp4", "clip.mp4"),
        ("東京 🎉 é.mp4", "東京 🎉 é.mp4"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\x9b2Jb", r"a\x9b2Jb"),
        ("a\nb\r\tc\x00", r"a\nb\r\tc\x00"),
        ("\u202egpm.exe", r"\u202egpm.exe"),
        ("a\u2028b", r"a\u2028b"),
        ("\udcff.mp4", r"\udcff.mp4"),
        ("می\u200cخواهم", "می\u200cخواهم"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("=1+1", "'=1+1"),
        ("+a", "'+a"),
        ("-x.mp4", "'-x.mp4"),
        ("@b", "'@b"),
        ("\t=1", "'\t=1"),
        ("a=1", "a=1"),
        ("a\nb", "a\nb"),
        ("a\x1b[2J", r"a\x1b[2J"),
    ],
)
def test_cells(text: str, shown: str) -> None:
    assert cell(text) == shown
