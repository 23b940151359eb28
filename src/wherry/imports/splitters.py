"""Detects the format of a file, and splits its text into records.

A splitter is a plain object that is fed chunks of decompressed text, starting at a checkpoint, so that it can work in a
thread. It yields `RawRecord`s. JSON arrays have a separate module.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping

import msgspec

from wherry.imports.arrays import ArraySplitter
from wherry.imports.models import ImportFormat, Place, RawRecord

MAX_FIRST_LINE_BYTES = 1 << 20
"""A file with a longer first line is assumed to be json."""


async def detect_format(text: AsyncIterator[bytes]) -> ImportFormat:
    """Decide between ndjson and json by the beginning of a text without a byte-order mark.

    It is ndjson if the first line is a complete object and more lines follow. No more is read than necessary.
    """
    head = b""
    async for chunk in text:
        head = (head + chunk).lstrip()
        if head and not head.startswith(b"{"):
            return ImportFormat.JSON
        first, _, rest = head.partition(b"\n")
        if rest.strip():
            return ImportFormat.NDJSON if _is_json(first) else ImportFormat.JSON
        if len(head) > MAX_FIRST_LINE_BYTES:
            return ImportFormat.JSON
    return ImportFormat.JSON


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except (ValueError, RecursionError):
        return False
    return True


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
            size = len(line)
            self._offset += size + 1
            if line and not line.isspace():
                yield RawRecord(self._index, self._offset, line if size <= self._max_bytes else None, size)
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
        line, size = b"".join(self._pieces), self._size
        self._offset += size + newline
        self._pieces.clear()
        self._size = 0
        too_long = size > self._max_bytes
        if too_long or (line and not line.isspace()):
            yield RawRecord(self._index, self._offset, None if too_long else line, size)
            self._index += 1


Splitter = LineSplitter | ArraySplitter
SPLITTERS: Mapping[ImportFormat, type[Splitter]] = {
    ImportFormat.NDJSON: LineSplitter,
    ImportFormat.JSON: ArraySplitter,
}
