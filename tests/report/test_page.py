"""The page in a real browser: what it shows, what searching does, where the box is, and that nothing in it runs or
asks for anything that it should not."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adafocus_cli.report import build as building
from adafocus_cli.report.build import BuiltPages, build
from adafocus_cli.schema import PatchBox, Tag
from tests.output.made_up import failed, tagged
from tests.report.conftest import FPS, SECONDS, SIZE

LOOK = (255, 196, 0)
# Time → box, for a film of 160×96; not in the order of looking.
BOXES = {2.05: (100.0, 40.0, 140.0, 80.0), 0.55: (10.0, 10.0, 50.0, 50.0), 3.55: (30.0, 50.0, 70.0, 90.0)}
EVIL = '<img src=x onerror="document.title=1"></script><script>window.evil = 1</script>'


@dataclass
class Opened:
    """A page as it stands in a browser, with what it asked for and complained about."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        return [str(name) for name in self.page.locator(".card h3").all_inner_texts()]

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)


def watched(path: str, boxes: Mapping[float, Any] = BOXES, **changes: Any) -> dict[str, Any]:
    """The record of a film of ours."""
    looks = tuple(PatchBox(step, int(seconds * FPS), seconds, box) for step, (seconds, box) in enumerate(boxes.items()))
    about = {
        "width": SIZE[0],
        "height": SIZE[1],
        "fps": float(FPS),
        "frames": FPS * SECONDS,
        "duration": float(SECONDS),
    }
    return tagged(path, trajectory=looks, **{**about, **changes}).to_dict()


