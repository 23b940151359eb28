"""Decodes a part of a request, and names the place that is invalid.

msgspec reports a place with `[...]` instead of an object's key; `named` fills in the keys, as in
`$.fileContents["a.py"]`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from wherry.errors import Invalid, Malformed
from wherry.texts import SHOWN_CHARACTERS

_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]|(\[\.\.\.\])")
_UNNAMED = "[...]"
# Every step decodes the rest of the document again. With this limit, deeply nested places keep some `[...]`.
_MOST_READINGS = 4

_encode = msgspec.json.Encoder().encode

Data = bytes | memoryview
T = TypeVar("T")


def decoded(decode: Callable[[Data], T], data: Data, place: Callable[[str], str], members: Any = Any) -> T:
    """Decode a part of a request.

    Args:
        decode: the method of a msgspec decoder.
        place: turns a place in the part into a place in the request, both beginning with `$`.
        members: the type of an object's members in this part.

    Raises:
        Invalid: the data has the wrong shape; the message names the place.
        Malformed: it is not UTF-8, or nested too deeply.
        msgspec.DecodeError: it is not JSON.
    """
    try:
        return decode(data)
    except msgspec.ValidationError as error:
        message, _, local = str(error).partition(" - at `")
        found = place(named(data, local.rstrip("`").removeprefix("key in ") or "$", members))
        raise Invalid(f"{message} at {found}", field=found.removeprefix("$").removeprefix(".") or "body") from error
    except UnicodeDecodeError as error:
        raise Malformed(f"the body is not UTF-8: {error.reason}") from error
    except RecursionError as error:
        raise Malformed("the body is nested too deeply") from error


def named(document: Data, place: str, members: Any) -> str:
    """The place with keys instead of `[...]`, as far as they can be found."""
    found, value = "$", msgspec.Raw(document)
    read, most = 0, _MOST_READINGS * len(document)
    try:
        for step in _STEP.finditer(place):
            read += len(memoryview(value))
            if read > most or _UNNAMED not in place[step.start() :]:
                return found + place[step.start() :]
            member, index, _ = step.groups()
            if index is not None:
                value = msgspec.json.decode(value, type=list[msgspec.Raw])[int(index)]
                found += f"[{index}]"
            elif member is not None:
                value = msgspec.json.decode(value, type=dict[str, msgspec.Raw])[member]
                found += f".{member}"
            else:
                key, value = _faulty(value, members)
                found += f"[{_encode(key[:SHOWN_CHARACTERS]).decode()}]"
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
