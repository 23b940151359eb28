"""Whole imports of csv files."""

from __future__ import annotations

import gzip
import json

import pytest

from tests.integration.imports.harness import Bench
from tests.integration.imports.test_declared_tables import declare
from wherry.imports.models import ImportOptions, OnConflict, UnknownFields
from wherry.jobs.states import Status

PEOPLE = """create table people (
  id int primary key, name text not null check (name <> 'nobody'), born date, height numeric(4, 2), is_tall boolean,
  tags text[], extra jsonb, photo bytea, seen timestamptz not null default now(),
  twice int generated always as (id * 2) stored
)"""


@pytest.fixture
async def people(bench: Bench) -> Bench:
    return await declare(bench, PEOPLE, people="public.people")


async def test_a_file_from_a_spreadsheet(people: Bench) -> None:
    text = (
        "\ufeffID;name;born;height;is_tall;twice\r\n"
        '1;"Ada ""the first""; Lovelace";1815-12-10;1.6;no;\r\n'
        '2;"two\r\nlines";;;TRUE;7\r\n'
        "3;;;;;\r\n"
        "\r\n"
        "4;Z\u00fcrich;someday;1,7;perhaps;\r\n"
    ).encode()
    options = ImportOptions(columns={"ID": "id"})
    job = await people.run("people", text, format="csv", options=options)
    assert await people.faults(job) == [
        (2, "MISSING_REQUIRED_FIELD", "name"),
        (3, "INVALID_FIELD_TYPE", "height"),
        (3, "INVALID_FIELD_TYPE", "is_tall"),
        (3, "INVALID_FIELD_FORMAT", "born"),
    ]
    assert [error["value"] for error in await people.errors(job)] == [None, "1,7", "perhaps", "someday"]
    assert (job.status, job.success_count, job.error_count) == (Status.PARTIAL, 2, 2)
    assert await people.rows("select id, name, born::text, height::text, is_tall, twice from people order by id") == [
        {
            "id": 1,
            "name": 'Ada "the first"; Lovelace',
            "born": "1815-12-10",
            "height": "1.60",
            "is_tall": False,
            "twice": 2,
        },
        {"id": 2, "name": "two\r\nlines", "born": None, "height": None, "is_tall": True, "twice": 4},
    ]


async def test_an_empty_cell_is_null_and_empty_quotes_are_an_empty_text(people: Bench) -> None:
    await people.run("people", [{"id": 1, "name": "a", "born": "2000-01-01", "tags": ["x"]}])
    update = ImportOptions(OnConflict.UPDATE)
    job = await people.run("people", b'id,name,born,tags\n1,"",,\n', format="csv", options=update)
    assert job.status is Status.SUCCEEDED
    rows = await people.rows("select name, born, tags from people")
    assert rows == [{"name": "", "born": None, "tags": None}]


async def test_cells_of_json_arrays_and_bytes(people: Bench) -> None:
    text = (
        b"id,name,tags,extra,photo\n"
        b'1,a,"[""x"", null]","{""a"": [1.50]}",AAEC\n'
        b'2,b,{x},,\n3,c,[],{a},\n4,d,"[1]","""text""",\n'
    )
    job = await people.run("people", text, format="csv")
    found = [(error["recordIndex"], error["field"], error["message"]) for error in await people.errors(job)]
    assert [each[:2] for each in found] == [(1, "tags"), (2, "extra"), (3, "tags")]
    assert found[0][2].endswith("must be JSON")
    assert await people.rows("select tags, extra::text, photo from people") == [
        {"tags": ["x", None], "extra": '{"a": [1.50]}', "photo": b"\x00\x01\x02"}
    ]


@pytest.mark.parametrize(
    ("text", "charset"),
    [
        ("id,name\n1,Stra\xdfe\n".encode("cp1252"), "windows-1252"),
        ("id,name\n1,Stra\xdfe\n".encode("utf-16"), None),
        (gzip.compress("id,name\n1,Stra\xdfe\n".encode("utf-16-le")), "utf-16le"),
        ("\ufeffid,name\n1,Stra\xdfe\n".encode(), "windows-1252"),  # the mark is right, whatever is declared
    ],
    ids=["cp1252", "utf-16", "gzip-utf-16le", "utf-8-mark"],  # gzip data holds a time: no name for a test
)
async def test_files_in_other_encodings(people: Bench, text: bytes, charset: str | None) -> None:
    job = await people.run("people", text, format="csv", charset=charset)
    assert job.status is Status.SUCCEEDED, await people.errors(job)
    assert await people.rows("select name from people") == [{"name": "Stra\xdfe"}]


