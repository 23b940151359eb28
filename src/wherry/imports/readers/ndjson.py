"""ndjson: a JSON object per line. A line that cannot be read is that record's error, and the import goes on."""

from __future__ import annotations

from collections.abc import Iterator

from wherry.imports.models import Place, RawRecord
from wherry.imports.readers.model import Opening, Reader, RecordsFormat
from wherry.imports.readers.records import JsonParser


class LineSplitter:
    """Splits ndjson at newlines. Inside a JSON string a newline is always escaped.

    Blank lines are skipped and not counted. A line of more than `max_bytes` is counted and skipped, and never kept in
    memory.
    """

    def __init__(self, place: Place, max_bytes: int) -> None:
        self._index = place.index
        self._offset = place.offset  # of the beginning of the unfinished line
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._size = 0  # of the unfinished line so far, kept or not

    def feed(self, chunk: bytes) -> Iterator[RawRecord]:
        """The records that end in this chunk."""
        first, *rest = chunk.split(b"\n")
        self._keep(first)
        if not rest:
            return
        yield from self._end_line(newline=1)
        last = rest.pop()
        for line in rest:
            size, start = len(line), self._offset
            self._offset += size + 1
            if size > self._max_bytes:
                yield self._skipped(size, start)
            elif line and not line.isspace():
                yield RawRecord(self._index, self._offset, line, size)
                self._index += 1
        self._keep(last)

    def finish(self) -> Iterator[RawRecord]:
        """The last record, if no newline follows it."""
        yield from self._end_line(newline=0)

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size <= self._max_bytes:
            self._pieces.append(piece)
        else:
            self._pieces.clear()

    def _end_line(self, *, newline: int) -> Iterator[RawRecord]:
        line, size, start = b"".join(self._pieces), self._size, self._offset
        self._offset += size + newline
        self._pieces.clear()
        self._size = 0
        if size > self._max_bytes:
            yield self._skipped(size, start)
        elif line and not line.isspace():
            yield RawRecord(self._index, self._offset, line, size)
            self._index += 1

    def _skipped(self, size: int, start: int) -> RawRecord:
        self._index += 1
        return RawRecord(self._index - 1, self._offset, None, size, start)


async def open_ndjson(opening: Opening) -> Reader:
    """Open a source of lines."""
    place = opening.place
    return Reader(opening.source.open(place.offset), LineSplitter(place, opening.max_bytes), JsonParser())


NDJSON = RecordsFormat(
    name="ndjson",
    content_type="application/x-ndjson",
    extensions=(".ndjson", ".jsonl"),
    content_types=("application/x-ndjson", "application/ndjson", "application/jsonl"),
    open=open_ndjson,
)
