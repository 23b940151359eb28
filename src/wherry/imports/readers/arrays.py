"""Splits JSON arrays into their elements, without building any of them.

An element longer than `max_bytes` ends the import; the splitter does not even look for its end.

     "["        value           ","
START ──▶ FIRST ──▶ AFTER ──────────▶ NEXT
            │"]"      │ ▲                │ value
            ▼     "]" ▼ └────────────────┘
           END ◀──────┘

Most of a chunk is split in one go: the text from the beginning of an element to a later comma, put in brackets, is a
valid array if and only if the comma separates two elements. The rest (the ends of chunks, invalid JSON) is scanned
token by token to the end of the value, which the decoder then checks. No byte is read more than a fixed number of
times, whatever the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum

import msgspec

from wherry.errors import BrokenJson
from wherry.imports.models import Place, RawRecord
from wherry.imports.readers.json_value import OpenRecord, end_of, require_size

_SPACE = re.compile(rb"[ \t\r\n]*+")
_SEPARATOR = re.compile(rb"[ \t\r\n]*+,[ \t\r\n]*+")
_BRACE_AND_COMMA = re.compile(rb"\}[ \t\r\n]*+,")
_BRACES_TRIED = 8

_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


class ArrayState(Enum):
    """What may follow."""

    START = "an opening bracket"
    FIRST = "a value or a closing bracket"
    NEXT = "a value"
    AFTER = "a comma or a closing bracket"
    END = "nothing after the array"


_STEPS = {
    (ArrayState.START, b"["): ArrayState.FIRST,
    (ArrayState.FIRST, b"]"): ArrayState.END,
    (ArrayState.AFTER, b","): ArrayState.NEXT,
    (ArrayState.AFTER, b"]"): ArrayState.END,
}


class ArrayElements:
    """Splits an array that is part of a text. It stops at the first token that the array cannot contain.

    Args:
        place: where the first chunk begins.
        max_bytes: per element.
        state: what the first chunk may begin with.

    Attributes:
        index: of the next element.
        rest: the part of the last chunk that begins with a token that was not expected.
    """

    def __init__(self, place: Place, max_bytes: int, state: ArrayState) -> None:
        self.index = place.index
        self.rest = b""
        self._offset = place.offset  # of the current chunk, or of the rest
        self._max_bytes = max_bytes
        self._state = state
        self._value: OpenRecord | None = None
        self._split_once = False  # each chunk is split only once: its rest is not worth another try

    @property
    def has_begun(self) -> bool:
        """Whether there was anything but space."""
        return self._state is not ArrayState.START

    @property
    def ended(self) -> bool:
        """Whether the closing bracket was found."""
        return self._state is ArrayState.END

    @property
    def expected(self) -> str:
        """What may follow, and where."""
        what = self._state.value if self._value is None else "the rest of a value"
        return f"expected {what} at byte {self._offset}"

    def feed(self, chunk: bytes) -> Iterator[RawRecord]:
        """The records that end in this chunk.

        Raises:
            JobFailed: FIELD_TOO_LONG if an element is too long.
        """
        at, self._split_once = 0, False
        while at < len(chunk):
            if self._value is None:
                value_at = self._to_value(chunk, at)
                if value_at is None:
                    break
                at = value_at
                for raw, end in self._split_ahead(chunk, at):
                    require_size(self.index, len(raw), self._max_bytes)
                    yield self._take(raw, end)
                    at = end
                if self._state is ArrayState.AFTER:
                    continue
                self._value = OpenRecord(self.index, self._max_bytes)
            end_of_value = self._value.feed(chunk, at)
            if end_of_value is None:
                break
            at = end_of_value
            yield self._take(self._value.data, at)
        self._offset += len(chunk) - len(self.rest)

    def _to_value(self, chunk: bytes, at: int) -> int | None:
        """The offset of the next value, or None if the rest of the chunk does not begin with one."""
        while (at := end_of(_SPACE, chunk, at)) < len(chunk):
            if self._state in (ArrayState.FIRST, ArrayState.NEXT) and chunk[at] not in b",]}":
                return at
            state = _STEPS.get((self._state, chunk[at : at + 1]))
            if state is None:
                self.rest = chunk[at:]
                return None
            self._state = state
            at += 1
        return None

    def _split_ahead(self, chunk: bytes, at: int) -> Iterator[tuple[bytes, int]]:
        """The elements up to the last comma that separates two, with their ends; none if no such comma is found."""
        if self._split_once:
            return
        self._split_once = True
        found = (_elements(chunk[at:cut]) for cut in _last_cuts(chunk, at))
        elements = next((elements for elements in found if elements is not None), [])
        for element in elements:
            raw = bytes(element)
            at += len(raw)
            yield raw, at
            at = end_of(_SEPARATOR, chunk, at)

    def _take(self, data: bytes, end: int) -> RawRecord:
        raw = RawRecord(self.index, self._offset + end, data, len(data))
        self.index += 1
        self._state, self._value = ArrayState.AFTER, None
        return raw


class ArraySplitter:
    """Splits a text that is a single array.

    Args:
        place: where the first chunk begins: at the beginning of the text, or after an element.
        max_bytes: per element.
    """

    def __init__(self, place: Place, max_bytes: int) -> None:
        self._elements = ArrayElements(place, max_bytes, ArrayState.AFTER if place.index else ArrayState.START)

    def feed(self, chunk: bytes) -> Iterator[RawRecord]:
        """The records that end in this chunk.

        Raises:
            BrokenJson: the text is not an array.
            JobFailed: FIELD_TOO_LONG if an element is too long.
        """
        yield from self._elements.feed(chunk)
        if self._elements.rest:
            raise BrokenJson(f"The file is not a single JSON array: {self._elements.expected}")

    def finish(self) -> Iterator[RawRecord]:
        """No records: an array ends with a bracket, not with a record. Blank text contains no records either.

        Raises:
            BrokenJson: the text is truncated.
        """
        if self._elements.has_begun and not self._elements.ended:
            raise BrokenJson(f"The file is truncated: {self._elements.expected}")
        return iter(())


def _last_cuts(chunk: bytes, at: int) -> Iterator[int]:
    """The offsets after braces that are followed by a comma and may end an element, last one first."""
    end = len(chunk)
    for _ in range(_BRACES_TRIED):
        end = chunk.rfind(b"}", at, end)
        if end < 0:
            return
        if _BRACE_AND_COMMA.match(chunk, end):
            yield end + 1


def _elements(text: bytes) -> list[msgspec.Raw] | None:
    """The elements of an array given without its brackets, or None if it is not valid."""
    try:
        return _split(b"[" + text + b"]")
    except (ValueError, RecursionError):
        return None
