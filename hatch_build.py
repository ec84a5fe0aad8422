"""What a package index shows of README.md: its links are relative in the repository, and absolute there.

The address is `Repository` in [project.urls]; as long as none is there, links into the repository become plain text,
and pictures are left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\n)*)\]\((?!https?://|mailto:|#)([^)\s]+)\)")


class ReadmeHook(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text("utf-8")
        address = metadata.get("urls", {}).get("Repository")
        metadata["readme"] = {"content-type": "text/markdown", "text": with_absolute_links(text, address)}


def with_absolute_links(text: str, address: str | None) -> str:
    def replaced(link: re.Match[str]) -> str:
        picture, words, target = link.groups()
        if address is None:
            return "" if picture else words
        return f"{picture}[{words}]({address.rstrip('/')}/{'raw' if picture else 'blob'}/HEAD/{target})"

    return _LINK.sub(replaced, text)
