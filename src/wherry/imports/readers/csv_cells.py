"""Converts the cells of csv records to JSON, by the types of their columns."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, repeat
from typing import TypeAlias

import msgspec
from msgspec.structs import force_setattr

from wherry.errors import ErrorCode
from wherry.imports.models import RawRecord, RecordError, clipped
from wherry.imports.readers.csv_records import cell_pattern
from wherry.imports.readers.model import Fields, RecordParser, Unread, not_utf8
from wherry.tables.derivation import import_fields, object_maker
from wherry.tables.model import Table
from wherry.tables.types import Form
from wherry.tables.values import Fault

CONVERTED_AT_ONCE = 200
LONG_TEXT = 1 << 18
"""Longer records are only split into cells if they do not have too many."""

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?")
"""A number as JSON has it."""
_OTHER_NUMBER = re.compile(r"(?=[-+]?\.?[0-9])([-+]?)0*+([0-9]*+)(\.[0-9]*+)?([eE][-+]?[0-9]++)?")
_TRUE, _FALSE = ("true", "t", "yes", "1"), ("false", "f", "no", "0")
_BOOLEANS = {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}
_NOT_JSON = Fault(ErrorCode.INVALID_FIELD_FORMAT, "must be JSON")

csv.field_size_limit(sys.maxsize)  # the size of a whole record is limited instead

_encode = msgspec.json.Encoder().encode
_check_json = msgspec.json.Decoder(msgspec.Raw).decode


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


Cells: TypeAlias = Sequence[str | None]
"""The cells of a record; None for those that are empty and not quoted."""


class _TooWide(csv.Error):
    """A long record has more cells than the header."""


class CellParser(RecordParser):
    """Parses the records of a file with this header."""

    def __init__(self, table: Table, header: Header) -> None:
        self._delimiter = header.delimiter
        self._width = len(header.names)
        self._cell = re.compile(cell_pattern(header.delimiter))
        self._named = [(place, name, _converter(table, name)) for place, name in enumerate(header.names) if name]
        importable = import_fields(table)
        self._importable = [each for each in self._named if each[1] in importable]
        # The values of which may be an `Unread`.
        self._doubtful = [
            n for n, (_, _, convert) in enumerate(self._importable) if convert not in (None, _number, _boolean)
        ]
        self._record = object_maker([name for _, name, _ in self._importable])

    def as_json(self, data: bytes) -> bytes | None:
        return self.all_as_json([data])[0]

    def converted(self, raws: Iterator[RawRecord]) -> Iterator[RawRecord]:
        while block := list(islice(raws, CONVERTED_AT_ONCE)):
            texts = self.all_as_json([raw.data or b"" for raw in block])
            for raw, text in zip(block, texts, strict=True):
                if raw.data is not None:
                    force_setattr(raw, "json", text)  # nobody else has seen the record yet
                yield raw

    def all_as_json(self, records: Sequence[bytes]) -> list[bytes | None]:
        """The same for several records, column by column, which takes half the time."""
        rows = self._rows(records)
        found: list[bytes | None] = [None] * len(rows)
        places = [place for place, row in enumerate(rows) if row is not None and len(row) == self._width]
        columns = list(zip(*[rows[place] or () for place in places], strict=True))
        if not columns:
            return found
        values = [_converted(columns[place], convert) for place, _, convert in self._importable]
        unread = {
            place for number in self._doubtful for place, each in enumerate(values[number]) if type(each) is Unread
        }
        objects = map(self._record, *values) if values else repeat({})
        for number, (place, each) in enumerate(zip(places, objects, strict=False)):
            record = records[place]
            if number not in unread and b"\0" not in record and b"\\u0000" not in record:
                found[place] = _encode(each)
        return found

    def fields(self, index: int, data: bytes) -> Fields | RecordError:
        try:
            text = data.decode()
            (cells,) = self._cells([text])
        except UnicodeDecodeError:
            return not_utf8(index, data)
        except _TooWide:
            message = f"Record has more cells than the header, which has {self._width}"
            return RecordError(index, None, ErrorCode.INVALID_RECORD_STRUCTURE, message, value=clipped(text))
        except csv.Error as error:
            message = f"Record is not valid csv: {error}"
            return RecordError(index, None, ErrorCode.PARSE_ERROR, message, value=clipped(text))
        if len(cells) != self._width:
            message = f"Record has {len(cells)} cells, but the header has {self._width}"
            return RecordError(index, None, ErrorCode.INVALID_RECORD_STRUCTURE, message, value=clipped(text))
        return {name: _as_field(cells[place], convert) for place, name, convert in self._named}

    def _rows(self, records: Sequence[bytes]) -> list[Cells | None]:
        """The cells of each record; None if it cannot be read."""
        try:
            rows = self._cells([record.decode() for record in records])
        except (UnicodeDecodeError, csv.Error):
            rows = []
        if len(rows) == len(records):
            return [*rows]
        return [None] if len(records) == 1 else [row for record in records for row in self._rows([record])]

    def _cells(self, texts: Sequence[str]) -> list[Cells]:
        if any(len(text) > LONG_TEXT and self._is_too_wide(text) for text in texts):
            raise _TooWide
        rows: list[Cells] = [row or [""] for row in csv.reader(texts, delimiter=self._delimiter, strict=True)]
        for place, row in enumerate(rows):
            if "" in row:
                text = texts[place]
                quoted = self._empty_texts(text.rstrip("\r")) if '""' in text else set()
                rows[place] = [cell or ("" if number in quoted else None) for number, cell in enumerate(row)]
        return rows

    def _is_too_wide(self, text: str) -> bool:
        """Whether a record has more cells than the header, without building them: there could be millions."""
        at = 0
        for _ in range(self._width):
            found = self._cell.match(text, at)
            if found is None or found.end() >= len(text):
                return False
            at = found.end() + 1
        return True

    def _empty_texts(self, text: str) -> set[int]:
        """The positions of the cells that are `""`. Python 3.11's reader does not distinguish them from empty ones."""
        places, at, place = set(), 0, 0
        while at <= len(text) and (found := self._cell.match(text, at)):
            if found.group() == '""':
                places.add(place)
            at, place = found.end() + 1, place + 1
        return places


