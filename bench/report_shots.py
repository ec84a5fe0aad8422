"""The pictures of docs/report.md: the page of the examples, tagged by `objects`, in a headless Chromium.

python bench/report_shots.py
"""

from __future__ import annotations

import os
import shutil
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from adafocus_cli.cli.app import run

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MOST_BYTES = 300_000
WIDE, FLAT, PHONE = {"width": 1280, "height": 1000}, {"width": 1120, "height": 720}, {"width": 390, "height": 760}
_DRAWN = """[...document.images].every((image) =>
  image.getBoundingClientRect().top > innerHeight || (image.complete && image.naturalWidth))"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        results, page = Path(name) / "tags.jsonl", Path(name) / "tags.html"
        os.chdir(ROOT)
        examples = sorted(map(str, Path("examples").glob("*.mp4")))
        assert run(["classify", *examples, "-o", str(results), "-q"]) == 0
        assert run(["report", str(results), "-o", str(page), "--title", "Six examples", "-q"]) == 0
        with sync_playwright() as playwright:
            path = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])

            def opened(**options: Any) -> Page:
                tab = browser.new_context(**options).new_page()
                tab.goto(page.as_uri())
                while not tab.evaluate(_DRAWN):
                    tab.wait_for_timeout(20)
                return tab

            save(opened(viewport=WIDE, color_scheme="light"), "report-light.png")
            dark = opened(viewport=FLAT, color_scheme="dark")
            for key in ("j", "Enter"):
                dark.keyboard.press(key)
            while not dark.evaluate("document.querySelector('video').readyState >= 2"):
                dark.wait_for_timeout(20)
            for _ in range(3):
                dark.keyboard.press("ArrowRight")
            dark.wait_for_timeout(500)
            save(dark, "report-dark.png")
            phone = opened(viewport=PHONE, color_scheme="light", device_scale_factor=1.25, has_touch=True)
            phone.evaluate("document.querySelector('.bar').scrollIntoView()")
            phone.wait_for_timeout(500)
            save(phone, "report-phone.png")
            browser.close()


def save(tab: Page, name: str) -> None:
    """With 256 colours where that is needed to be small."""
    picture = Image.open(BytesIO(tab.screenshot())).convert("RGB")
    picture.save(DOCS / name, optimize=True)
    if (DOCS / name).stat().st_size > MOST_BYTES:
        picture.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(DOCS / name, optimize=True)
    print(f"{name}: {(DOCS / name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
