"""Splits a top-level JSON array into its elements, without building any of them.

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

from wherry.errors import BrokenJson, ErrorCode, JobFailed
from wherry.imports.models import Place, RawRecord

_SPACE = re.compile(rb"[ \t\r\n]*+")
_STRING_REST = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_LITERAL_REST = re.compile(rb'[^][{}", \t\r\n]*+')
_SEPARATOR = re.compile(rb"[ \t\r\n]*+,[ \t\r\n]*+")
_BRACE_AND_COMMA = re.compile(rb"\}[ \t\r\n]*+,")
_BRACES_TRIED = 8

# Inside a value, whole strings, flat arrays and objects, and runs of brackets are skipped in one go each, because an
# element of 16 MiB may have millions of them.
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_FLAT = rb"\[[^][{}\"]*+\]|\{[^][{}\"]*+\}"
_WITHIN = re.compile(
    rb'(?:[^][{}"]++|%b|%b|\[(?:[^][{}"]++|%b|%b)*+\])*+' % (_STRING, _FLAT, _STRING, _FLAT), re.DOTALL
)
_OPENING = re.compile(rb"[\[{]++")
_CLOSING = re.compile(rb"[\]}]++")

_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _State(Enum):
    START = "an opening bracket"
    FIRST = "a value or a closing bracket"
    NEXT = "a value"
    AFTER = "a comma or a closing bracket"
    END = "nothing after the array"


class ArraySplitter:
    """Splits an array between its elements.

    Args:
        place: where the first chunk begins: at the beginning of the text, or after an element.
        max_bytes: per element.
    """

    def __init__(self, place: Place, max_bytes: int) -> None:
        self._index = place.index
        self._offset = place.offset  # of the current chunk
        self._max_bytes = max_bytes
        self._state = _State.AFTER if place.index else _State.START
        self._value: _OpenValue | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._split_once = False  # each chunk is split only once: its rest is not worth another try

    def feed(self, chunk: bytes) -> Iterator[RawRecord]:
        """The records that end in this chunk.

        Raises:
            BrokenJson: the text is not an array.
            JobFailed: FIELD_TOO_LONG if an element is too long.
        """
        at, self._split_once = 0, False
        while at < len(chunk):
            if self._value is None:
                at = self._to_value(chunk, at)
                if at == len(chunk):
                    break
                for raw, end in self._split_ahead(chunk, at):
                    yield self._take(raw, len(raw), self._offset + end)
                    at = end
                if self._state is _State.AFTER:
                    continue
                self._value = _OpenValue()
            end_of_value = self._value.end(chunk, at)
            self._keep(chunk[at : len(chunk) if end_of_value is None else end_of_value])
            if end_of_value is None:
                break
            at = end_of_value
            yield self._take(b"".join(self._pieces), self._size, self._offset + at)
        self._offset += len(chunk)

    def finish(self) -> Iterator[RawRecord]:
        """No records: an array ends with a bracket, not with a record. Blank text contains no records either.

        Raises:
            BrokenJson: the text is truncated.
        """
        if self._state not in (_State.START, _State.END):
            expected = "the rest of a value" if self._value is not None else self._state.value
            raise BrokenJson(f"The file is truncated: expected {expected} at byte {self._offset}")
        return iter(())

    def _to_value(self, chunk: bytes, at: int) -> int:
        """The offset of the next value, or of the end of the chunk."""
        while True:
            at = _end(_SPACE, chunk, at)
            if at == len(chunk):
                return at
            if self._state in (_State.FIRST, _State.NEXT) and chunk[at] not in b",]}":
                return at
            self._state = self._step(chunk[at : at + 1], at)
            at += 1

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
            at = _end(_SEPARATOR, chunk, at)

    def _step(self, token: bytes, at: int) -> _State:
        match self._state, token:
            case _State.START, b"[":
                return _State.FIRST
            case _State.AFTER, b",":
                return _State.NEXT
            case ((_State.FIRST | _State.AFTER), b"]"):
                return _State.END
        place = self._offset + at
        raise BrokenJson(f"The file is not a single JSON array: expected {self._state.value} at byte {place}")

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        self._require_size(self._size)
        self._pieces.append(piece)

    def _require_size(self, size: int) -> None:
        if size > self._max_bytes:
            message = f"Record {self._index} is longer than {self._max_bytes} bytes (IMPORT_MAX_RECORD_BYTES)"
            raise JobFailed(ErrorCode.FIELD_TOO_LONG, message, detail={"limit": self._max_bytes})

    def _take(self, data: bytes, size: int, offset: int) -> RawRecord:
        self._require_size(size)
        raw = RawRecord(self._index, offset, data, size)
        self._index += 1
        self._state, self._value = _State.AFTER, None
        self._pieces.clear()
        self._size = 0
        return raw


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


class _OpenValue:
    """Finds the end of a value, over as many chunks as it takes."""

    def __init__(self) -> None:
        self.begun = False
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def end(self, chunk: bytes, at: int) -> int | None:
        """The offset after the value, or None if the value continues in the next chunk."""
        literal = self._depth == 0 and not self._in_string and (self.begun or chunk[at] not in b'"{[')
        self.begun = True
        if literal:
            end = _end(_LITERAL_REST, chunk, at)
            return end if end < len(chunk) else None
        while at < len(chunk):
            at = self._pass_string(chunk, at) if self._in_string else self._pass_token(chunk, at)
            if self._depth == 0 and not self._in_string:
                return at
        return None

    def _pass_string(self, chunk: bytes, at: int) -> int:
        """The offset after the closing quote, or of the end of the chunk."""
        at = _end(_STRING_REST, chunk, at + self._escaped)
        self._escaped = False
        if at >= len(chunk):
            return at
        self._escaped = chunk[at] == 0x5C  # the pattern stops at a backslash only if it is the chunk's last byte
        self._in_string = self._escaped
        return at + 1

    def _pass_token(self, chunk: bytes, at: int) -> int:
        """The offset after the next quote or run of brackets within the value, or of the end of the chunk."""
        if self._depth:
            at = _end(_WITHIN, chunk, at)
        if at == len(chunk):
            return at
        if chunk[at] == 0x22:
            self._in_string = True
            return at + 1
        end = _end(_OPENING, chunk, at)
        if end > at:
            self._depth += end - at
            return end
        end = min(_end(_CLOSING, chunk, at), at + self._depth)
        self._depth -= end - at
        return end


def _end(pattern: re.Pattern[bytes], chunk: bytes, at: int) -> int:
    found = pattern.match(chunk, at)
    return found.end() if found else at