Converter: TypeAlias = Callable[[str], object]
"""Turns a cell that is not empty into a value that can be encoded as JSON, or into an `Unread`."""


def _converter(table: Table, name: str) -> Converter | None:
    column = table.columns.get(name)
    convert = None if column is None else _CONVERTERS.get(column.type.form)
    if not any(each.name == name for each in table.reference_fields):
        return convert
    return _json if column is None else partial(_perhaps_object, convert)


def _perhaps_object(convert: Converter | None, cell: str) -> object:
    """The value of a cell that has an object, or a value of a column."""
    found = _json(cell) if cell.lstrip().startswith("{") else None
    if isinstance(found, msgspec.Raw):
        return found
    return cell if convert is None else convert(cell)


def _converted(cells: Sequence[str | None], convert: Converter | None) -> Sequence[object]:
    """The values of a column."""
    return cells if convert is None else [convert(cell) if cell else cell for cell in cells]


def _number(cell: str) -> object:
    if _NUMBER.fullmatch(cell):
        return msgspec.Raw(cell)
    found = _OTHER_NUMBER.fullmatch(cell.strip())
    if found is None:
        return cell
    sign, whole, fraction, exponent = found.groups("")
    return msgspec.Raw(sign.strip("+") + (whole or "0") + (fraction if fraction != "." else "") + exponent)


def _boolean(cell: str) -> object:
    return _BOOLEANS.get(cell.strip().lower(), cell)


def _json(cell: str) -> object:
    try:
        _check_json(cell)
    except (ValueError, RecursionError):
        return Unread(msgspec.Raw(_encode(cell)), _NOT_JSON)
    return msgspec.Raw(cell)


_CONVERTERS = {Form.NUMBER: _number, Form.BOOLEAN: _boolean, Form.JSON: _json}


def _as_field(cell: str | None, convert: Converter | None) -> msgspec.Raw | Unread:
    value = convert(cell) if cell and convert is not None else cell
    return value if isinstance(value, (msgspec.Raw, Unread)) else msgspec.Raw(_encode(value))
