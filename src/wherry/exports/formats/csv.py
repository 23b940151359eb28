"""csv: RFC 4180 with a header line, in UTF-8.

Null is an empty cell, a boolean `true` or `false`, an array a JSON array; text is always in quotes, so that null and an
empty text differ. Text that a spreadsheet would run as a formula gets an apostrophe in front (OWASP, "CSV Injection"),
unless the export asks for the text as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from wherry.exports.formats.model import Format, Layout
from wherry.exports.snapshot import Batch

FORMULA_STARTS = frozenset("=+-@\t\r\n＝＋－＠")
"""What a cell must begin with to be run, the full-width forms that some spreadsheets take for the same included."""


def encode(batches: Iterable[Batch], layout: Layout) -> Iterator[bytes]:
    """The header, then a chunk a batch."""
    text = escaped if layout.escape_formulas else quoted
    yield (",".join(layout.fields) + "\r\n").encode()
    for batch in batches:
        # Column by column, as all values of a column are of one type; the standard library's writer looks at every
        # character of every cell, and takes four times as long.
        columns = [_cells(values, text) for values in zip(*batch, strict=True)]
        lines = map(",".join, zip(*columns, strict=True))
        yield ("\r\n".join(lines) + "\r\n").encode()


def quoted(text: str) -> str:
    """The text as a cell."""
    return '"' + text.replace('"', '""') + '"'


def escaped(text: str) -> str:
    """The text as a cell, with an apostrophe in front where a spreadsheet would run it."""
    return quoted("'" + text if text and text[0] in FORMULA_STARTS else text)


def _cells(values: Sequence[Any], text: Callable[[str], str]) -> list[str]:
    sample = next((value for value in values if value is not None), None)
    if isinstance(sample, str):
        write: Callable[[Any], str] = text
    elif isinstance(sample, bool):
        write = _boolean
    elif isinstance(sample, list):
        write = _array
    else:
        write = str
    return ["" if value is None else write(value) for value in values]


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _array(values: list[Any]) -> str:
    return quoted(msgspec.json.encode(values).decode())


CSV = Format(name="csv", extension="csv", content_type="text/csv", encode=encode)
