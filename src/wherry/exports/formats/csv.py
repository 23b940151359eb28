"""csv: RFC 4180 with a header line, in UTF-8.

Null is an empty cell, a boolean `true` or `false`, an array a JSON array; text is always in quotes, so that null and an
empty text differ. Text that a spreadsheet would run as a formula gets an apostrophe in front (OWASP, "CSV Injection"),
unless the export asks for the text as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from wherry.exports.formats.model import ExportFormat, Layout
from wherry.exports.snapshot import RowBatch

LINE_END = "\r\n"
QUOTE, TWO_QUOTES = '"', '""'

FORMULA_STARTS = frozenset("=+-@\t\r\n＝＋－＠")
"""What a cell must begin with to be run, the full-width forms that some spreadsheets take for the same included."""


def encode_csv(batches: Iterable[RowBatch], layout: Layout) -> Iterator[bytes]:
    """The header, then a chunk a batch."""
    text = escape_formulas if layout.escape_formulas else quote_cells
    yield (",".join(layout.fields) + LINE_END).encode()
    for batch in batches:
        # Column by column, as all values of a column are of one type; the standard library's writer looks at every
        # character of every cell, and takes four times as long. Line by line to bytes, as one character outside
        # Latin-1 would widen a whole batch.
        columns = [_cells(values, text) for values in zip(*batch, strict=True)]
        lines = map(",".join, zip(*columns, strict=True))
        yield LINE_END.encode().join([*map(str.encode, lines), b""])


def quote_cells(texts: Sequence[str | None]) -> list[str]:
    """Texts as cells."""
    return ["" if text is None else f'"{text.replace(QUOTE, TWO_QUOTES)}"' for text in texts]


def escape_formulas(texts: Sequence[str | None]) -> list[str]:
    """Texts as cells, with an apostrophe in front of what a spreadsheet would run."""
    return quote_cells([f"'{text}" if text and text[0] in FORMULA_STARTS else text for text in texts])


def _cells(values: Sequence[Any], text: Callable[[Sequence[str | None]], list[str]]) -> list[str]:
    sample = next((value for value in values if value is not None), None)
    if isinstance(sample, str):
        return text(values)
    if isinstance(sample, bool):
        return ["" if value is None else str(value).lower() for value in values]
    if isinstance(sample, list):
        encode_json = msgspec.json.Encoder().encode
        return quote_cells([None if value is None else encode_json(value).decode() for value in values])
    return ["" if value is None else str(value) for value in values]


CSV = ExportFormat(name="csv", extension="csv", content_type="text/csv", encode=encode_csv)
