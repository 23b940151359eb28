"""csv: a header line, then a line per record (RFC 4180), separated by commas, semicolons, tabs or vertical bars.

The header decides which of them it is: the one that yields most known fields. An empty cell is null, and `""` is an
empty text. Other cells become JSON by the type of their column: numbers and booleans without quotes, arrays and objects
as they are, everything else as a string.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from itertools import chain

from wherry.errors import ErrorCode, JobFailed
from wherry.imports.models import Place, RawRecord, clipped
from wherry.imports.readers.csv_cells import CellSplitter
from wherry.imports.readers.csv_parser import CellParser, Header
from wherry.imports.readers.model import Opening, Reader, RecordsFormat
from wherry.tables.derivation import known_fields

DELIMITERS = ",;\t|"
MAX_HEADER_BYTES = 1 << 20
MAX_CELLS = 5000
"""Of a header; PostgreSQL's tables have at most 1,600 columns."""

_SEPARATOR_LINE = re.compile(rb"sep=([,;\t|])\r?", re.IGNORECASE)
"""The first line of some files, which tells spreadsheets how cells are separated."""


async def open_csv(opening: Opening) -> Reader:
    """Read the header, then open the source where the import resumes, or after the header.

    Raises:
        JobFailed: PARSE_ERROR if there is no header, or if it has no known field, or one twice.
    """
    header = await _read_header(opening)
    place = opening.place if opening.place.offset else Place(0, header.end)
    splitter = CellSplitter(place, opening.max_bytes, header.delimiter, keeps_blank=len(header.names) == 1)
    parser = CellParser(opening.table, header)
    return Reader(opening.source.open(place.offset), splitter, parser, heading=header.line)


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
    """The field that a header means, else the header itself; None if it is ignored."""
    for text in (cell, cell.strip()):
        if text in columns:
            return columns[text]
        if text in known:
            return text
    return cell.strip() or None


def _unusable(message: str, cells: list[str]) -> JobFailed:
    return JobFailed(ErrorCode.PARSE_ERROR, message, detail={"header": [clipped(cell) for cell in cells[:1000]]})


CSV = RecordsFormat(
    name="csv",
    content_type="text/csv",
    extensions=(".csv", ".tsv"),
    content_types=("text/csv", "text/tab-separated-values"),
    open=open_csv,
    own_options=("columns",),
    any_encoding=True,
)