def report(folder: Path, records: list[Any], **options: Any) -> BuiltPages:
    results = folder / "tags.jsonl"
    results.write_text("".join(json.dumps(record) + "\n" for record in records))
    usual = {"title": "Tags", "root": folder, "thumbnails": 4, "progress": lambda done, total: None}
    return build(results, folder / "tags.html", **{**usual, **options})


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    """Opens the report of records in the test's folder."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, color_scheme="light")

    def open_(records: list[Any], **options: Any) -> Opened:
        report(tmp_path, records, **options)
        opened = Opened(context.new_page())
        context.on("request", lambda request: opened.requests.append(request.url))
        opened.page.on("console", lambda message: opened.complaints.append(message.text))
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.page.goto((tmp_path / "tags.html").as_uri())
        return opened

    yield open_
    context.close()


def test_opens_in_peace_and_asks_for_nothing(show: Callable[..., Opened], film: Path, tmp_path: Path) -> None:
    shutil.copy(film, tmp_path / "a.webm")
    opened = show([watched("a.webm"), watched("gone.webm"), failed("broken.mp4").to_dict()])
    until(opened.page, "document.querySelectorAll('.card img').length")
    assert opened.names() == ["a.webm", "gone.webm", "broken.mp4"]
    assert opened.page.locator("#subtitle").inner_text() == "Tagged by made-up"
    assert opened.page.locator(".failed .why").inner_text() == "the file is cut off; download it again"
    assert opened.page.locator(".card").nth(1).locator(".plain .boxes rect").count() == len(BOXES)
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [(tmp_path / "tags.html").as_uri()]


def test_key_frames_show_the_film_and_where_it_was_looked(
    show: Callable[..., Opened], film: Path, tmp_path: Path
) -> None:
    shutil.copy(film, tmp_path / "a.webm")
    opened = show([watched("a.webm")])
    until(opened.page, "[...document.images].every((image) => image.complete && image.naturalWidth)")
    assert opened.page.locator(".strip img").count() == len(BOXES)
    first, last = (opened.page.locator(".strip .frame").nth(place) for place in (0, 2))
    for frame, seconds in ((first, 0.55), (last, 3.55)):
        pixels = pixels_of(frame)
        assert_box_at(pixels, BOXES[seconds], within=2.5)
        assert abs(int(pixels[2, 2, 0]) - (60 + 40 * int(seconds)) * 2 / 3) < 8  # what lies outside the box is darker


def test_the_box_is_where_the_record_says(show: Callable[..., Opened], film: Path, tmp_path: Path) -> None:
    shutil.copy(film, tmp_path / "a.webm")
    opened = show([watched("a.webm")])
    page = opened.page
    opened.press("j", "Enter")
    until(page, "document.querySelector('video')?.readyState >= 2")
    for seconds, box in sorted(BOXES.items()):
        opened.press("ArrowRight")
        wait_for_frame(page)
        assert page.evaluate("document.querySelector('video').currentTime") == pytest.approx(seconds, abs=0.01)
        pixels = pixels_of(page.locator(".stage .frame"))
        assert_box_at(pixels, box, within=1.5)
        assert abs(int(pixels[2, 2, 0]) - (60 + 40 * int(seconds)) * 2 / 3) < 8
    page.evaluate("document.querySelector('video').currentTime = 1.3")  # half of the way between two looks
    wait_for_frame(page)
    assert_box_at(pixels_of(page.locator(".stage .frame")), (55.0, 25.0, 95.0, 65.0), within=1.5)
    opened.press("Space")
    until(page, "!document.querySelector('video').paused")
    opened.press("Escape")
    assert not page.locator("#player").is_visible()
    assert {url for url in opened.requests if not url.startswith("data:")} == {
        (tmp_path / name).as_uri() for name in ("tags.html", "a.webm")
    }
    assert opened.complaints == []


def test_a_film_that_is_gone_has_its_places_still(show: Callable[..., Opened]) -> None:
    opened = show([watched("gone.webm")])
    opened.press("j", "Enter", "ArrowRight")
    wait_for_frame(opened.page)
    assert "not found" in opened.page.locator(".note").inner_text()
    assert_box_at(pixels_of(opened.page.locator(".stage .frame")), BOXES[0.55], within=1.5)


def test_searching_filtering_and_sorting_change_what_is_shown(show: Callable[..., Opened]) -> None:
    sumo = (Tag("Sumo", 4, 0.99),)
    segment = {"start": 1.0, "end": 2.0, "label": "Archery", "index": 7, "score": 0.8}
    opened = show(
        [
            watched("b/one.mp4"),
            watched("a/two.mp4", labels=sumo, cost=replace(tagged().cost, stages={"focus": 1.0})),
            {**watched("three.mp4", labels=()), "segments": [segment]},
            failed("four.mp4").to_dict(),
        ]
    )
    page, count = opened.page, opened.page.locator("#count")
    assert count.inner_text() == "4 videos"
    opened.press("/")
    page.keyboard.type("SUMO two")
    assert (opened.names(), count.inner_text()) == (["two.mp4"], "1 of 4 videos")
    page.keyboard.type(" nothing")
    assert page.locator("#nothing").is_visible()
    opened.press("Escape")
    assert len(opened.names()) == 4
    for chosen, names in (
        ("failed", ["four.mp4"]),
        ("tagged", ["one.mp4", "two.mp4", "three.mp4"]),
        ("label Archery", ["three.mp4"]),
        ("label no label", ["three.mp4"]),
    ):
        page.select_option("#filter", chosen)
        assert opened.names() == names
    opened.press("Escape")
    page.select_option("#sort", "By name")
    assert opened.names() == ["four.mp4", "one.mp4", "three.mp4", "two.mp4"]
    page.select_option("#sort", "Surest first")
    assert opened.names()[:2] == ["two.mp4", "one.mp4"]
    page.select_option("#sort", "Cheapest first")
    assert opened.names()[0] == "two.mp4"
    page.locator("#summary button.row", has_text="Arm wrestling").click()
    assert opened.names() == ["one.mp4"]


def test_cards_of_equal_names_have_the_part_of_the_folder_that_tells_them_apart(show: Callable[..., Opened]) -> None:
    paths = ["a/x/one.mp4", "b/x/one.mp4", "b/y/one.mp4", "b/y/two.mp4"]
    cards = show([watched(path) for path in paths]).page.locator(".card")
    assert cards.locator(".folder").all_inner_texts() == ["a/x", "b/x", "y"]
    assert cards.nth(3).locator(".folder").count() == 0


@pytest.mark.parametrize("width", [390, 1280, 2560])
def test_no_label_is_cut(show: Callable[..., Opened], width: int) -> None:
    long = "Carving the very large and rather old jack-o'-lantern of a neighbour"
    page = show([watched("a.mp4", labels=(Tag(long, 2, 0.9),)), watched("b.mp4"), watched("c.mp4")]).page
    page.set_viewport_size({"width": width, "height": 900})
    names = "[...document.querySelectorAll('.card .answer .name, #summary .name')]"
    assert (
        page.evaluate(
            f"{names}.filter((name) => name.scrollWidth > name.clientWidth || "
            "getComputedStyle(name).whiteSpace === 'nowrap').length"
        )
        == 0
    )
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_what_was_found_counts_every_label_of_a_film_but_guesses(show: Callable[..., Opened]) -> None:
    cat, tripod, guess = Tag("cat", 0, 0.9), Tag("tripod", 1, 0.4), Tag("tench", 2, 0.1)
    page = show([watched("a.mp4", labels=(cat, tripod, guess)), watched("b.mp4", labels=(tripod,))]).page
    assert page.locator("#summary .wide .row").all_inner_texts() == ["tripod\n2", "cat\n1"]
    assert page.locator(".card").nth(0).locator(".answer .name").all_inner_texts() == ["cat", "tripod"]
    page.locator("#summary button.row", has_text="tripod").click()
    assert page.locator(".card").count() == 2


def test_the_view_stands_in_the_address(show: Callable[..., Opened]) -> None:
    opened = show([watched("one.mp4"), watched("two.mp4"), failed("three.mp4").to_dict()])
    page = opened.page
    assert "#" not in page.url
    opened.press("/")
    page.keyboard.type("one")
    page.select_option("#filter", "tagged")
    page.select_option("#sort", "By name")
    address = page.url
    opened.press("Escape")
    page.goto("about:blank")
    page.goto(address)
    assert opened.names() == ["one.mp4"]
    assert [page.input_value(name) for name in ("#search", "#filter", "#sort")] == ["one", "tagged", "By name"]
    page.evaluate("location.hash = 'filter=failed'")
    until(page, "document.querySelectorAll('.card').length === 1 && document.querySelector('.card.failed')")


def test_many_looks_are_spots_and_few_are_joined(show: Callable[..., Opened]) -> None:
    many = {0.03 * look: (look % 100, look % 50, look % 100 + 40, look % 50 + 40) for look in range(120)}
    cards = show([watched("many.mp4", many), watched("few.mp4")]).page.locator(".card")
    assert cards.nth(0).locator(".tile polyline").count() == 0
    assert 3 < cards.nth(0).locator(".tile circle").count() < 60
    assert cards.nth(1).locator(".tile polyline").count() == 2


def test_what_has_one_value_is_not_drawn_as_a_chart(show: Callable[..., Opened]) -> None:
    summary = show([watched("one.mp4")]).page.locator("#summary")
    assert summary.locator(".column, .meter").count() == 0
    assert summary.locator(".panel h2").all_inner_texts() == ["What was found"]
    exit_ = replace(tagged().exit, step=3)
    cheap = replace(tagged().cost, stages={"focus": 1.0})
    summary = show([watched("one.mp4"), watched("two.mp4", cost=cheap, exit=exit_)]).page.locator("#summary")
    assert summary.locator(".columns").count() == 2


def test_where_nothing_was_tagged_there_is_no_cost(show: Callable[..., Opened]) -> None:
    page = show([failed("one.mp4").to_dict()]).page
    assert page.locator(".tile").inner_text() == "✗\ncould not be opened"
    assert page.locator(".figures").inner_text() == "0\nof 1 video tagged"


def test_names_labels_and_json_are_inert(show: Callable[..., Opened], film: Path, tmp_path: Path) -> None:
    name = EVIL.replace("/", "-") + ".webm"
    shutil.copy(film, tmp_path / name)
    tags = (Tag(EVIL, 0, 0.9), Tag("</script><!--<script>", 1, 0.1))
    evil = watched(name, labels=tags, codec=EVIL)
    evil["model"]["name"] = evil["cost"]["stages"][EVIL] = EVIL
    evil["cost"]["stages"][EVIL] = 1.0
    evil["segments"] = [{"start": 0, "end": 2, "label": EVIL, "index": 0, "score": 1}]
    opened = show(
        [evil, failed(f"javascript:{EVIL}", EVIL).to_dict(), failed("\udcff\u202e.mp4").to_dict()], title=EVIL
    )
    page = opened.page
    assert opened.names()[0] == name
    assert page.locator("h1").inner_text() == EVIL
    opened.press("j", "Enter")
    until(page, "document.querySelector('video')?.readyState >= 2")
    assert page.locator("aside .when .name").inner_text() == EVIL
    assert page.evaluate("window.evil") is None
    assert page.title() == EVIL
    assert page.locator("img[src='x']").count() == 0
    assert opened.names()[2] == r"\udcff\u202e.mp4"
    assert opened.complaints == []


def test_the_policy_stops_scripts_and_requests_that_get_in(show: Callable[..., Opened]) -> None:
    opened = show([watched("gone.webm")])
    page = opened.page
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.evil = 1'}))")
    assert page.evaluate("window.evil") is None
    assert page.evaluate("fetch('https://example.org/').then(() => 'sent', () => 'refused')") == "refused"


def test_more_videos_than_fit_are_paged(
    show: Callable[..., Opened], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "ON_A_PAGE", 2)
    opened = show([watched(f"{number}.mp4") for number in range(5)])
    assert opened.names() == ["0.mp4", "1.mp4"]
    assert "Videos 1 to 2 of 5" in opened.page.locator("#pages").inner_text()
    for names in (["2.mp4", "3.mp4"], ["4.mp4"]):
        opened.page.get_by_role("link", name="Next").click()
        opened.page.wait_for_load_state()
        assert opened.names() == names
    assert opened.page.get_by_role("link", name="Next").count() == 0
    assert "of 5 videos tagged" in opened.page.locator("#summary").inner_text()
    assert sorted(path.name for path in tmp_path.glob("*.html")) == [
        "tags-page-2.html",
        "tags-page-3.html",
        "tags.html",
    ]


def test_cards_are_built_as_they_are_scrolled_to(show: Callable[..., Opened]) -> None:
    opened = show([watched(f"{number}.mp4") for number in range(300)])
    page = opened.page
    page.wait_for_timeout(200)
    assert len(opened.names()) < 200
    until(page, "scrollTo(0, document.body.scrollHeight), document.querySelectorAll('.card').length === 300")


def until(page: Any, condition: str) -> None:
    """What Playwright has for this evaluates text, which the page's policy refuses."""
    end = time.monotonic() + 20
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(20)


def wait_for_frame(page: Any) -> None:
    """Until what was sought is shown, and the box has followed."""
    until(page, "!document.querySelector('video')?.seeking")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def pixels_of(locator: Any) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(locator.screenshot())).convert("RGB"))


def assert_box_at(pixels: np.ndarray, box: tuple[float, float, float, float], *, within: float) -> None:
    """The outermost pixels of the box's colour are its edges, to so many pixels."""
    rows, columns = np.nonzero((np.abs(pixels.astype(int) - LOOK) < 40).all(axis=2))
    across, down = pixels.shape[1] / SIZE[0], pixels.shape[0] / SIZE[1]
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    wanted = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    assert found == pytest.approx(wanted, abs=within)
