"""Results as JSON: one array, or one object a line.

Knows nothing of what is in a record (schema.py).
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from adafocus_cli.output.base import Writer
from adafocus_cli.schema import Result

# Inside JSON these may stand as they are, but terminals obey them and line readers break at them.
_BIDI = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_ESCAPED = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029, *_BIDI)}
_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which strict readers refuse
_ARRAY_END = "\n]\n"


def dumps(record: Any, *, indent: int | None = None) -> str:
    """JSON that any reader takes: no NaN or infinity (they become null), no raw control characters, no half ones."""
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False, indent=indent)
    except ValueError:
        text = json.dumps(_finite(record), ensure_ascii=False, allow_nan=False, indent=indent)
    return _SURROGATE.sub(_spelled_out, text.translate(_ESCAPED))


def _spelled_out(surrogate: re.Match[str]) -> str:
    return f"\\\\u{ord(surrogate[0]):04x}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class JsonLinesWriter(Writer):
    """One object a line."""

    def write(self, result: Result) -> None:
        self.sink.write(dumps(result.to_dict(logits=self.view.logits)) + "\n")


class JsonWriter(Writer):
    """One array. A file is a valid array after every video; a pipe, from the moment the writer is closed."""

    _before = "[\n"

    def write(self, result: Result) -> None:
        self.sink.write(f"{self._before}{dumps(result.to_dict(logits=self.view.logits))}", ending=_ARRAY_END)
        self._before = ",\n"

    def close(self) -> None:
        if self._before == "[\n":
            self.sink.write("[]\n")
        elif not self.sink.can_rewind:
            self.sink.write(_ARRAY_END)
