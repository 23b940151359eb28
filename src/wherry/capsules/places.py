"""Completes the path of a fault in a JSON document.

msgspec reports the path with `[...]` in place of an object's key; `named` fills in the keys, as in
`$.fileContents["a.py"]`.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]|(\[\.\.\.\])")
_MAX_KEY = 200
# Every step reads the rest of the document, so of 900 levels around a large value, not all are named.
_MOST_READINGS = 4

_encode = msgspec.json.Encoder().encode


def named(document: memoryview, place: str) -> str:
    """The path with every key that can be found; the rest stays unchanged."""
    found, value, is_text = "$", msgspec.Raw(document), ".fileContents" in place
    read, most = 0, _MOST_READINGS * len(document)
    try:
        for step in _STEP.finditer(place):
            read += len(memoryview(value))
            if read > most:
                return found + place[step.start() :]
            member, index, _ = step.groups()
            if index is not None:
                value = msgspec.json.decode(value, type=list[msgspec.Raw])[int(index)]
                found += f"[{index}]"
            elif member is not None:
                value = msgspec.json.decode(value, type=dict[str, msgspec.Raw])[member]
                found += f".{member}"
            else:
                key, value = _faulty(value, str | None if is_text else Any)
                found += f"[{_encode(key[:_MAX_KEY]).decode()}]"
    except (msgspec.DecodeError, LookupError, UnicodeError):
        return place
    return found


def _faulty(value: msgspec.Raw, expected: Any) -> tuple[str, msgspec.Raw]:
    """The first member of an object that does not have the expected type."""
    for key, member in msgspec.json.decode(value, type=dict[str, msgspec.Raw]).items():
        try:
            msgspec.json.decode(member, type=expected)
        except msgspec.DecodeError:
            return key, member
    raise LookupError("no member is at fault")
