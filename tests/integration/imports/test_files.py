"""The exact outcome of importing compressed, broken and hostile files."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
import zstandard

from tests.integration.imports.harness import Bench, lines, user
from wherry.imports.models import ImportOptions

MARK = b"\xef\xbb\xbf"
USERS = [user(number, name=f"Zoë {number}") for number in range(1, 251)]
ARRAY = json.dumps(USERS).encode()


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


@pytest.mark.parametrize(
    ("format", "data"),
    [
        ("ndjson", MARK + lines(USERS)),
        ("ndjson", lines(USERS).replace(b"\n", b"\r\n\r\n  \r\n")),
        ("ndjson", lines(USERS).rstrip()),
        ("ndjson", gzip.compress(lines(USERS))),
        ("ndjson", gzip.compress(lines(USERS[:100])) + gzip.compress(lines(USERS[100:])) + b"\0\0"),
        ("ndjson", zstd(MARK + lines(USERS))),
        ("ndjson", zstd(lines(USERS[:100])) + zstd(lines(USERS[100:]))),
        ("json", ARRAY),
        ("json", MARK + b"\n " + json.dumps(USERS, indent=3).encode() + b"\n"),
        ("json", gzip.compress(ARRAY)),
        ("json", zstd(ARRAY)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_source_is_read_however_it_is_packed(bench: Bench, format: str, data: bytes) -> None:
    job = await bench.run("users", data, format=format)
    assert (job.status, job.success_count, job.total_records, job.progress) == ("succeeded", 250, 250, 100), job
    assert (await bench.rows("select count(*), max(name) as name from wherry.users"))[0] == {
        "count": 250,
        "name": "Zoë 99",
    }


DEEP = b'{"id":1,"name":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
HOSTILE: dict[str, tuple[bytes, tuple[str, str | None]]] = {
    "not JSON": (b"{nope", ("PARSE_ERROR", None)),
    "NaN": (b'{"id":1,"name":"a","x":NaN}', ("PARSE_ERROR", None)),
    "two objects": (b'{"id":1,"name":"a"}{"id":2,"name":"b"}', ("PARSE_ERROR", None)),
    "a huge number before something else": (b"9" * 9000 + b" x", ("PARSE_ERROR", None)),
    "100,000 levels": (DEEP, ("PARSE_ERROR", None)),
    "an array": (b"[1,2,3]", ("INVALID_RECORD_STRUCTURE", None)),
    "a string": (b'"x"', ("INVALID_RECORD_STRUCTURE", None)),
    "null": (b"null", ("INVALID_RECORD_STRUCTURE", None)),
    "a huge number": (b"1e999", ("INVALID_RECORD_STRUCTURE", None)),
    "bad UTF-8": (b'{"id":1,"name":"\xff"}', ("ENCODING_ERROR", None)),
    "bad UTF-8 in a field that is ignored": (b'{"id":1,"name":"a","x":"\xed\xa0\x80"}', ("ENCODING_ERROR", None)),
    "a lone surrogate": (b'{"id":1,"name":"\\ud800"}', ("ENCODING_ERROR", None)),
    "a lone surrogate further on": (b'{"id":1,"name":"a\\udc00b"}', ("ENCODING_ERROR", None)),
    "NUL": (b'{"id":1,"email":"a@b.c","name":"a\\u0000b"}', ("INVALID_FIELD_FORMAT", "name")),
    "an id of 30 digits": (b'{"id":%s,"name":"a"}' % (b"9" * 30), ("INVALID_FIELD_FORMAT", "id")),
    "an id of 9,000 digits": (b'{"id":%s,"name":"a"}' % (b"9" * 9000), ("INVALID_FIELD_FORMAT", "id")),
    "an id of 1e999": (b'{"id":1e999,"name":"a"}', ("INVALID_FIELD_TYPE", "id")),
    "an id with an exponent of 30 digits": (b'{"id":1e%s,"name":"a"}' % (b"9" * 30), ("INVALID_FIELD_TYPE", "id")),
    "an exponent of 30 digits": (b"1e" + b"9" * 30, ("INVALID_RECORD_STRUCTURE", None)),
    "no key": (b'{"name":"a"}', ("MISSING_REQUIRED_FIELD", "id")),
    "an id that is not there, and no key": (b'{"id":77,"name":"a"}', ("MISSING_REQUIRED_FIELD", "email")),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_line_harms_no_other_line(bench: Bench, name: str) -> None:
    line, fault = HOSTILE[name]
    job = await bench.run("users", lines([user(1), line, user(2)]))
    assert (job.status, job.success_count, job.error_count) == ("partial", 2, 1)
    assert await bench.faults(job) == [(1, *fault)]
    assert job.error_summary == {".".join(filter(None, fault)): 1}


async def test_the_last_of_duplicate_json_keys_counts(bench: Bench) -> None:
    await bench.run("users", b'{"id":1,"email":"a@b.c","name":"first","name":"last"}')
    assert await bench.rows("select name from wherry.users") == [{"name": "last"}]


async def test_unknown_fields_are_ignored_whatever_their_values(bench: Bench) -> None:
    job = await bench.run("users", b'{"id":1,"email":"a@b.c","name":"a","x":1e999,"y":"\\u0000","z":{"":[]}}')
    assert job.status == "succeeded"


@pytest.mark.parametrize(
    ("data", "committed", "code", "message"),
    [
        (b"", 0, "EMPTY_FILE", "no record"),
        (b"[]", 0, "EMPTY_FILE", "no record"),
        (b" \n", 0, "EMPTY_FILE", "no record"),
        (b"\xef\xbb\xbf", 0, "EMPTY_FILE", "no record"),
        (b'{"id":1}', 0, "PARSE_ERROR", "The file is an object"),
        (b'"[]"', 0, "PARSE_ERROR", "opening bracket"),
        (b"[%1,%2", 2, "PARSE_ERROR", "truncated"),
        (b"[%1,%2,", 2, "PARSE_ERROR", "a value"),
        (b'[%1,{"id":3,"na', 1, "PARSE_ERROR", "rest of a value"),
        (b"[%1,%2,]", 2, "PARSE_ERROR", "a value"),
        (b"[,%1]", 0, "PARSE_ERROR", "a value"),
        (b"[%1 %2]", 1, "PARSE_ERROR", "a comma"),
        (b"[%1]\n[%2]", 1, "PARSE_ERROR", "nothing after"),
        (b"[%1] x", 1, "PARSE_ERROR", "nothing after"),
        (b"[%1,{nope},%2]", 1, "PARSE_ERROR", "Record 1 is not valid JSON"),
        (b"[%1,nope]", 1, "PARSE_ERROR", "Record 1 is not valid JSON"),
        (b'[%1,{"a":[}],%2]', 1, "PARSE_ERROR", "Record 1 is not valid JSON"),
    ],
)
async def test_a_broken_array_fails_and_keeps_the_elements_before(
    bench: Bench, data: bytes, committed: int, code: str, message: str
) -> None:
    for number in (1, 2):
        data = data.replace(b"%%%d" % number, json.dumps(user(number)).encode())
    job = await bench.run("users", data, format="json")
    assert (job.status, job.success_count, job.error_count) == ("failed", committed, 0)
    assert job.error is not None
    assert job.error["code"] == code
    assert message in job.error["message"]
    assert await bench.faults(job) == [(-1, code, None)]
    assert job.error_summary == {code: 1}
    assert (await bench.rows("select count(*) from wherry.users"))[0]["count"] == committed


async def test_hostile_elements_harm_no_other_elements(bench: Bench) -> None:
    elements = [json.dumps(user(1)).encode(), b'"a,]"', b"7", b"null", b"[[],{}]", DEEP, b'{"id":9,"name":"\xff"}']
    job = await bench.run("users", b"[" + b" ,\n".join([*elements, json.dumps(user(2)).encode()]) + b"]", format="json")
    assert (job.status, job.success_count) == ("partial", 2)
    names = [name for _, name, _ in await bench.faults(job)]
    assert names == ["INVALID_RECORD_STRUCTURE"] * 4 + ["PARSE_ERROR", "ENCODING_ERROR"]


async def test_a_file_of_blank_lines_is_empty(bench: Bench) -> None:
    job = await bench.run("users", b"\n \r\n\t\n" * 1000)
    assert job.status == "failed"
    assert await bench.faults(job) == [(-1, "EMPTY_FILE", None)]


LONG = json.dumps(user(2, name='x"]}' * 700_000)).encode()
WITH_A_LONG_ONE = [json.dumps(user(1)).encode(), LONG, json.dumps(user(3)).encode()]


async def test_a_line_over_the_limit_is_skipped(bench: Bench) -> None:
    bench = bench.with_settings(import_max_record_bytes=2000)
    job = await bench.run("users", b"\n".join(WITH_A_LONG_ONE))
    assert (job.success_count, job.error_count) == (2, 1)
    (error,) = await bench.errors(job)
    assert (error["recordIndex"], error["errorName"]) == (1, "FIELD_TOO_LONG")
    assert error["details"] == {"bytes": len(LONG), "limit": 2000}


async def test_an_element_over_the_limit_ends_the_run(bench: Bench) -> None:
    bench = bench.with_settings(import_max_record_bytes=2000)
    job = await bench.run("users", b"[" + b",".join(WITH_A_LONG_ONE) + b"]", format="json")
    assert (job.status, job.success_count) == ("failed", 1)
    assert await bench.faults(job) == [(-1, "FIELD_TOO_LONG", None)]


async def test_a_file_with_too_many_records_fails_after_the_last_allowed_one(bench: Bench) -> None:
    job = await bench.with_settings(import_max_records=120).run("users", USERS)
    assert (job.status, job.success_count) == ("failed", 120)
    assert await bench.faults(job) == [(-1, "TOO_MANY_RECORDS", None)]


@pytest.mark.parametrize("wrap", [bytes, gzip.compress, zstd], ids=["plain", "gzip", "zstd"])
async def test_a_source_larger_than_allowed_once_decompressed_fails(bench: Bench, wrap: Any) -> None:
    job = await bench.with_settings(import_max_file_size=100_000).run("users", wrap(b" " * 200_000))
    assert job.status == "failed"
    assert await bench.faults(job) == [(-1, "FILE_TOO_LARGE", None)]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (gzip.compress(lines(USERS))[:-20], "FILE_READ_ERROR"),
        (zstd(lines(USERS))[:-5], "FILE_READ_ERROR"),
        (b"\x1f\x8b nonsense", "FILE_READ_ERROR"),
        (b"\x28\xb5\x2f\xfd nonsense", "FILE_READ_ERROR"),
        ("﻿{}".encode("utf-16"), "ENCODING_ERROR"),
    ],
)
async def test_a_damaged_source_fails(bench: Bench, data: bytes, code: str) -> None:
    job = await bench.run("users", data)
    assert job.status == "failed"
    assert (await bench.faults(job))[0] == (-1, code, None)


async def test_an_import_whose_source_is_missing_fails(bench: Bench) -> None:
    job = await bench.execute(await bench.submit("users", None))
    assert job.status == "failed"
    assert await bench.faults(job) == [(-1, "FILE_READ_ERROR", None)]


async def test_a_dry_run_of_a_broken_file_has_the_same_result(bench: Bench) -> None:
    data = b"[" + json.dumps(user(1)).encode() + b",{}, nope"
    real = await bench.run("users", data, format="json")
    await bench.do("delete from wherry.users")
    dry = await bench.run("users", data, format="json", options=ImportOptions(dry_run=True))
    assert await bench.faults(dry) == await bench.faults(real)
    assert (dry.status, dry.success_count, dry.error_summary) == (real.status, real.success_count, real.error_summary)
    assert await bench.rows("select 1 from wherry.users") == []
