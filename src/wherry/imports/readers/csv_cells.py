"""Splits csv (RFC 4180) into records and their cells."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import StringIO
from typing import TypeAlias

from wherry.imports.models import Place, RawRecord
from wherry.imports.readers.csv_records import RecordSplitter, cell_pattern, is_blank

PORTION_BYTES = 1 << 16
"""How much text is split at once, which limits the memory that cells take."""

csv.field_size_limit(sys.maxsize)  # the size of a whole record is limited instead

Cells: TypeAlias = Sequence[str | None]
"""The cells of a record; None for those that are empty and not quoted."""


class CellsRecord(RawRecord, gc=False):
    """A record whose cells are known. They have no NUL."""

    cells: Cells = ()


class CellSplitter(RecordSplitter):
    """Splits text into the same records, and reads the cells of those that have no faults.

    Python's reader finds cells and the ends of records in one go, which is faster than looking for the ends first. From
    the first fault to the end of a portion, and if a record spans two portions, text is split without it.
    """

    def __init__(self, place: Place, max_bytes: int, delimiter: str, *, keeps_blank: bool = False) -> None:
        super().__init__(place, max_bytes, delimiter, keeps_blank=keeps_blank)
        self._delimiter = delimiter
        self._cell = re.compile(cell_pattern(delimiter))

    def feed(self, chunk: bytes) -> Iterator[RawRecord]:
        for start in range(0, len(chunk), PORTION_BYTES):
            yield from super().feed(chunk[start : start + PORTION_BYTES])

    def _split(self, lines: Sequence[bytes]) -> Iterator[RawRecord]:
        done = 0
        while self._size and done < len(lines):  # of a record that began in an earlier portion
            yield from super()._split(lines[done : done + 1])
            done += 1
        lines = lines[done:]
        records, done = self._read(lines)
        yield from records
        yield from super()._split(lines[done:])

    def _read(self, lines: Sequence[bytes]) -> tuple[list[RawRecord], int]:
        """The records up to the first one that has a fault or no end, and how many lines they take."""
        records: list[RawRecord] = []
        done, text = 0, b"\n".join(lines)
        if may_have_nul(text):
            return records, done
        index, offset = self._index, self._offset
        with suppress(UnicodeDecodeError, csv.Error):
            reader = csv.reader(StringIO(text.decode(), newline="\n"), delimiter=self._delimiter, strict=True)
            for row in reader:
                end = reader.line_num
                data = lines[done] if end == done + 1 else b"\n".join(lines[done:end])
                size = len(data)
                if size > self._max_bytes:
                    break
                done = end
                offset += size + 1
                if len(row) > 1 or self._keeps_blank or not is_blank(data):
                    cells = row if row and all(row) else with_nulls(row, data, self._cell)
                    records.append(CellsRecord(index, offset, data, size, cells=cells))
                    index += 1
        self._index, self._offset = index, offset
        return records, done


def may_have_nul(text: bytes) -> bool:
    """Whether a text has NUL, or what may be one in JSON."""
    return b"\0" in text or (b"\\" in text and b"\\u0000" in text)


def with_nulls(row: list[str], data: bytes, cell: re.Pattern[str]) -> Cells:
    """The cells of a record, with None for those that are empty and not quoted.

    Args:
        row: the cells as Python 3.11 reads them: it does not distinguish `""` from an empty cell.
        data: the text of the record.
        cell: the pattern of a cell.
    """
    written = written_cells(data.decode().rstrip("\r"), cell) if b'""' in data else ()
    quoted = {place for place, text in enumerate(written) if text == '""'}
    return [each or ("" if place in quoted else None) for place, each in enumerate(row or [""])]


def written_cells(text: str, cell: re.Pattern[str]) -> Iterator[str]:
    """The cells of a record with their quotes, one by one: there could be millions."""
    at = 0
    while at <= len(text) and (found := cell.match(text, at)):
        yield found.group()
        at = found.end() + 1
