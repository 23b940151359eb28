"""Reading csv: where records end, what cells are, and which header a file has."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from copy import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builtin_tables import ARTICLES, USERS
from tests.integration.imports.harness import chunks_of
from wherry.errors import ErrorCode, JobFailed
from wherry.imports.models import ImportOptions, Place, RawRecord, RecordError
from wherry.imports.readers.csv import open_csv
from wherry.imports.readers.csv_cells import CellSplitter
from wherry.imports.readers.csv_parser import CellParser, Header
from wherry.imports.readers.csv_records import RecordSplitter
from wherry.imports.readers.model import Opening, Unread
from wherry.imports.source import SourceText
from wherry.storage.store import Store

MAX = 1 << 16


def fed(splitter: RecordSplitter, text: bytes, cuts: list[int]) -> list[RawRecord]:
    """All records of a text that arrives in pieces."""
    places = sorted({0, *(cut % (len(text) + 1) for cut in cuts), len(text)})
    found = [record for start, end in pairwise(places) for record in splitter.feed(text[start:end])]
    return [*found, *splitter.finish()]


def split(text: bytes, cuts: list[int], place: Place | None = None, delimiter: str = ",") -> list[RawRecord]:
    """The same without their cells, which are only known of some."""
    return [without_cells(raw) for raw in fed(CellSplitter(place or Place(), MAX, delimiter), text, cuts)]


def without_cells(raw: RawRecord) -> RawRecord:
    return RawRecord(raw.index, raw.offset, raw.data, raw.size, raw.start)


CELLS = st.text(st.sampled_from("ab,;\"\n\r\t|'\N{SNOWMAN} "), max_size=6)
ROWS = st.lists(st.lists(CELLS, min_size=2, max_size=4), max_size=8)


@given(ROWS, st.sampled_from(["\n", "\r\n"]), st.sampled_from(",;\t|"), st.lists(st.integers(0, 200), max_size=5))
def test_records_end_where_the_standard_library_ends_them(
    rows: list[list[str]], line_end: str, delimiter: str, cuts: list[int]
) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows(rows)
    text = file.getvalue().encode()
    found = split(text, cuts, delimiter=delimiter)
    parsed = [next(csv.reader([str(raw.data, "utf-8")], delimiter=delimiter, strict=True)) for raw in found]
    assert parsed == rows
    assert [raw.index for raw in found] == list(range(len(rows)))
    for record in found:  # a run may resume after any of them
        rest = split(text[record.offset :], cuts, Place(record.index + 1, record.offset), delimiter)
        assert rest == found[record.index + 1 :]


@given(st.text(st.sampled_from('ab,"\n\r '), max_size=60).map(str.encode), st.lists(st.integers(0, 60), max_size=4))
def test_any_text_is_split_the_same_however_it_arrives(text: bytes, cuts: list[int]) -> None:
    whole = split(text, [])
    assert split(text, cuts) == whole
    kept = b"\n".join(raw.data or b"" for raw in whole)
    assert [*filter(None, kept.replace(b" ", b"").replace(b"\r", b"").split(b"\n"))] == [
        *filter(None, text.replace(b" ", b"").replace(b"\r", b"").split(b"\n"))
    ]


PIECES = st.sampled_from(["a", ",", ";", '"', '""', "\n", "\r\n", "\r", " ", "1.5", "\\u0000", "\0", "\N{SNOWMAN}"])
TEXTS = st.lists(PIECES.map(str.encode) | st.just(b"\xff"), max_size=40).map(b"".join)


@given(
    st.lists(st.lists(CELLS, min_size=1, max_size=3), max_size=6),
    TEXTS,
    st.lists(st.integers(0, 200), max_size=6),
    st.integers(1, 30),
    st.sampled_from(",;"),
    st.booleans(),
)
def test_records_are_the_same_whether_or_not_their_cells_are_read_at_once(
    rows: list[list[str]], text: bytes, cuts: list[int], most: int, delimiter: str, keeps_blank: bool
) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)
    text = file.getvalue().encode() + text
    expected = fed(RecordSplitter(Place(), most, delimiter, keeps_blank=keeps_blank), text, [])
    found = fed(CellSplitter(Place(), most, delimiter, keeps_blank=keeps_blank), text, cuts)
    assert [without_cells(raw) for raw in found] == expected
    parsers = [parser(*("slug", "title", "body")[:width], delimiter=delimiter) for width in (1, 2, 3)]
    alone = [[raw.data if raw.data is None else each.as_json(raw.data) for raw in expected] for each in parsers]
    at_once = [[raw.json for raw in each.converted(map(copy, found))] for each in parsers]
    assert at_once == alone
    for record in found:  # a run may resume after any of them
        resumed = CellSplitter(Place(record.index + 1, record.offset), most, delimiter, keeps_blank=keeps_blank)
        rest = [without_cells(raw) for raw in fed(resumed, text[record.offset :], cuts)]
        assert rest == expected[record.index + 1 :]


def test_cells_are_read_at_once_up_to_the_first_fault_of_a_chunk() -> None:
    records = fed(CellSplitter(Place(), MAX, ","), b'z,z\na,"b\nc"\nd,\ne,""\nf,"g"h\ni,j\n', [])
    assert [getattr(raw, "cells", None) for raw in records] == [
        None,
        ["a", "b\nc"],
        ["d", None],
        ["e", ""],
        None,
        None,
    ]


def test_quotes_within_a_cell_without_quotes_are_text() -> None:
    found = split(b'5" pipe,a\n6" pipe,b\n"7"" pipe",c\n', [])
    assert [raw.data for raw in found] == [b'5" pipe,a', b'6" pipe,b', b'"7"" pipe",c']


def test_blank_lines_are_skipped_but_lines_of_empty_cells_are_not() -> None:
    assert [raw.data for raw in split(b"\r\n\n  \n,\r\n\n", [])] == [b",\r"]
    single = CellSplitter(Place(), MAX, ",", keeps_blank=True)
    assert [raw.data for raw in [*single.feed(b"a\n\nb\n"), *single.finish()]] == [b"a", b"", b"b"]


@pytest.mark.parametrize("cell", [b"x" * (3 * MAX), b'"' + b"x\n" * (2 * MAX) + b'"'])
def test_a_record_that_is_too_long_is_skipped_with_all_of_its_lines(cell: bytes) -> None:
    text = b"1,a\n2," + cell + b"\n3,c\n"
    found = split(text, list(range(0, len(text), 1000)))
    assert [(raw.index, raw.data, raw.size) for raw in found] == [
        (0, b"1,a", 3),
        (1, None, 2 + len(cell)),
        (2, b"3,c", 3),
    ]
    assert text[found[1].start : found[1].start + found[1].size] == b"2," + cell


def parser(*names: str | None, delimiter: str = ",") -> CellParser:
    """A parser of users and articles; none of their fields have the same name, except the id."""
    table = USERS if "email" in names or "name" in names or "active" in names else ARTICLES
    return CellParser(table, Header(b"", 0, delimiter, names))


@pytest.mark.parametrize(
    ("names", "line", "record"),
    [
        (("id", "name"), b"7,Ada", {"id": 7, "name": "Ada"}),
        (("id", "name"), b"7,", {"id": 7, "name": None}),
        (("id", "name"), b'7,""', {"id": 7, "name": ""}),
        (("id", "name"), b',"a ""b"", c\nd"\r', {"id": None, "name": 'a "b", c\nd'}),
        (("id", "name"), b"+007,  x ", {"id": 7, "name": "  x "}),
        (("id", "name"), b" -7 ,x", {"id": -7, "name": "x"}),
        (("id", "name"), b"1.50,x", {"id": 1.5, "name": "x"}),
        (("id", "name"), b'"1,5",x', {"id": "1,5", "name": "x"}),
        (("id", "name"), b"1 000,x", {"id": "1 000", "name": "x"}),
        (("id", "name"), b".,x", {"id": ".", "name": "x"}),
        (("id", "name"), b"E10,x", {"id": "E10", "name": "x"}),
        (("id", "name"), b"-.e5,x", {"id": "-.e5", "name": "x"}),
        (("id", "name"), b".5e3,x", {"id": 500.0, "name": "x"}),
        (("id", "active", "name"), b"1,TRUE,x", {"id": 1, "active": True, "name": "x"}),
        (("id", "active", "name"), b"1,no,x", {"id": 1, "active": False, "name": "x"}),
        (("id", "active", "name"), b"1,0,x", {"id": 1, "active": False, "name": "x"}),
        (("id", "active", "name"), b"1,maybe,x", {"id": 1, "active": "maybe", "name": "x"}),
        (("slug", "tags"), b'a,"[""x"", ""y""]"', {"slug": "a", "tags": ["x", "y"]}),
        (("slug", None, "title"), b"a,ignored,T", {"slug": "a", "title": "T"}),
        (("slug", "colour"), b"a,red", {"slug": "a"}),
        (("slug", "title"), "Ā,\N{SNOWMAN}".encode(), {"slug": "Ā", "title": "\N{SNOWMAN}"}),
    ],
)
def test_a_cell_becomes_json_by_the_type_of_its_column(
    names: tuple[str | None, ...], line: bytes, record: dict[str, object]
) -> None:
    found = parser(*names)
    text = found.as_json(line)
    assert text is not None
    assert json.loads(text) == record
    fields = found.fields(0, line)
    assert not isinstance(fields, RecordError)
    for name, value in record.items():
        raw = fields[name]
        assert not isinstance(raw, Unread)
        assert json.loads(bytes(raw)) == value


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (b"a", ErrorCode.INVALID_RECORD_STRUCTURE, "Record has 1 cells, but the header has 2"),
        (b"a,b,c", ErrorCode.INVALID_RECORD_STRUCTURE, "Record has 3 cells, but the header has 2"),
        (b'a,"b', ErrorCode.PARSE_ERROR, "Record is not valid csv: unexpected end of data"),
        (b'a,"b"c', ErrorCode.PARSE_ERROR, "Record is not valid csv: ',' expected after '\"'"),
        (b"a,b\rc", ErrorCode.PARSE_ERROR, "Record is not valid csv: new-line character seen in unquoted field"),
        (b"a,\xff", ErrorCode.ENCODING_ERROR, "Record is not valid UTF-8"),
    ],
)
def test_a_line_that_is_no_record_is_reported(line: bytes, code: ErrorCode, message: str) -> None:
    found = parser("slug", "title")
    assert found.as_json(line) is None
    error = found.fields(3, line)
    assert isinstance(error, RecordError)
    assert (error.index, error.code) == (3, code)
    assert error.message.startswith(message)


def test_a_header_may_have_only_columns_that_are_not_imported() -> None:
    found = CellParser(ARTICLES, Header(b"", 0, ",", ("description", None)))
    records = [*found.converted(iter(split(b"a,b\nc\nd,e\n", [])))]
    assert [record.json for record in records] == [b"{}", None, b"{}"]


NUMBERS = st.text(st.sampled_from("-+.,e01 "), max_size=6) | st.decimals(allow_nan=False, allow_infinity=False).map(str)
BOOLEANS = st.sampled_from(["true", "F", "no", "1", "maybe", ""])
LISTS = st.sampled_from(["[]", '[""x""]', "[1", "],[", "{x,y}", " null ", '{""slug"":""a""}'])


@given(st.lists(st.tuples(NUMBERS, BOOLEANS) | st.tuples(st.integers().map(str), st.just("true")), max_size=5))
def test_numbers_and_booleans_have_the_same_json_in_columns_as_alone(rows: list[tuple[str, str]]) -> None:
    lines = [f'"{number}",{boolean}'.encode() for number, boolean in rows]
    check_columns(parser("id", "active"), lines)


@given(st.lists(LISTS | st.just('[""y""]'), max_size=5))
def test_json_has_the_same_value_in_columns_as_alone(cells: list[str]) -> None:
    check_columns(parser("slug", "tags"), [f'a,"{cell}"'.encode() for cell in cells])


def check_columns(found: CellParser, lines: list[bytes]) -> None:
    """Several records have the same JSON as each of them alone, and that of their fields."""
    records = [*found.converted(iter(split(b"\n".join([*lines, b""]), [])))]
    for record, line in zip(records, lines, strict=True):
        alone = found.as_json(line)
        assert (record.json is None) == (alone is None)
        fields = found.fields(0, line)
        assert not isinstance(fields, RecordError)
        values = list(fields.values())
        assert any(isinstance(value, Unread) for value in values) == (alone is None)
        if record.json is not None and alone is not None:
            assert parsed(record.json) == parsed(alone)
            texts = ["null" if isinstance(value, Unread) else str(value, "utf-8") for value in values]
            assert list(parsed(record.json).values()) == [parsed(text) for text in texts]


def parsed(text: bytes | str) -> Any:
    """The value of a JSON text, with its numbers as they are written."""
    return json.loads(text, parse_int=str, parse_float=str)


def test_a_cell_that_must_be_json_and_is_not_is_a_fault_of_its_field() -> None:
    found = parser("slug", "tags")
    assert found.as_json(b'a,"{x,y}"') is None
    fields = found.fields(0, b'a,"{x,y}"')
    assert not isinstance(fields, RecordError)
    assert isinstance(fields["tags"], Unread)
    assert fields["tags"].fault.text == "must be JSON"


@pytest.fixture
def sources(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


async def opened(
    store: Store, text: bytes, columns: dict[str, str | None] | None = None
) -> tuple[bytes, list[bytes | None]]:
    """The header, and the records."""
    await store.put("source", chunks_of(text, 7))
    source = SourceText(store, "source", 1 << 30, may_be_utf16=True)
    reader = await open_csv(Opening(source, Place(), ARTICLES, ImportOptions(columns=columns), MAX))
    raws = [raw async for chunk in _texts(reader.chunks) for raw in reader.splitter.feed(chunk)]
    records = [
        None if raw.data is None else reader.parser.as_json(raw.data) for raw in [*raws, *reader.splitter.finish()]
    ]
    return reader.heading, records


async def _texts(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk


@pytest.mark.parametrize(
    "text",
    [
        b"slug,title\na,T\n",
        b"slug;title\r\na;T\r\n",
        b"slug\ttitle\na\tT",
        b"slug|title\na|T",
        b"\xef\xbb\xbfslug,title\na,T\n",
        "slug,title\na,T\n".encode("utf-16"),
        "\ufeffslug,title\na,T\n".encode("utf-16-be"),
        b"\n\n slug , title\na,T\n",
        b'"slug","title"\n"a","T"\n',
        b"sep=;\r\nslug;title\r\na;T\r\n",
        b"SEP=,\nslug,title\na,T\n",
        b'"a\nb",slug,title,\n1,a,T,\n',
        b'slug;"a\nb";title\na;1;T\n',
    ],
)
async def test_the_header_says_how_a_file_is_written(sources: Store, text: bytes) -> None:
    _, records = await opened(sources, text)
    assert records == [b'{"slug":"a","title":"T"}']


async def test_columns_rename_headers_and_ignore_some(sources: Store) -> None:
    text = b"Name;Kennung;title;slug\nT;a;-;-\n"
    heading, records = await opened(sources, text, {"Name": "title", "Kennung": "slug", "title": None, "slug": None})
    assert records == [b'{"title":"T","slug":"a"}']
    assert heading == b"Name;Kennung;title;slug\n"


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (b"a,b\n1,2\n", ErrorCode.PARSE_ERROR, "no field of articles"),
        (b"slug,title,slug\n", ErrorCode.PARSE_ERROR, "has slug more than once"),
        (b"", ErrorCode.EMPTY_FILE, "no records"),
        (b"\n \n", ErrorCode.EMPTY_FILE, "no records"),
        (b"slug," + b"x" * (1 << 20) + b"\n", ErrorCode.PARSE_ERROR, "longer than"),
        (b"slug" + b",x" * 5000 + b"\n", ErrorCode.PARSE_ERROR, "longer than"),
        ("Gr\xf6\xdfe,slug\n".encode("cp1252"), ErrorCode.ENCODING_ERROR, "`charset`"),
    ],
)
async def test_a_header_that_cannot_be_used_ends_the_import(
    sources: Store, text: bytes, code: ErrorCode, message: str
) -> None:
    with pytest.raises(JobFailed, match=message) as failed:
        await opened(sources, text)
    assert failed.value.code == code.name


def test_a_long_record_with_too_many_cells_is_refused_without_building_them() -> None:
    found = parser("slug", "title")
    line = b"a," * 500_000
    assert found.as_json(line) is None
    error = found.fields(0, line)
    assert isinstance(error, RecordError)
    assert (error.code, error.message) == (
        ErrorCode.INVALID_RECORD_STRUCTURE,
        "Record has more cells than the header, which has 2",
    )
    assert found.as_json(b"a," + b"x" * 500_000) is not None
