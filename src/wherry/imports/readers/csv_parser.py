"""Converts csv records to JSON, by the types of their columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import msgspec

from wherry.errors import ErrorCode
from wherry.imports.models import RawRecord, RecordError, clipped
from wherry.imports.readers.csv_cells import Cells, CellsRecord, may_have_nul, with_nulls, written_cells
from wherry.imports.readers.csv_columns import column_decoder
from wherry.imports.readers.csv_records import cell_pattern
from wherry.imports.readers.csv_values import as_field, converter_for
from wherry.imports.readers.model import Fields, RecordParser, Unread, not_utf8
from wherry.tables.derivation import import_fields, object_maker
from wherry.tables.model import Table

CONVERTED_AT_ONCE = 200
LONG_TEXT = 1 << 18
"""Longer records are only split into cells if they do not have too many."""

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True)
class Header:
    """The header of a file.

    Attributes:
        line: as it is in the file, with its line end.
        end: the offset after it.
        delimiter: between cells.
        names: of the cells of a record: fields, or what the header calls a cell that is none. None if it is ignored.
    """

    line: bytes
    end: int
    delimiter: str
    names: tuple[str | None, ...]


class _TooWide(csv.Error):
    """A long record has more cells than the header."""


class CellParser(RecordParser):
    """Parses the records of a file with this header."""

    def __init__(self, table: Table, header: Header) -> None:
        self._delimiter = header.delimiter
        self._width = len(header.names)
        self._cell = re.compile(cell_pattern(header.delimiter))
        self._named = [(place, name, converter_for(table, name)) for place, name in enumerate(header.names) if name]
        importable = import_fields(table)
        self._imported = [(place, converter) for place, name, converter in self._named if name in importable]
        self._record = object_maker([name for _, name, _ in self._named if name in importable])
        self._decoder = column_decoder(table, {name: place for place, name, _ in self._named})

    def as_json(self, data: bytes) -> bytes | None:
        return self._as_json(self._fitting([self._row(data)]))[0]

    def converted(self, raws: Iterator[RawRecord]) -> Iterator[RawRecord]:
        while block := list(islice(raws, CONVERTED_AT_ONCE)):
            rows = [raw.cells if isinstance(raw, CellsRecord) else self._row(raw.data) for raw in block]
            self._convert(block, self._fitting(rows))
            yield from block

    def fields(self, index: int, data: bytes) -> Fields | RecordError:
        try:
            text = data.decode()
            row = self._read(data)
        except UnicodeDecodeError:
            return not_utf8(index, data)
        except _TooWide:
            message = f"Record has more cells than the header, which has {self._width}"
            return RecordError(index, None, ErrorCode.INVALID_RECORD_STRUCTURE, message, value=clipped(text))
        except csv.Error as error:
            message = f"Record is not valid csv: {error}"
            return RecordError(index, None, ErrorCode.PARSE_ERROR, message, value=clipped(text))
        if len(row) != self._width:
            message = f"Record has {len(row)} cells, but the header has {self._width}"
            return RecordError(index, None, ErrorCode.INVALID_RECORD_STRUCTURE, message, value=clipped(text))
        return {name: as_field(row[place], converter) for place, name, converter in self._named}

    def _fitting(self, rows: Sequence[Cells | None]) -> Sequence[Cells | None]:
        """The same rows, with None for those that have more or fewer cells than the header."""
        return [row if row is not None and len(row) == self._width else None for row in rows]

    def _convert(self, block: Sequence[RawRecord], rows: Sequence[Cells | None]) -> None:
        """Decode the records or, if some of them have faults, convert them to JSON."""
        valid = [row for row in rows if row is not None]
        if self._decoder is not None and len(valid) == len(rows):
            records = self._decoder.records(list(zip(*valid, strict=True)))
            if records is not None:
                for raw, record in zip(block, records, strict=True):
                    raw.record = record
                return
        for raw, text in zip(block, self._as_json(rows), strict=True):
            raw.json = text

    def _row(self, data: bytes | None) -> Cells | None:
        """The cells of a record; None if it cannot be read or may have NUL."""
        if data is None or may_have_nul(data):
            return None
        try:
            return self._read(data)
        except (UnicodeDecodeError, csv.Error):
            return None

    def _read(self, data: bytes) -> Cells:
        text = data.decode()
        if len(text) > LONG_TEXT and self._is_too_wide(text):
            raise _TooWide
        (row,) = csv.reader((text,), delimiter=self._delimiter, strict=True)
        return with_nulls(row, data, self._cell)

    def _is_too_wide(self, text: str) -> bool:
        """Whether a record has more cells than the header, without building them: there could be millions."""
        return next(islice(written_cells(text, self._cell), self._width, None), None) is not None

    def _as_json(self, rows: Sequence[Cells | None]) -> Sequence[bytes | None]:
        """The JSON of several records, or None for those that only `fields` can judge.

        They are converted column by column, which takes half the time.
        """
        valid = [row for row in rows if row is not None]
        if not valid:
            return [None] * len(rows)
        if len(valid) < len(rows):
            texts = iter(self._as_json(valid))
            return [None if row is None else next(texts) for row in rows]
        columns = list(zip(*valid, strict=True))
        values = [
            columns[place] if converter is None else converter.values(columns[place])
            for place, converter in self._imported
        ]
        found: list[bytes | None] = [*_encoded([*map(self._record, *values)] if values else [{}] * len(rows))]
        for (_, converter), column in zip(self._imported, values, strict=True):
            if converter is not None and not converter.is_sure:
                for place, value in enumerate(column):
                    if type(value) is Unread:
                        found[place] = None
        return found


def _encoded(values: Sequence[object]) -> Sequence[bytes]:
    """The JSON of each value. In one go it takes less time, but JSON from cells may have line ends."""
    *lines, _ = _encoder.encode_lines(values).split(b"\n")
    return lines if len(lines) == len(values) else [*map(_encoder.encode, values)]
