"""Names the place of a fault in a JSON document in full.

In: the document, and the place as the decoder tells it, where `[...]` stands for some key of an object. Out: the same
with the keys: `$.fileContents["a.py"]`.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]|(\[\.\.\.\])")
_MAX_KEY = 200
# Every step reads what is left of the document: 900 levels above most of it are not all named.
_MOST_READINGS = 4

_encode = msgspec.json.Encoder().encode


def named(document: memoryview, place: str) -> str:
    """The place with every key that can be told; what is broken beyond that stays as it is."""
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
    """The first member of an object that is not what it should be."""
    for key, member in msgspec.json.decode(value, type=dict[str, msgspec.Raw]).items():
        try:
            msgspec.json.decode(member, type=expected)
        except msgspec.DecodeError:
            return key, member
    raise LookupError("no member is at fault")
