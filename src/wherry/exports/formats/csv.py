"""csv: RFC 4180 with a header line, in UTF-8.

Null is an empty cell, a boolean is `true` or `false`, and arrays and JSON are JSON. Text is always quoted, so that null
and an empty text differ. If the request asks for it, text that a spreadsheet would run as a formula is prefixed with an
apostrophe (OWASP, "CSV Injection"); such a file does not import back exactly.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from wherry.exports.formats.model import ExportFormat, Layout
from wherry.exports.snapshot import RowBatch
from wherry.tables.types import Form, ValueType

LINE_END = "\r\n"
_encode = msgspec.json.Encoder().encode
QUOTE, TWO_QUOTES = '"', '""'

FORMULA_STARTS = frozenset("=+-@\t\r\n＝＋－＠")
"""What formulas begin with, including the full-width forms that some spreadsheets accept."""


def encode_csv(batches: Iterable[RowBatch], layout: Layout) -> Iterator[bytes]:
    """The header, then one chunk per batch."""
    text = escape_formulas if layout.escape_formulas else quote_cells
    types = [column.type for column in layout.columns]
    yield (",".join(_header(name, text) for name in layout.fields) + LINE_END).encode()
    for batch in batches:
        # Column by column, because all values of a column have one type. The standard library's writer checks every
        # character of every cell, and takes four times as long. Each line is encoded on its own, because a single
        # character outside Latin-1 would make the text of a whole batch wider.
        cells = [_cells(type_, values, text) for type_, values in zip(types, zip(*batch, strict=True), strict=True)]
        lines = map(",".join, zip(*cells, strict=True))
        yield LINE_END.encode().join([*map(str.encode, lines), b""])


def quote_cells(texts: Sequence[str | None]) -> list[str]:
    """Texts as quoted cells."""
    return ["" if text is None else f'"{text.replace(QUOTE, TWO_QUOTES)}"' for text in texts]


def escape_formulas(texts: Sequence[str | None]) -> list[str]:
    """Texts as quoted cells, with an apostrophe in front of formulas."""
    return quote_cells([f"'{text}" if text and text[0] in FORMULA_STARTS else text for text in texts])


def _cells(type_: ValueType, read: Sequence[Any], text: Callable[[Sequence[str | None]], list[str]]) -> list[str]:
    values = type_.finished(read)
    if type_.form is Form.TEXT:
        return text(values)
    if type_.form is Form.NUMBER:  # NaN and infinity are strings in JSON
        return ["" if value is None else str(value).strip(QUOTE) for value in values]
    if type_.form is Form.BOOLEAN:
        return ["" if value is None else str(value).lower() for value in values]
    if type_.form is Form.BYTES:
        return text([None if value is None else b64encode(value).decode() for value in values])
    if type_.is_json:
        return quote_cells(values)
    return quote_cells([None if value is None else _encode(value).decode() for value in values])


def _header(name: str, text: Callable[[Sequence[str | None]], list[str]]) -> str:
    """A name as a cell, which is quoted only if that is necessary."""
    return name if name.isidentifier() else text([name])[0]


CSV = ExportFormat(name="csv", extension="csv", content_type="text/csv", encode=encode_csv)
