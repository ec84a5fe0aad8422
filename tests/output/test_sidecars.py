"""Files beside the results: what players and libraries read in them, whatever the labels are called."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import av
import pytest

from adafocus_cli.errors import AdaFocusError, UsageError, printable
from adafocus_cli.labels import LabelSet
from adafocus_cli.output.sidecars import (
    CueStyle,
    Sidecars,
    TagMap,
    TagMapEntry,
    beside,
    chapters,
    nfo,
    read_tag_map,
    srt,
    vtt,
    xmp,
)
from adafocus_cli.schema import Segment
from tests.clips import numbered_clip
from tests.output.made_up import LABELS, failed, in_windows, tagged

NASTY = "a --> b <script>&amp;</script>\n\n2\n00:00 {\\an8} =;#\\ \x00\x1b[31m \u202e ]]>"
PLAIN = TagMap()
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"


def record(*labels):
    segments = tuple(Segment(2.5 * i, 2.5 * i + 2.5, label, i, 0.9) for i, label in enumerate(labels))
    return (in_windows(segments=segments) if labels else in_windows()).to_dict()


def items(text, name):
    """What is in the list of that name."""
    root = ET.fromstring(text.split("?>", 1)[1].rsplit("<?", 1)[0])
    return [item.text for parent in root.iter() if parent.tag.endswith(f"}}{name}") for item in parent.iter(f"{RDF}li")]


def test_subtitles_say_which_label_holds_when():
    assert vtt(record(), PLAIN) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:03.750\nArm wrestling\n\n00:00:06.250 --> 00:00:10.000\nSumo\n"
    )
    assert srt(record(), PLAIN) == (
        "1\n00:00:00,000 --> 00:00:03,750\nArm wrestling\n\n2\n00:00:06,250 --> 00:00:10,000\nSumo\n"
    )


def test_guesses_are_left_out_of_subtitles_and_chapters():
    segments = (Segment(0.0, 2.0, "Sumo", 0, 0.29), Segment(2.0, 4.0, "Archery", 1, 0.31))
    unsure = in_windows(segments=segments).to_dict()
    for write in (vtt, srt, chapters):
        assert "Sumo" not in write(unsure, PLAIN)
        assert "Archery" in write(unsure, PLAIN)
        assert "Archery" not in write(unsure, PLAIN, CueStyle(min_score=0.5))


def test_subtitles_show_scores_if_wanted():
    assert "\nArm wrestling 90 %\n" in vtt(record("Arm wrestling"), PLAIN, CueStyle(scores=True))
    assert "%" not in vtt(record("Arm wrestling"), PLAIN)


def test_a_single_frame_has_a_cue_that_ends_after_it_begins():
    segment = Segment(0.0, 0.0, "Sumo", 0, 0.9)
    assert "00:00:00.000 --> 00:00:00.001\nSumo" in vtt(in_windows(segments=(segment,)).to_dict(), PLAIN)


def test_no_label_makes_a_cue_of_its_own_or_is_obeyed():
    web, player = vtt(record("x", NASTY, "y"), PLAIN), srt(record("x", NASTY, "y"), PLAIN)
    for text in (web, player):
        assert text.count("\n\n") == 2 + text.startswith("WEBVTT")
        assert [line.count(" --> ") for line in text.splitlines() if " --> 00:" in line] == [1, 1, 1]
        assert not set("<\x00\x1b\u202e") & set(text)
    assert text.count(" --> ") == 3
    assert "&lt;script&gt;&amp;amp;" in web
    assert "{" not in player


def test_ffmpeg_reads_the_chapters(tmp_path):
    clip = numbered_clip(tmp_path / "clip.mp4", frames=250)
    (tmp_path / "clip.chapters.txt").write_text(chapters(record("x", NASTY), PLAIN))
    with av.open(str(tmp_path / "clip.chapters.txt"), format="ffmetadata") as file:
        found = file.chapters()
    assert [(each["start"], each["end"], each["time_base"].denominator) for each in found] == [
        (0, 2500, 1000),
        (2500, 5000, 1000),
    ]
    assert found[1]["metadata"]["title"] == printable(NASTY)
    command = ["ffmpeg", "-v", "error", "-i", clip, "-i", tmp_path / "clip.chapters.txt", "-map_metadata", "1"]
    try:
        subprocess.run([*command, "-codec", "copy", tmp_path / "out.mp4"], check=True, timeout=60)
    except FileNotFoundError:
        return  # the program is not here; its library read them
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert len(file.chapters()) == 2


def test_xmp_has_tags_their_categories_and_markers():
    own = TagMap({"Sumo": TagMapEntry(("sumō", "ring"), ("Sport", "Fight"))})
    text = xmp(record(), own)
    assert items(text, "subject") == ["Arm wrestling", "sumō", "ring", "Sport", "Fight"]
    assert items(text, "hierarchicalSubject") == ["Sport|Fight|sumō", "Sport|Fight|ring"]
    root = ET.fromstring(text.split("?>", 1)[1].rsplit("<?", 1)[0])
    times = [(each.tag.rpartition("}")[2], each.text) for each in root.iter() if "DynamicMedia" in each.tag]
    assert ("frameRate", "f1000") in times
    assert [value for name, value in times if name == "startTime"] == ["0", "6250"]
    assert [value for name, value in times if name == "duration"] == ["3750", "3750"]


def test_xmp_is_xml_whatever_a_label_is_called_and_without_windows_has_the_best_label():
    assert items(xmp(record(NASTY, "\ud800\ufffe"), PLAIN), "subject")[0].startswith("a --> b <script>&amp;")
    assert items(xmp(tagged().to_dict(), PLAIN), "subject") == [LABELS[0].label]


@pytest.mark.parametrize(
    ("video", "path"),
    [
        ("clip.mp4", "side/clip.mp4.vtt"),
        ("a/b/clip.mov", "side/a/b/clip.mov.vtt"),
        ("/films/clip.mp4", "side/films/clip.mp4.vtt"),
        ("../../clip.mp4", "side/_/_/clip.mp4.vtt"),
        ("s3://bucket/clip.mp4", "side/s3/bucket/clip.mp4.vtt"),
    ],
)
def test_each_video_has_files_of_its_own_below_the_folder(video, path):
    assert beside(Path("side"), video, ".vtt") == Path(path)


@pytest.mark.parametrize("video", ["clip.mp4", "a/b/clip.mov", "/films/clip.mp4", "../../clip.mp4"])
def test_a_dot_for_a_folder_is_beside_each_video(video):
    assert beside(Path(), video, ".vtt") == Path(f"{video}.vtt")


def test_a_video_on_other_storage_has_its_files_below_the_working_folder():
    assert beside(Path(), "s3://bucket/clip.mp4", ".vtt") == Path("s3/bucket/clip.mp4.vtt")


def test_nothing_is_written_for_failures_and_rows(tmp_path):
    files = Sidecars(tmp_path / "side", ("vtt", "xmp"), PLAIN)
    files.write(failed().to_dict())
    files.write({"path": "clip.mp4", "status": "ok"})
    assert not (tmp_path / "side").exists()
    files.write(replace(in_windows(), video=replace(in_windows().video, path="a\udcff.mp4")).to_dict())
    assert len(list((tmp_path / "side").iterdir())) == 2


def test_a_file_that_only_one_video_cannot_have_is_told_and_costs_no_other(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    files = Sidecars(Path(), ("xmp",), PLAIN)
    for name in ("a" * 251 + ".mp4", "b.mp4"):
        files.write(in_windows(name).to_dict())
    assert [path.name for path in tmp_path.iterdir()] == ["b.mp4.xmp"]
    assert "File name too long; its video is tagged without it" in caplog.text
    Path("taken").touch()
    with pytest.raises(AdaFocusError, match="give another folder with --sidecars"):
        Sidecars(Path("taken"), ("xmp",), PLAIN).write(in_windows("b.mp4").to_dict())


NAMES = LabelSet(tuple(tag.label for tag in LABELS), "a list")
YAML = "Sumo: [sumō, ring]\nArm wrestling: {tags: arms, parents: [Sport, Fight]}\nPlaying the accordion:\n"
CSV = "label,tags,parents\nSumo,sumō|ring,\nArm wrestling,arms,Sport|Fight\nPlaying the accordion,,\n"


@pytest.mark.parametrize(("name", "text"), [("map.yaml", YAML), ("map.csv", CSV)])
def test_a_map_renames_drops_and_leaves_the_rest_as_it_is(name, text, tmp_path):
    (tmp_path / name).write_text(text, "utf-8")
    own = read_tag_map(tmp_path / name)
    own = own.fitted(NAMES)
    assert own.of("Sumo") == ("sumō", "ring")
    assert own.all_of("Arm wrestling") == ("arms", "Sport", "Fight")
    assert (own.of("Playing the accordion"), own.all_of("Playing the accordion")) == ((), ())
    assert own.of("something else") == ("something else",)


def test_what_a_map_says_of_a_parent_holds_for_the_labels_below_it():
    labels = LabelSet(("beagle", "pug", "tench"), "a list", ("dog", "dog", None))
    own = TagMap({"dog": TagMapEntry(("Hund",), ("Tier",)), "pug": TagMapEntry(("Mops",))}).fitted(labels)
    assert own.all_of("beagle") == ("Hund", "Tier")
    assert own.paths_of("beagle") == ("Tier|Hund",)
    assert own.of("pug") == ("Mops",)
    assert own.of("tench") == ("tench",)


def test_a_map_of_a_parent_names_the_segments_below_it(tmp_path):
    labels = LabelSet((LABELS[0].label,), "a list", ("sport",))
    files = Sidecars(tmp_path, ("vtt",), TagMap({"sport": TagMapEntry(("Sport!",))}))
    files.fit(labels)
    files.write(in_windows().to_dict())
    (written,) = tmp_path.rglob("*.vtt")
    assert "Sport!" in written.read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("map.yaml", "Sumu: x", "maps 'Sumu', which is not a label of the model; the nearest is 'Sumo'"),
        ("map.yaml", "[1, 2]", "maps nothing; lines are label: tag"),
        ("map.yaml", "a: {b: c}", "'a' has more than tags and parents, or no tags"),
        ("map.yaml", "a: [[b]]", "'a' is mapped to something that is not a name"),
        ("map.yaml", "{", "is not YAML"),
        ("map.csv", "name,x\n", "needs a first line with the columns label,tags"),
        ("none.yaml", None, "cannot read tag map"),
    ],
)
def test_a_map_that_cannot_be_used_says_why_in_one_line(name, text, said, tmp_path):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UsageError) as error:
        read_tag_map(tmp_path / name).fitted(NAMES)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_nfo_has_what_media_centres_show():
    root = ET.fromstring(nfo(record("Sumo", NASTY), TagMap({"Sumo": TagMapEntry(("sumō",), ("Sport",))})).encode())
    found = [(each.tag, each.text) for each in root]
    assert found[0] == ("title", "clip")
    assert found[1][1].startswith("0:00 sumō\n0:02 a --> b <script>")
    assert found[2:] == [("tag", "sumō"), ("tag", printable(NASTY)), ("genre", "Sport")]


def test_nfo_has_the_name_of_its_video_and_files_of_other_programs_stay(tmp_path, caplog):
    files = Sidecars(tmp_path, ("xmp", "nfo"), PLAIN)
    (tmp_path / "a.b.nfo").write_text("<movie><title>Mine</title></movie>")
    (tmp_path / "c.mp4.xmp").write_text("<x:xmpmeta x:xmptk='Lightroom'/>")
    for name in ("a.b.mp4", "c.mp4"):
        for _ in range(2):  # one's own file is replaced
            files.write(in_windows(name).to_dict())
    assert {path.name for path in tmp_path.iterdir()} == {"a.b.nfo", "a.b.mp4.xmp", "c.nfo", "c.mp4.xmp"}
    assert "Mine" in (tmp_path / "a.b.nfo").read_text()
    assert "Lightroom" in (tmp_path / "c.mp4.xmp").read_text()
    assert caplog.text.count("is of another program, and stays as it is") == 4


def test_tags_are_written_into_videos_that_can_have_them_and_the_rest_is_told_once(tmp_path, caplog):
    files = Sidecars(tmp_path, (), PLAIN, into_videos=True)
    video = numbered_clip(tmp_path / "a.mp4", frames=5)
    (tmp_path / "broken.mp4").write_text("no video")
    names = ("a.mp4", "b.mkv", "c.mkv", "broken.mp4", "gone.mp4")
    for path in (*(str(tmp_path / name) for name in names), "s3://bucket/a.mp4"):
        files.write(in_windows(path).to_dict())
    with av.open(str(video), options={"export_xmp": "1"}) as container:
        assert items(container.metadata["xmp"], "subject") == ["Arm wrestling", "Sumo"]
    assert [each.getMessage().split(": ")[-1] for each in caplog.records] == [
        "tags are not written into .mkv files, only into MP4 and MOV; --xmp writes them beside",
        "tags are written into whole MP4 and MOV files only; write them beside it with --xmp",
        "there is no such file; check the path",
        "tags are not written into videos on other storage, only into MP4 and MOV; --xmp writes them beside",
    ]
