from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Sequence
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builtin_tables import ARTICLES, USERS
from tests.hostile import HOSTILE_TEXTS
from wherry.errors import Invalid
from wherry.exports.compression import GZIP, ZSTD, find_compression
from wherry.exports.formats import FORMATS, PAGE_FORMATS, find_format
from wherry.exports.formats.csv import FORMULA_STARTS
from wherry.exports.formats.model import Layout

FIELDS = ("id", "title", "tags", "active", "published_at")
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
ROWS = st.lists(
    st.tuples(
        st.integers(1, 2147483647),
        TEXTS,
        st.lists(TEXTS, max_size=3),
        st.booleans() | st.none(),
        st.just("2024-05-01T00:00:00.000Z") | st.none(),
    ),
    max_size=12,
)


def written(
    name: str, batches: Sequence[Sequence[Any]], fields: tuple[str, ...] = FIELDS, *, escape: bool = True
) -> bytes:
    columns = tuple({**ARTICLES.columns, **USERS.columns}[field] for field in fields)
    layout = Layout(table=ARTICLES, columns=columns, escape_formulas=escape)
    return b"".join(FORMATS[name].encode(batches, layout))


def records(rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(FIELDS, row, strict=True)) for row in rows]


def halves(rows: list[Any]) -> list[list[Any]]:
    middle = len(rows) // 2
    return [half for half in (rows[:middle], rows[middle:]) if half]


@settings(max_examples=40)
@given(ROWS)
def test_ndjson_is_one_record_per_line_with_exact_values(rows: list[Any]) -> None:
    content = written("ndjson", halves(rows))
    lines = content.split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line) for line in lines] == records(rows)


@settings(max_examples=40)
@given(ROWS)
def test_json_is_one_array_with_exact_values(rows: list[Any]) -> None:
    assert json.loads(written("json", halves(rows))) == records(rows)


@settings(max_examples=40)
@given(ROWS)
def test_csv_without_escapes_has_exact_values(rows: list[Any]) -> None:
    read = list(csv.reader(io.StringIO(written("csv", halves(rows), escape=False).decode(), newline="")))
    assert read[0] == list(FIELDS)
    assert [(int(row[0]), row[1], json.loads(row[2])) for row in read[1:]] == [row[:3] for row in rows]
    flags = {None: "", True: "true", False: "false"}
    assert [row[3:] for row in read[1:]] == [[flags[row[3]], row[4] or ""] for row in rows]


@settings(max_examples=40)
@given(ROWS)
def test_escaped_csv_has_no_formulas_and_keeps_the_text(rows: list[Any]) -> None:
    read = list(csv.reader(io.StringIO(written("csv", [rows] if rows else []).decode(), newline="")))[1:]
    for row, (_, title, *_) in zip(read, rows, strict=True):
        assert not any(cell and cell[0] in FORMULA_STARTS for cell in row)
        assert row[1] in (title, f"'{title}")


@pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=[ascii(text[:24]) for text in HOSTILE_TEXTS])
def test_hostile_text_is_exact_in_every_format(text: str) -> None:
    rows = [(1, text, [text, "", text[:9]], True, None)]
    assert json.loads(written("ndjson", [rows])) == records(rows)[0]
    assert written("ndjson", [rows]).count(b"\n") == 1
    assert json.loads(written("json", [rows])) == records(rows)
    previous = csv.field_size_limit(1 << 30)
    try:
        cells = list(csv.reader(io.StringIO(written("csv", [rows], escape=False).decode(), newline="")))[1]
    finally:
        csv.field_size_limit(previous)
    assert cells == ["1", text, cells[2], "true", ""]
    assert json.loads(cells[2]) == [text, "", text[:9]]


def test_csv_follows_rfc_4180_to_the_byte() -> None:
    rows = [(1, 'say "hi", all', ["a,b"], True, None), (2, "two\nlines", [], None, "2024-05-01T00:00:00.000Z")]
    assert written("csv", [rows]) == (
        b"id,title,tags,active,published_at\r\n"
        b'1,"say ""hi"", all","[""a,b""]",true,\r\n'
        b'2,"two\nlines","[]",,"2024-05-01T00:00:00.000Z"\r\n'
    )


def test_null_and_empty_text_differ_in_csv() -> None:
    assert written("csv", [[("", None), (None, "")]], ("slug", "title")) == b'slug,title\r\n"",\r\n,""\r\n'


@pytest.mark.parametrize("start", sorted(FORMULA_STARTS))
def test_csv_escapes_every_kind_of_formula_unless_disabled(start: str) -> None:
    rows = [(f"{start}1+1",)]
    assert written("csv", [rows], ("title",)).decode() == f'title\r\n"\'{start}1+1"\r\n'
    assert written("csv", [rows], ("title",), escape=False).decode() == f'title\r\n"{start}1+1"\r\n'


def test_an_export_of_nothing_is_valid() -> None:
    assert written("ndjson", []) == b""
    assert written("json", []) == b"[]"
    assert written("csv", []) == b"id,title,tags,active,published_at\r\n"


def test_unknown_formats_are_refused_and_the_default_is_ndjson() -> None:
    assert find_format(None) is FORMATS["ndjson"]
    for name in ("xml", "nd json", 7, ["json"], ""):
        with pytest.raises(Invalid) as refused:
            find_format(name)
        assert (list(refused.value.fields), refused.value.code) == (["format"], "UNSUPPORTED_FORMAT")
    assert list(PAGE_FORMATS) == ["ndjson", "json"]


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_compressed_chunks_decompress_to_the_original(chunks: list[bytes]) -> None:
    assert gzip.decompress(b"".join(GZIP.pack(chunks))) == b"".join(chunks)
    packed = b"".join(ZSTD.pack(chunks))
    assert zstandard.ZstdDecompressor().decompressobj().decompress(packed) == b"".join(chunks)


def test_unknown_compressions_are_refused_and_the_default_is_none() -> None:
    assert find_compression(None) is None
    with pytest.raises(Invalid) as refused:
        find_compression("br")
    assert list(refused.value.fields) == ["compression"]
