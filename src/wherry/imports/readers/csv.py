"""csv: a header line, then a line per record (RFC 4180), separated by commas, semicolons, tabs or vertical bars.

The header decides which of them it is: the one that yields most known fields. An empty cell is null, and `""` is an
empty text. Other cells become JSON by the type of their column: numbers and booleans without quotes, arrays and objects
as they are, everything else as a string.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, repeat
from typing import Any, TypeAlias

import msgspec

from wherry.errors import ErrorCode, JobFailed
from wherry.imports.models import LOOKED_AT, Place, RawRecord, RecordError, clipped
from wherry.imports.readers.model import Fields, Opening, Reader, RecordParser, RecordsFormat, Unread
from wherry.tables.derivation import UNREADABLE, import_fields, known_fields
from wherry.tables.model import Table
from wherry.tables.types import Form
from wherry.tables.values import Fault

CONVERTED_AT_ONCE = 200
LONG_TEXT = 1 << 18
MAX_HEADER_BYTES = 1 << 20
MAX_CELLS = 5000
"""Of a header; PostgreSQL's tables have at most 1,600 columns."""
DELIMITERS = ",;\t|"
_SEPARATOR_LINE = re.compile(rb"sep=([,;\t|])\r?", re.IGNORECASE)
"""The first line of some files, which tells spreadsheets how cells are separated."""

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