async def test_a_file_that_is_not_in_the_encoding_that_was_declared_ends_the_import(people: Bench) -> None:
    text = b"id,name\n" + b"".join(b"%d,x\n" % number for number in range(5)) + b"9,\x81\x8d\n"
    job = await people.run("people", text, format="csv", charset="windows-1252")
    assert await people.faults(job) == [(-1, "ENCODING_ERROR", None)]


async def test_a_record_in_another_encoding_is_an_error_of_its_own(people: Bench) -> None:
    job = await people.run("people", b"id,name\n1,a\n2,Stra\xdfe\n3,c\n", format="csv")
    assert await people.faults(job) == [(1, "ENCODING_ERROR", None)]
    assert job.success_count == 2


async def test_ragged_and_broken_lines_do_not_end_the_import(people: Bench) -> None:
    job = await people.run("people", b'id,name\n1,a\n2\n3,c,d\n4,"d"d\n5,e\n6,"f\n7,g\n', format="csv")
    assert await people.faults(job) == [
        (1, "INVALID_RECORD_STRUCTURE", None),
        (2, "INVALID_RECORD_STRUCTURE", None),
        (3, "PARSE_ERROR", None),
        (5, "PARSE_ERROR", None),
    ]
    assert await people.rows("select id from people order by id") == [{"id": 1}, {"id": 5}]


async def test_the_header_of_a_file_that_cannot_be_imported_is_in_the_details(people: Bench) -> None:
    job = await people.run("people", b"Nr,Text\n1,a\n", format="csv")
    (error,) = await people.errors(job)
    assert (error["errorName"], error["details"]) == ("PARSE_ERROR", {"header": ["Nr", "Text"]})
    assert (job.status, job.error_count) == (Status.FAILED, 0)
    assert "columns" in error["message"]


@pytest.mark.parametrize("format", ["ndjson", "csv"])
async def test_unknown_fields_are_ignored_counted_or_refused(people: Bench, format: str) -> None:
    records = [{"id": number, "name": "x", "twice": 1, "colour": "red", "shape": 3} for number in range(1, 4)]
    if format == "csv":
        data = b"id,name,twice,colour,shape\n" + b"".join(b"%d,x,1,red,3\n" % each["id"] for each in records)
    else:
        data = b"".join(json.dumps(each).encode() + b"\n" for each in records)
    job = await people.run("people", data, format=format, options=ImportOptions(dry_run=True))
    assert (job.status, (job.checkpoint or {}).get("unknown")) == (Status.SUCCEEDED, None)
    noted = ImportOptions(dry_run=True, unknown_fields=UnknownFields.WARN)
    job = await people.with_settings(import_batch_size=2).run("people", data, format=format, options=noted)
    assert job.status is Status.SUCCEEDED
    assert (job.checkpoint or {})["unknown"] == {"colour": 3, "shape": 3}
    refused = ImportOptions(unknown_fields=UnknownFields.ERROR)
    job = await people.run("people", data, format=format, options=refused)
    assert await people.faults(job) == [
        (number, "INVALID_RECORD_STRUCTURE", name) for number in range(3) for name in ("colour", "shape")
    ]
    assert await people.rows("select id from people") == []


@pytest.mark.parametrize("atomic", [False, True])
async def test_an_import_with_too_many_errors_stops(people: Bench, atomic: bool) -> None:
    records = [{"id": number, "name": None if number % 2 else "x"} for number in range(100)]
    small = people.with_settings(import_batch_size=10)
    job = await small.run("people", records, options=ImportOptions(max_errors=12, atomic=atomic))
    assert job.status is Status.FAILED
    assert (job.error or {})["code"] == "BATCH_FAILED"
    assert job.error_count == 15
    assert job.success_count == (0 if atomic else 15)
    assert len(await people.rows("select id from people")) == job.success_count
    assert len(await people.faults(job)) == 16  # with that of the file
    job = await small.run("people", records, options=ImportOptions(OnConflict.UPDATE, max_errors=50))
    assert (job.status, job.error_count) == (Status.PARTIAL, 50)
