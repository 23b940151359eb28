"""Csv files that are crafted to be slow to read, or to take much memory."""

from __future__ import annotations

import time

import pytest

from tests.builtin_tables import ARTICLES
from wherry.imports.models import Place, RecordError
from wherry.imports.readers.csv_cells import CellSplitter
from wherry.imports.readers.csv_parser import CellParser, Header

pytestmark = pytest.mark.security

MAX_RECORD_BYTES = 1 << 19
CHUNK = 1 << 18
TEXT_BYTES = 1 << 20

PARTS = {
    "empty texts": b'"",',
    "quotes": b'"',
    "pairs of quotes": b'""',
    "lines of quotes": b'"\n',
    "lines of pairs": b'""\n',
    "lines that open and close": b'","\n',
    "lines within quotes": b"x\n",
    "quotes within cells": b'x",',
    "empty cells": b",",
    "empty lines": b"\n",
    "carriage returns": b"\r",
}


def seconds(text: bytes) -> tuple[float, int]:
    """How long it takes to split and parse a text, and how many bytes of records that were kept it has."""
    splitter = CellSplitter(Place(), MAX_RECORD_BYTES, ",")
    parser = CellParser(ARTICLES, Header(b"", 0, ",", ("slug", "title")))
    kept = 0
    start = time.process_time()
    for at in range(0, len(text), CHUNK):
        for raw in [*splitter.feed(text[at : at + CHUNK])]:
            if raw.data is not None:
                kept = max(kept, len(raw.data))
                if parser.as_json(raw.data) is None:
                    assert isinstance(parser.fields(raw.index, raw.data), RecordError)
    for _ in splitter.finish():
        pass
    return time.process_time() - start, kept


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS.keys())
@pytest.mark.parametrize("opening", [b"", b'"'], ids=["outside", "within quotes"])
def test_a_file_of_many_small_parts_is_read_in_linear_time(opening: bytes, part: bytes) -> None:
    short, _ = seconds(opening + part * (TEXT_BYTES // 4 // len(part)))
    long, kept = seconds(opening + part * (TEXT_BYTES // len(part)))
    print(f"{short:.2f} s, then {long:.2f} s for four times as much")
    assert long < 16 * max(short, 0.1)
    assert kept <= MAX_RECORD_BYTES
