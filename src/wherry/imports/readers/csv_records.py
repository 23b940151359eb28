"""Splits csv (RFC 4180) into records, at the ends of lines that are not inside quotes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from wherry.imports.models import Place, RawRecord


class RecordSplitter:
    """Splits any text into records, without reading their cells.

    Blank lines are skipped and not counted, unless there is only one column. A record of more than `max_bytes` is
    counted and skipped, and never kept in memory.
    """

    def __init__(self, place: Place, max_bytes: int, delimiter: str, *, keeps_blank: bool = False) -> None:
        self._index = place.index
        self._offset = place.offset  # of the beginning of the unfinished record
        self._max_bytes = max_bytes
        self._keeps_blank = keeps_blank
        self._lines: list[bytes] = []  # of the unfinished record, which is inside quotes if there are any
        self._pieces: list[bytes] = []  # of the unfinished line
        self._size = 0  # of the unfinished record so far, kept or not
        self._quotes = 0  # in the unfinished record
        cell, between = cell_pattern(delimiter), re.escape(delimiter)
        more = rf"(?:{between}(?:{cell}))*+\Z"
        self._whole = re.compile(rf"(?:{cell}){more}".encode())
        self._rest = re.compile(rf'[^"]*+(?:""[^"]*+)*+"[^{delimiter}]*+{more}'.encode())

    def feed(self, chunk: bytes) -> Iterator[RawRecord]:
        """The records that end in this chunk."""
        first, *lines = chunk.split(b"\n")
        self._keep(first)
        if lines:
            last = lines.pop()
            yield from self._end_line()
            yield from self._split(lines)
            self._keep(last)

    def finish(self) -> Iterator[RawRecord]:
        """The last record, if no line end follows it. If it ends inside quotes, its parser reports that."""
        if self._size:
            yield from self._end_record(b"".join(self._pieces), newline=0)

    def _split(self, lines: Sequence[bytes]) -> Iterator[RawRecord]:
        """The records that end in these lines."""
        for line in lines:
            self._keep(line)
            yield from self._end_line()

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        self._quotes += piece.count(b'"')
        if self._size <= self._max_bytes:
            self._pieces.append(piece)
        else:
            self._pieces.clear()
            self._lines.clear()

    def _end_line(self) -> Iterator[RawRecord]:
        line = b"".join(self._pieces)
        self._pieces.clear()
        if self._goes_on_after(line):
            self._lines.append(line + b"\n")
            self._size += 1
        else:
            yield from self._end_record(line, newline=1)

    def _goes_on_after(self, line: bytes) -> bool:
        """Whether this end of a line is inside quotes."""
        if self._size > self._max_bytes:
            return self._quotes % 2 == 1  # which is right unless cells without quotes around them contain some
        if b'"' not in line:
            return bool(self._lines)
        return (self._rest if self._lines else self._whole).match(line) is None

    def _end_record(self, line: bytes, *, newline: int) -> Iterator[RawRecord]:
        data, size, start = b"".join([*self._lines, line]), self._size, self._offset
        self._offset += size + newline
        self._lines.clear()
        self._pieces.clear()
        self._size = self._quotes = 0
        too_long = size > self._max_bytes
        if too_long or self._keeps_blank or not is_blank(data):
            kept, start = (None, start) if too_long else (data, 0)
            yield RawRecord(self._index, self._offset, kept, size, start)
            self._index += 1


def cell_pattern(delimiter: str) -> str:
    """A cell that is complete: in quotes, without quotes, or empty."""
    other = f"[^{delimiter}]*+"
    return rf'"[^"]*+(?:""[^"]*+)*+"{other}|[^"{delimiter}]{other}|'


def is_blank(line: bytes) -> bool:
    return not line.strip(b" \r\n")
