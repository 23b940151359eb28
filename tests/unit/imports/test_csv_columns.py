"""Decoding csv column by column gives the same records as decoding them one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, structs
from msgspec.structs import astuple

from tests.builtin_tables import TABLES
from wherry.imports.decode import Decoder
from wherry.imports.models import DecodedRecord, Place, RawRecord
from wherry.imports.readers.csv_cells import CellSplitter
from wherry.imports.readers.csv_parser import CellParser, Header
from wherry.tables.model import Column, Table, TableName
from wherry.tables.types import CatalogType, find_type

NAMES = ("bool", "int2", "int8", "numeric", "text", "varchar", "uuid", "date", "time", "timestamp", "timestamptz")
OTHERS = ("json", "jsonb", "bytea", "interval", "inet")
TYPES = {
    **{oid: CatalogType(oid, "pg_catalog", name, name) for oid, name in enumerate((*NAMES, *OTHERS), 1)},
    100: CatalogType(100, "pg_catalog", "_int8", "int8[]", element=3),
    101: CatalogType(101, "pg_catalog", "_text", "text[]", element=5),
    102: CatalogType(102, "s", "state", "s.state", labels=["new", "sold", ""]),
}
VALID = {
    "bool": "true",
    "int2": "-7",
    "int8": "12",
    "numeric": "1.50",
    "text": "null",
    "varchar": "abcde",
    "uuid": "00000000-0000-4000-8000-00000000000A",
    "date": "2024-02-29",
    "time": "08:15:00.5",
    "timestamp": "2024-02-29T08:15:00",
    "timestamptz": "2024-02-29T08:15:00.123456Z",
    "json": '{""a"": 1.50}',
    "jsonb": "null",
    "bytea": "AAEC",
    "interval": "P1D",
    "inet": "::1",
    "_int8": "[1, null]",
    "_text": '[""x""]',
    "state": "sold",
}
BUILT_IN = {
    "users": {"id": "1", "email": "a@example.org", "username": "a", "name": "A", "role": "user", "active": "true"},
    "articles": {
        "id": "1",
        "slug": "a-b",
        "title": "T",
        "body": "B",
        "author_id": "1",
        "tags": '"[""x""]"',
        "published_at": "2024-02-29T08:15:00Z",
        "status": "published",
    },
    "comments": {"id": "1", "body": "B", "article_id": "1", "user_id": "1"},
}
ODD = (
    "",
    '""',
    " ",
    "null",
    "NaN",
    "1",
    "1,2",
    "-0",
    "1e3",
    "+1",
    "9" * 30,
    "T",
    "infinity",
    "01/31/2026",
    "[1",
    "2]",
    "é",
)
CELLS = st.sampled_from([*VALID.values(), *ODD]) | st.text(st.sampled_from('0123456789.-+:TZe,[]{}" nul'), max_size=6)


def table_of(oid: int, *, is_nullable: bool) -> Table:
    typmod = 9 if TYPES[oid].name == "varchar" else -1
    columns = {
        "x": Column(name="x", type=find_type(oid, typmod, TYPES), declared="", cast="", is_nullable=is_nullable),
        "absent": Column(name="absent", type=find_type(5, -1, TYPES), declared="", cast=""),
    }
    return Table(name="things", relation=TableName("s", "things"), columns=columns, fields=tuple(columns), key=())


def decoded(
    table: Table, names: tuple[str, ...], rows: list[tuple[str, ...]], role: str = "admin"
) -> tuple[list[RawRecord], list[DecodedRecord], Decoder]:
    """The records of a file with these columns."""
    decoder = Decoder(table, CellParser(table, Header(b"", 0, ",", names)), caller_role=role, max_bytes=1 << 20)
    splitter = CellSplitter(Place(), 1 << 20, ",")
    raws = [*splitter.feed("".join(f"{','.join(row)}\n" for row in rows).encode()), *splitter.finish()]
    raws = list(decoder.prepared(iter(raws)))
    return raws, [decoder.decode(raw) for raw in raws], decoder


def check(raws: list[RawRecord], found: list[DecodedRecord], decoder: Decoder) -> None:
    """Each record is the same as if it was decoded alone."""
    for raw, entry in zip(raws, found, strict=True):
        alone = RawRecord(raw.index, raw.offset, raw.data, raw.size, raw.start)
        assert comparable(decoder.decode(alone)) == comparable(entry)


def comparable(entry: DecodedRecord) -> str:
    """Everything about a record, as text: NaN is not equal to itself."""
    values = () if entry.record is None else astuple(entry.record)
    return repr(structs.replace(entry, record=[bytes(each) if isinstance(each, Raw) else each for each in values]))


@pytest.mark.parametrize("is_nullable", [False, True])
@pytest.mark.parametrize("oid", TYPES, ids=[each.name for each in TYPES.values()])
@given(cells=st.lists(CELLS, min_size=1, max_size=4), data=st.data())
def test_columns_have_the_values_that_their_records_have_alone(
    oid: int, is_nullable: bool, cells: list[str], data: st.DataObject
) -> None:
    quoted = [
        f'"{cell}"' if '""' not in cell and '"' not in cell and data.draw(st.booleans()) else cell for cell in cells
    ]
    table = table_of(oid, is_nullable=is_nullable)
    check(*decoded(table, ("other", "x"), [("a", cell) for cell in quoted]))


@pytest.mark.parametrize("oid", TYPES, ids=[each.name for each in TYPES.values()])
def test_columns_of_every_type_are_decoded_at_once(oid: int) -> None:
    name = TYPES[oid].name
    table = table_of(oid, is_nullable=True)
    raws, found, _ = decoded(table, ("other", "x"), [("a", f'"{VALID[name]}"'), ("a", "")])
    assert all(raw.record is not None and raw.json is None for raw in raws)
    assert not any(entry.errors for entry in found)
    assert [entry.record for entry in found] == [raw.record for raw in raws]


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("role", ["admin", "user"])
@given(data=st.data())
def test_the_rules_of_the_built_in_tables_apply_in_columns_too(name: str, role: str, data: st.DataObject) -> None:
    valid = BUILT_IN[name]
    fields = tuple(field for field in valid if data.draw(st.integers(0, 9)))
    cell = {
        field: st.sampled_from([valid[field]] * 8 + ["", "draft", "admin", "0", " a ", "A", '""']) for field in fields
    }
    rows = data.draw(st.lists(st.tuples(*cell.values()), min_size=1, max_size=4))
    check(*decoded(TABLES[name], (*fields, "other"), [(*row, "a") for row in rows], role))


@pytest.mark.parametrize("name", BUILT_IN)
def test_sound_records_of_the_built_in_tables_are_decoded_at_once(name: str) -> None:
    raws, found, _ = decoded(TABLES[name], tuple(BUILT_IN[name]), [tuple(BUILT_IN[name].values())] * 2)
    assert all(raw.record is not None for raw in raws)
    assert [entry.record for entry in found] == [raw.record for raw in raws]