class CellSplitter:
    """Splits csv at the ends of lines that are not inside quotes.

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
        cell, between = _cell_pattern(delimiter), re.escape(delimiter)
        more = rf"(?:{between}(?:{cell}))*+\Z"
        self._whole = re.compile(rf"(?:{cell}){more}".encode())
        self._rest = re.compile(rf'[^"]*+(?:""[^"]*+)*+"[^{delimiter}]*+{more}'.encode())

    def feed(self, chunk: bytes) -> Iterator[RawRecord]:
        """The records that end in this chunk."""
        first, *rest = chunk.split(b"\n")
        self._keep(first)
        if not rest:
            return
        yield from self._end_line()
        last = rest.pop()
        for line in rest:
            size = len(line)
            if self._size or size > self._max_bytes or (b'"' in line and self._whole.match(line) is None):
                self._keep(line)
                yield from self._end_line()
                continue
            self._offset += size + 1
            if self._keeps_blank or not _is_blank(line):
                yield RawRecord(self._index, self._offset, line, size)
                self._index += 1
        self._keep(last)

    def finish(self) -> Iterator[RawRecord]:
        """The last record, if no line end follows it. If it ends inside quotes, its parser reports that."""
        if self._size:
            yield from self._end_record(b"".join(self._pieces), newline=0)

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
        if too_long or self._keeps_blank or not _is_blank(data):
            kept, start = (None, start) if too_long else (data, 0)
            yield RawRecord(self._index, self._offset, kept, size, start)
            self._index += 1


Cells: TypeAlias = Sequence[str | None]
"""The cells of a record; None for those that are empty and not quoted."""


class _TooWide(csv.Error):
    """A long record has more cells than the header."""


class CellParser(RecordParser):
    """Parses the records of a file with this header."""

    def __init__(self, table: Table, header: Header) -> None:
        self._delimiter = header.delimiter
        self._width = len(header.names)
        self._cell = re.compile(_cell_pattern(header.delimiter))
        self._named = [(place, name, _converter(table, name)) for place, name in enumerate(header.names) if name]
        importable = import_fields(table)
        self._importable = [each for each in self._named if each[1] in importable]
        # The values of which may be an `Unread`.
        self._doubtful = [
            n for n, (_, _, convert) in enumerate(self._importable) if convert not in (None, _number, _boolean)
        ]
        self._record = _record_of([name for _, name, _ in self._importable])

    def as_json(self, data: bytes) -> bytes | None:
        return self.all_as_json([data])[0]

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
            if number not in unread:
                found[place] = _encode(each)
        return found

    def fields(self, index: int, data: bytes) -> Fields | RecordError:
        try:
            text = data.decode()
            (cells,) = self._cells([text])
        except UnicodeDecodeError:
            message, value = "Record is not valid UTF-8", clipped(data[:LOOKED_AT].decode(errors="replace"))
            return RecordError(index, None, ErrorCode.ENCODING_ERROR, message, value=value)
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


class _Converting:
    """A splitter that also converts its records to JSON, many at a time."""

    def __init__(self, splitter: CellSplitter, parser: CellParser) -> None:
        self._splitter = splitter
        self._parser = parser

    def feed(self, chunk: bytes) -> Iterator[RawRecord]:
        return self._converted(self._splitter.feed(chunk))

    def finish(self) -> Iterator[RawRecord]:
        return self._converted(self._splitter.finish())

    def _converted(self, raws: Iterator[RawRecord]) -> Iterator[RawRecord]:
        while block := list(islice(raws, CONVERTED_AT_ONCE)):
            texts = self._parser.all_as_json([raw.data or b"" for raw in block])
            for raw, text in zip(block, texts, strict=True):
                if raw.data is None or text is None:
                    yield raw
                else:
                    yield RawRecord(raw.index, raw.offset, raw.data, raw.size, raw.start, text)


async def open_csv(opening: Opening) -> Reader:
    """Read the header, then open the source where the import resumes, or after the header.

    Raises:
        JobFailed: PARSE_ERROR if there is no header, or if it has no known field, or one twice.
    """
    header = await _read_header(opening)
    place = opening.place if opening.place.offset else Place(0, header.end)
    splitter = CellSplitter(place, opening.max_bytes, header.delimiter, keeps_blank=len(header.names) == 1)
    parser = CellParser(opening.table, header)
    return Reader(opening.source.open(place.offset), _Converting(splitter, parser), parser, heading=header.line)


async def _read_header(opening: Opening) -> Header:
    head = b""
    async with aclosing(opening.source.open()) as chunks:
        async for chunk in chunks:
            head += chunk
            if len(head) > 2 * MAX_HEADER_BYTES:
                break
    found = [_first_record(head, delimiter) for delimiter in DELIMITERS]
    if not any(found):
        raise JobFailed(ErrorCode.EMPTY_FILE, "The file contains no records")
    headers = [(raw, *_header_cells(raw, delimiter)) for raw, delimiter in zip(found, DELIMITERS, strict=True) if raw]
    return _header(opening, headers)


def _first_record(head: bytes, delimiter: str) -> RawRecord | None:
    """The first record of a text that is not a line for spreadsheets, if its cells are delimited so."""
    splitter = CellSplitter(Place(), MAX_HEADER_BYTES, delimiter)
    for raw in chain(splitter.feed(head), splitter.finish()):
        if raw.data is None or _SEPARATOR_LINE.fullmatch(raw.data) is None:
            return raw
    return None


def _header(opening: Opening, candidates: Sequence[tuple[RawRecord, str, list[str]]]) -> Header:
    """The header with most known fields."""
    known, columns = known_fields(opening.table), opening.options.columns or {}

    def count(candidate: tuple[RawRecord, str, list[str]]) -> int:
        return sum(_name(cell, known, columns) in known for cell in candidate[2])

    raw, delimiter, cells = max(candidates, key=count)
    if len(cells) > MAX_CELLS or raw.data is None:
        raise _unusable(f"The header is longer than {MAX_HEADER_BYTES} bytes or {MAX_CELLS} cells", cells)
    names = [_name(cell, known, columns) for cell in cells]
    if not any(name in known for name in names):
        message = f"The header has no field of {opening.table.name}; map other names to fields with `columns`"
        raise _unusable(message, cells)
    twice = [str(name) for name, times in Counter(names).items() if name in known and times > 1]
    if twice:
        raise _unusable(f"The header has {twice[0]} more than once", cells)
    return Header(raw.data + b"\n", raw.offset, delimiter, tuple(names))


def _header_cells(raw: RawRecord, delimiter: str) -> tuple[str, list[str]]:
    """The delimiter, and the cells that it yields."""
    try:
        text = (raw.data or b"").decode()
        return delimiter, next(csv.reader((text,), delimiter=delimiter, strict=True), [])
    except UnicodeDecodeError as error:
        message = "The header is not valid UTF-8; name the file's encoding with `charset` in its content type"
        raise JobFailed(ErrorCode.ENCODING_ERROR, message) from error
    except csv.Error:
        return delimiter, []


def _name(cell: str, known: set[str], columns: dict[str, str | None]) -> str | None:
    """The field that a header means, else the header itself; None if it is to be ignored."""
    for text in (cell, cell.strip()):
        if text in columns:
            return columns[text]
        if text in known:
            return text
    return cell.strip() or None


def _unusable(message: str, cells: list[str]) -> JobFailed:
    return JobFailed(ErrorCode.PARSE_ERROR, message, detail={"header": [clipped(cell) for cell in cells[:1000]]})


def _record_of(names: Sequence[str]) -> Callable[..., object]:
    """Makes a value that is encoded as an object with these members; a Struct is encoded faster than a dict."""
    if any(map(UNREADABLE.search, names)):
        return lambda *values: dict(zip(names, values, strict=True))
    attributes = {f"field_{place}": name for place, name in enumerate(names)}
    return msgspec.defstruct("Record", [(each, Any) for each in attributes], rename=attributes, gc=False)


def _cell_pattern(delimiter: str) -> str:
    """A cell that is complete: in quotes, without quotes, or empty."""
    other = f"[^{delimiter}]*+"
    return rf'"[^"]*+(?:""[^"]*+)*+"{other}|[^"{delimiter}]{other}|'


def _is_blank(line: bytes) -> bool:
    return not line.strip(b" \r\n")


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


CSV = RecordsFormat(
    name="csv",
    content_type="text/csv",
    extensions=(".csv", ".tsv"),
    content_types=("text/csv", "text/tab-separated-values"),
    open=open_csv,
)
