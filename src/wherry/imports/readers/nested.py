"""Finds the records inside a JSON document.

They are where `recordsAt` leads: each key is that of a member, and arrays on the way are walked through. If the path
leads to an array, its elements are the records. If it leads to other values that are in an array, as `entry.resource`
does in a FHIR bundle, those are the records.

ijson parses the document up to the colon after the last key of the path. The text of records is split off without
being parsed, and ijson, which checks the rest of the document, is given an empty array or a zero instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from wherry.errors import BrokenJson, ErrorCode, JobFailed
from wherry.imports.models import Place, RawRecord
from wherry.imports.readers.array_paths import HEAD_BYTES, suggestion
from wherry.imports.readers.arrays import ArrayElements, ArrayState
from wherry.imports.readers.json_events import (
    CLOSING,
    OPENING,
    PIECE_BYTES,
    Event,
    JsonEvents,
    require_depth,
)
from wherry.imports.readers.json_value import OpenRecord

_ELSEWHERE = -1
_FIRST_PIECE_BYTES = 1 << 10
"""Of an array. Pieces grow, because those that end after a short array are split in vain."""


class NestedSplitter:
    """Splits a document into the records at a path. It is fed the whole document, from its beginning.

    Args:
        records_at: keys joined by dots.
        place: records before its index are skipped.
        max_bytes: per record.
    """

    def __init__(self, records_at: str, place: Place, max_bytes: int) -> None:
        self._path = _Path(records_at)
        self._index = 0
        self._first = place.index
        self._max_bytes = max_bytes
        self._document = JsonEvents(max_bytes, self._path.stop)
        self._head = bytearray()
        self._array: ArrayElements | None = None
        self._piece_bytes = 0  # of the array
        self._record: OpenRecord | None = None

    def feed(self, chunk: bytes) -> Iterator[RawRecord]:
        """The records that end in this chunk.

        Raises:
            BrokenJson: the text is not JSON.
            JobFailed: a record is too long, or the document is nested too deeply or cannot be parsed.
        """
        if not self._path.found:
            self._head += chunk[: HEAD_BYTES - len(self._head)]
        self._document.unread += chunk
        yield from self._split()
        yield from self._records(self._document.read())

    def finish(self) -> Iterator[RawRecord]:
        """The records that only the end of the text ends.

        Raises:
            BrokenJson: the document is truncated.
            JobFailed: as above, or the path leads to no records.
        """
        if len(self._head) < HEAD_BYTES and not self._head.strip():
            return  # as a blank array file, it contains no records
        yield from self._records(self._document.finish())
        if not self._path.found:
            message = f"The path {self._path} (recordsAt) leads to no array of records. {suggestion(bytes(self._head))}"
            raise JobFailed(ErrorCode.PARSE_ERROR, message)

    def _records(self, pieces: Iterator[list[Event]]) -> Iterator[RawRecord]:
        for events in pieces:
            self._path.follow(events)
            if events and self._document.at_stop:
                self._begin(events[-1])
                yield from self._split()

    def _begin(self, last: Event) -> None:
        """Take over from ijson if this event leads to records."""
        unread, position = self._document.unread, self._document.position
        if self._path.is_at_elements(last):
            self._array = ArrayElements(Place(self._index, position), self._max_bytes, ArrayState.FIRST)
            self._piece_bytes = _FIRST_PIECE_BYTES
        elif self._path.is_at_record(last) and unread[0] not in b",]}":
            self._record = OpenRecord(self._index, self._max_bytes)

    def _split(self) -> Iterator[RawRecord]:
        """The records in the unread text, up to the end of the array or record."""
        if self._array is not None:
            yield from self._elements(self._array)
        elif self._record is not None and self._document.unread:
            yield from self._value(self._record)

    def _elements(self, array: ArrayElements) -> Iterator[RawRecord]:
        while self._array is not None and self._document.unread:
            piece = bytes(self._document.unread[: self._piece_bytes])
            self._piece_bytes = min(2 * self._piece_bytes, PIECE_BYTES)
            yield from (raw for raw in array.feed(piece) if raw.index >= self._first)
            self._document.replace(len(piece) - len(array.rest), b"]" if array.ended else b"")
            if array.ended:
                self._index, self._array = array.index, None
            elif array.rest:
                raise BrokenJson(f"The file is not valid JSON: {array.expected}")

    def _value(self, record: OpenRecord) -> Iterator[RawRecord]:
        unread, position = self._document.unread, self._document.position
        end = record.feed(unread, 0)
        if end is None:
            self._document.replace(len(unread), b"")
            return
        self._document.replace(end, b"0 "[:end])  # never longer than the value, or all that follows would be moved
        index, self._index, self._record = self._index, self._index + 1, None
        if index >= self._first:
            yield RawRecord(index, position + end, record.data, record.size)


class _Path:
    """Follows a document along a path, outside of records.

    For each open array or object it keeps how many keys of the path lead into it.

    Attributes:
        found: whether an array or records were found where the path leads.
        stop: a pattern of the text up to any value that the path may lead to.
    """

    def __init__(self, records_at: str) -> None:
        self._text = records_at
        keys = records_at.split(".")
        self._length = len(keys)
        self._keys = [*keys, None]  # no key leads on from the end of the path, nor from elsewhere
        self._next = 0  # how many keys lead to the next value
        self._open: list[tuple[int, bool]] = []  # with whether it is in an array, or one
        self.found = False
        self.stop = _after_key(keys[-1])

    def __str__(self) -> str:
        return self._text

    def follow(self, events: list[Event]) -> None:
        """Take these steps.

        Raises:
            JobFailed: the document is nested too deeply.
        """
        for event, value in events:
            if event == "map_key":
                matched = self._open[-1][0]
                self._next = matched + 1 if value == self._keys[matched] else _ELSEWHERE
            elif event in OPENING:
                self._enter(event == "start_array")
            elif event in CLOSING:
                self._open.pop()
                self._next = self._open[-1][0] if self._open else _ELSEWHERE

    def _enter(self, is_array: bool) -> None:
        is_at_end = self._next == self._length
        if is_at_end and is_array:
            self.found = True
        elif is_at_end:
            self._next = _ELSEWHERE
        self._open.append((self._next, is_array or (bool(self._open) and self._open[-1][1])))
        require_depth(len(self._open))

    def is_at_elements(self, last: Event) -> bool:
        """Whether the array that begins with the last event contains records."""
        return last[0] == "start_array" and self._next == self._length

    def is_at_record(self, last: Event) -> bool:
        """Whether the value after the last event is a record."""
        is_record = last[0] == "map_key" and self._next == self._length and self._open[-1][1]
        self.found |= is_record
        return is_record


def _after_key(key: str) -> re.Pattern[bytes]:
    """A pattern of the text up to the value of the next member with a key, or with one that has escape sequences.

    If that value is an array, its bracket is included.
    """
    space = rb"[ \t\r\n]*+"
    named, escaped = b'"%b"' % re.escape(key.encode()), rb'"[^"\\]*+(?:\\.[^"\\]*+)++"'
    others = rb'[^"]++|(?!%b%b:)"[^"\\]*+"|%b(?!%b:)' % (named, space, escaped, space)
    value = rb"%b:%b(?:\[|(?=[^ \t\r\n]))" % (space, space)
    return re.compile(rb"(?:%b)*+(?:%b|%b)%b" % (others, named, escaped, value), re.DOTALL)
