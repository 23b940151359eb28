"""Finds the records inside a JSON document.

They are where `recordsAt` leads: each key is that of a member, and arrays on the way are walked through. If the path
leads to an array, its elements are the records. If it leads to other values that are in an array, as `entry.resource`
does in a FHIR bundle, those are the records.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from wherry.errors import ErrorCode, JobFailed
from wherry.imports.models import Place, RawRecord
from wherry.imports.readers.array_paths import HEAD_BYTES, suggestion
from wherry.imports.readers.json_events import CLOSING, OPENING, Event, JsonEvents, require_depth

_ELSEWHERE = -1

_encode_lines = msgspec.json.Encoder(decimal_format="number").encode_lines


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
        self._document = JsonEvents(max_bytes)
        self._head = bytearray()
        self._depth = 0  # within the record
        self._separator = b""
        self._text = bytearray()  # of the record, from earlier pieces of the document

    def feed(self, chunk: bytes) -> Iterator[RawRecord]:
        """The records that end in this chunk.

        Raises:
            BrokenJson: the text is not JSON.
            JobFailed: a record is too long, or the document is nested too deeply or cannot be parsed.
        """
        if not self._path.found:
            self._head += chunk[: HEAD_BYTES - len(self._head)]
        for events in self._document.feed(chunk):
            yield from self._records(events)

    def finish(self) -> Iterator[RawRecord]:
        """The records that only the end of the text ends.

        Raises:
            BrokenJson: the document is truncated.
            JobFailed: as above, or the path leads to no records.
        """
        if len(self._head) < HEAD_BYTES and not self._head.strip():
            return  # as a blank array file, it contains no records
        for events in self._document.finish():
            yield from self._records(events)
        if not self._path.found:
            message = f"The path {self._path} (recordsAt) leads to no array of records. {suggestion(bytes(self._head))}"
            raise JobFailed(ErrorCode.PARSE_ERROR, message)

    def _records(self, events: list[Event]) -> Iterator[RawRecord]:
        """The records that end with these events. Every token is encoded as JSON again."""
        tokens: list[bytes] = []
        separator, depth = self._separator, self._depth
        for (event, value), text in zip(events, _texts(events), strict=False):
            if not depth and not self._path.begins_record(event, value):
                continue
            if event in CLOSING:
                tokens.append(CLOSING[event])
                separator, depth = b",", depth - 1
            elif event in OPENING:
                tokens += separator, OPENING[event]
                separator, depth = b"", depth + 1
                require_depth(self._path.depth + depth)
            else:
                tokens += separator, text
                separator = b":" if event == "map_key" else b","
            if not depth:
                separator = b""
                self._keep(tokens)
                yield from self._end_record()
                tokens.clear()
        self._separator, self._depth = separator, depth
        self._keep(tokens)

    def _keep(self, tokens: list[bytes]) -> None:
        self._text += b"".join(tokens)
        if len(self._text) > self._max_bytes:
            message = f"Record {self._index} is longer than {self._max_bytes} bytes (IMPORT_MAX_RECORD_BYTES)"
            raise JobFailed(ErrorCode.FIELD_TOO_LONG, message, detail={"limit": self._max_bytes})

    def _end_record(self) -> Iterator[RawRecord]:
        data, index = bytes(self._text), self._index
        self._text.clear()
        self._index += 1
        if index >= self._first:
            yield RawRecord(index, self._document.offset, data, len(data))


class _Path:
    """Follows a document along a path, outside of records.

    For each open array or object it keeps how many keys of the path lead into it. Elements of an array at the very end
    of the path count as one further.

    Attributes:
        found: whether an array or records were found where the path leads.
    """

    def __init__(self, records_at: str) -> None:
        self._text = records_at
        self._keys = records_at.split(".")
        self._next = 0  # how many keys lead to the next value
        self._open: list[tuple[int, bool]] = []  # with whether it is an array
        self.found = False

    def __str__(self) -> str:
        return self._text

    @property
    def depth(self) -> int:
        """How many arrays and objects are open."""
        return len(self._open)

    def begins_record(self, event: str, value: object) -> bool:
        """Take one step; return whether the value that begins with this event is a record."""
        if event == "map_key":
            matched = self._open[-1][0]
            is_next = 0 <= matched < len(self._keys) and value == self._keys[matched]
            self._next = matched + 1 if is_next else _ELSEWHERE
        elif event in CLOSING:
            self._open.pop()
            self._next = self._open[-1][0] if self._open else _ELSEWHERE
        elif self._is_record(event):
            self.found = True
            return True
        elif event in OPENING:
            self._enter(event)
        return False

    def _is_record(self, event: str) -> bool:
        at_end = self._next == len(self._keys) and event != "start_array"
        return self._next > len(self._keys) or (at_end and any(is_array for _, is_array in self._open))

    def _enter(self, event: str) -> None:
        is_array = event == "start_array"
        if is_array and self._next == len(self._keys):
            self.found = True
            self._next += 1
        elif not is_array and self._next == len(self._keys):
            self._next = _ELSEWHERE
        self._open.append((self._next, is_array))
        require_depth(len(self._open))


def _texts(events: list[Event]) -> list[bytes]:
    """The JSON of every event's value. JSON has no newlines within a value."""
    return _encode_lines([value for _, value in events]).split(b"\n")
