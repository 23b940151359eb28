"""Splits ndjson into records: one a line.

In: chunks of decompressed text, from a checkpoint on. Out: `RawRecord`s. Blank lines are skipped and do not count. A
line longer than `max_bytes` is counted and skipped, never held.
"""

from __future__ import annotations

from collections.abc import Iterator

from wherry.imports.models import Place, RawRecord


class LineSplitter:
    """Cuts at newlines; JSON never holds one within a record.

    Args:
        place: where the first chunk begins.
        max_bytes: of a line.
    """

    def __init__(self, place: Place, max_bytes: int) -> None:
        self._index = place.index
        self._offset = place.offset  # where the line began that has not ended
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._size = 0  # of that line so far, held or not

    def feed(self, chunk: bytes) -> Iterator[RawRecord]:
        """The records that end in this chunk."""
        first, *rest = chunk.split(b"\n")
        self._hold(first)
        if not rest:
            return
        yield from self._end_held(newline=1)
        last = rest.pop()
        for line in rest:
            size = len(line)
            self._offset += size + 1
            if line and not line.isspace():
                yield RawRecord(self._index, self._offset, line if size <= self._max_bytes else None, size)
                self._index += 1
        self._hold(last)

    def finish(self) -> Iterator[RawRecord]:
        """The last record, where no newline ends it."""
        yield from self._end_held(newline=0)

    def _hold(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size <= self._max_bytes:
            self._pieces.append(piece)
        else:
            self._pieces.clear()

    def _end_held(self, *, newline: int) -> Iterator[RawRecord]:
        line, size = b"".join(self._pieces), self._size
        self._offset += size + newline
        self._pieces.clear()
        self._size = 0
        too_long = size > self._max_bytes
        if too_long or (line and not line.isspace()):
            yield RawRecord(self._index, self._offset, None if too_long else line, size)
            self._index += 1
