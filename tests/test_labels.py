"""Label lists: plain and numbered files, packaged lists, and what is wrong with bad ones."""

from __future__ import annotations

import pytest

from adafocus_cli import labels
from adafocus_cli.errors import AdaFocusError

COUNTS = {
    "activitynet": 200, "fcvid": 239, "imagenet": 1000, "jester": 27, "kinetics400": 400, "minikinetics": 200,
    "sthv1": 174, "sthv2": 174,
}  # fmt: skip


def test_packaged_lists_are_complete_and_in_their_data_sets_order():
    assert {name: len(labels.packaged(name)) for name in labels.packaged_names()} == COUNTS
    assert labels.packaged("activitynet")[4] == "BMX"
    assert labels.packaged("jester")[0] == "Doing other things"


@pytest.mark.parametrize(
    "text",
    [
        "cat\ndog\nsnow, ice\n",
        "0,cat\n1,dog\n2,snow, ice\n",
        "2, snow, ice\r\n0,cat\r\n1,dog\r\n",
        "\ufeffcat\ndog\nsnow, ice\n\n\n",
    ],
)
def test_files_are_plain_or_numbered(tmp_path, text):
    path = tmp_path / "names.txt"
    path.write_bytes(text.encode())
    assert labels.read(path).names == ("cat", "dog", "snow, ice")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"a\n\nb\n", "line 2: a class has no name"),
        (b"0,a\n2,b\n", "has no name for class 1"),
        (b"0,a\n0,b\n", "names class 0 twice"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (None, "No such file"),
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path, content, complaint):
    path = tmp_path / "names.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AdaFocusError, match=complaint):
        labels.read(path)
