"""One page as HTML: its data as JSON, which the page's script turns into text and shapes.

Nothing of a record becomes markup: JSON has its `<` escaped, the script only makes text nodes, and the page's policy
lets no other script run and no address but the page's own folder be asked.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

_PARTS = Path(__file__).parent / "page"
_SCRIPTS = ("elements.js", "shapes.js", "summary.js", "cards.js", "player.js", "main.js")


def page(title: str, data: dict[str, Any], details: Iterable[str]) -> Iterator[str]:
    """The page piece by piece; `details` are the videos' blocks, as `json_block` makes them, behind everything else."""
    script, style = _script(), _part("page.css")
    before, after = _part("page.html").split("$details")
    yield Template(before).substitute(
        policy=_policy(script, style),
        title=html.escape(title),
        style=style,
        data=json_block("page", data),
        script=script,
    )
    yield from details
    yield after


def is_page(path: Path) -> bool:
    """Whether a file begins as our pages do."""
    with path.open("rb") as file:
        return file.read(len(_part("page.html"))).startswith(_part("page.html").partition("$policy")[0].encode())


def json_block(name: str, data: Any) -> str:
    """An element that holds data; `name` is ours."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def _policy(script: str, style: str) -> str:
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; media-src 'self' file:; "
        f"script-src {_source(script)}; style-src {_source(style)}"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _script() -> str:
    return "(() => {\n'use strict';\n" + "\n".join(map(_part, _SCRIPTS)) + "})();\n"


@cache
def _part(name: str) -> str:
    return (_PARTS / name).read_text("utf-8")
