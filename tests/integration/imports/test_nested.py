"""The exact outcome of importing the records inside a JSON document."""

from __future__ import annotations

import asyncio
import gzip
import json
from array import array
from typing import Any

import pytest

from tests.builtin_tables import USERS
from tests.integration.imports.harness import Bench, user
from tests.integration.imports.test_declared_tables import declare
from tests.integration.imports.test_interruptions import (
    BAD,
    BY_TWO_AUTHORS,
    author_2_locked,
    claimed,
    counted,
    until_committed,
)
from wherry.imports.models import ImportOptions, Place
from wherry.imports.readers.json import JSON
from wherry.imports.readers.model import Opening
from wherry.imports.rejects import stream
from wherry.imports.source import SourceText
from wherry.jobs import ledger

DATA = ImportOptions(records_at="data")


def page(records: list[Any]) -> bytes:
    """A page as wherry exports it."""
    return json.dumps({"data": records, "nextCursor": "abc"}).encode()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda data: b"\xef\xbb\xbf\n" + data])
async def test_a_page_of_an_export_is_imported(bench: Bench, pack: Any) -> None:
    records = [user(number, name=f"Zoë {number}") for number in range(1, 251)]
    job = await bench.run("users", pack(page(records)), format="json", options=DATA)
    assert (job.status, job.success_count, job.total_records, job.progress) == ("succeeded", 250, 250, 100), job
    assert await bench.rows("select name from wherry.users where id = 250") == [{"name": "Zoë 250"}]


async def test_geojson_is_imported(bench: Bench) -> None:
    place = "create table public.place (id bigint primary key, type text, geometry jsonb not null, properties jsonb)"
    declared = await declare(bench, place, places="public.place")
    features = """
    {"type": "Feature", "id": 1, "geometry": {"type": "Point", "coordinates": [10.10, -0.5e1]}, "properties": null},
    {"type": "Feature", "id": 2, "geometry": {"type": "Point", "coordinates": [1e3, 12345678901234567890.123]},
     "properties": {"features": [1]}},
    {"type": "Feature", "id": 3, "geometry": null, "properties": {}}
    """
    data = f'{{"type": "FeatureCollection", "bbox": [1, 2], "features": [{features}]}}'.encode()
    job = await declared.run("places", data, format="json", options=ImportOptions(records_at="features"))
    assert (job.status, job.success_count, job.error_count) == ("partial", 2, 1)
    assert await declared.faults(job) == [(2, "MISSING_REQUIRED_FIELD", "geometry")]
    assert await declared.rows("select geometry ->> 'coordinates' as at from place order by id") == [
        {"at": "[10.10, -5]"},
        {"at": "[1000, 12345678901234567890.123]"},
    ]


async def test_a_fhir_bundle_is_imported(bench: Bench) -> None:
    patient = 'create table public.patient (id text primary key, active boolean, name jsonb, "resourceType" text)'
    declared = await declare(bench, patient, patients="public.patient")
    patients = [
        {"resourceType": "Patient", "id": f"p{n}", "active": n % 2 == 0, "name": [{"family": "X", "given": ["Y"]}]}
        for n in range(300)
    ]
    entries = [
        {"fullUrl": f"urn:uuid:{each['id']}", "resource": each, "search": {"mode": "match"}} for each in patients
    ]
    entries[7:7] = [{"fullUrl": "urn:uuid:none"}, {"resource": None}, {"resource": 1e400}]  # type: ignore[dict-item]
    bundle = {"resourceType": "Bundle", "type": "searchset", "total": 300, "entry": entries}
    data = json.dumps(bundle, indent=1).replace("Infinity", "1e400").encode()
    job = await declared.run("patients", data, format="json", options=ImportOptions(records_at="entry.resource"))
    assert await declared.faults(job) == [(n, "INVALID_RECORD_STRUCTURE", None) for n in (7, 8)]
    assert (job.status, job.success_count, job.total_records) == ("partial", 300, 302)
    (last,) = await declared.rows("select * from patient where id = 'p299'")
    assert last == patients[-1]


@pytest.mark.parametrize(
    ("data", "committed", "code", "message"),
    [
        (b'{"data": [%1, %2', 2, "PARSE_ERROR", "truncated"),
        (b'{"data": [%1, {"id": 3, "na', 1, "PARSE_ERROR", "truncated"),
        (b'{"data": [%1, %2, nope]}', 2, "PARSE_ERROR", "not valid JSON"),
        (b'{"data": [%1]} {"data": [%2]}', 1, "PARSE_ERROR", "not valid JSON"),
        (b'{"data": [%1], "other": ' + b"1" * 5000 + b"}", 1, "PARSE_ERROR", "digits in a row"),
        (b'{"data": [%1], "other": ' + b"[" * 300 + b"]" * 300 + b"}", 1, "PARSE_ERROR", "200 levels"),
        (b'{"data": [%1], "other": {"id": 3, "name": "\\ud800"}}', 1, "ENCODING_ERROR", "unpaired surrogate"),
        (b'{"items": [%1], "a": {"b": [%2]}}', 0, "PARSE_ERROR", "(recordsAt) leads to no array"),
        (b'{"items": [%1], "a": {"b": [%2]}}', 0, "PARSE_ERROR", "first megabyte: items, a.b."),
        (b'{"data": %1}', 0, "PARSE_ERROR", "There is no array of objects"),
        (b'{"data": []}', 0, "EMPTY_FILE", "no records"),
        (b"[%1]", 0, "PARSE_ERROR", "leads to no array"),
    ],
)
async def test_a_broken_document_fails_and_keeps_the_records_before(
    bench: Bench, data: bytes, committed: int, code: str, message: str
) -> None:
    for number in (1, 2):
        data = data.replace(b"%%%d" % number, json.dumps(user(number)).encode())
    job = await bench.run("users", data, format="json", options=DATA)
    assert (job.status, job.success_count, job.error_count) == ("failed", committed, 0)
    assert job.error is not None
    assert job.error["code"] == code
    assert message in job.error["message"]
    assert await bench.faults(job) == [(-1, code, None)]


BAD_RECORDS = {
    "digits": b'{"id": %b}' % (b"1" * 5000),
    "exponent": b'{"id": 1e99999999999999999999}',
    "depth": b"[" * 300 + b"]" * 300,
    "more depth": b'{"id": %b%b}' % (b"[" * 5000, b"]" * 5000),
    "surrogate": b'{"id": 3, "name": "\\ud800"}',
    "encoding": b'{"id": 3, "name": "\xff"}',
    "syntax": b'{"id": 3, "name": nope}',
    "constant": b'{"id": NaN}',
}


@pytest.mark.parametrize("bad", BAD_RECORDS.values(), ids=BAD_RECORDS.keys())
async def test_a_bad_record_has_the_same_outcome_as_in_an_array(bench: Bench, bad: bytes) -> None:
    array = b"[%b, %b, %b]" % (json.dumps(user(1)).encode(), bad, json.dumps(user(2)).encode())
    outcomes = []
    for options, data in (
        (ImportOptions(dry_run=True), array),
        (ImportOptions(dry_run=True, records_at="data"), b'{"data": %b}' % array),
    ):
        job = await bench.run("users", data, format="json", options=options)
        outcomes.append((job.status, job.success_count, job.error_count, job.error, await bench.faults(job)))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][-1] != []


@pytest.mark.parametrize("lead", [b"", b"\xef\xbb\xbf \n"])
async def test_a_document_without_a_path_is_refused_with_the_paths_in_it(bench: Bench, lead: bytes) -> None:
    data = json.dumps({"total": 1, "data": [user(1)], "meta": {"links": [{"a": 1}], "n": [1]}}).encode()
    job = await bench.run("users", lead + data + b" " * (3 << 20), format="json")
    assert await bench.faults(job) == [(-1, "PARSE_ERROR", None)]
    assert job.error is not None
    assert job.error["message"] == (
        "The file is an object, not an array of records; say where in it they are with recordsAt. "
        "Arrays of objects in its first megabyte: data, meta.links."
    )


async def test_a_refused_record_can_be_read_again(bench: Bench) -> None:
    job = await bench.run("users", page([user(1), {"id": 2, "é": 1.0}, 3, user(4)]), format="json", options=DATA)
    assert (job.status, job.error_count) == ("partial", 2)
    source = SourceText(bench.store, str((job.source or {})["key"]), 1 << 20)
    opening = Opening(source, Place(), USERS, DATA, 1 << 20)
    reader = await JSON.open(opening)
    assert b"".join([piece async for piece in stream(JSON, opening, reader, array("q", [1, 2]))]) == (
        b'[{"id": 2, "\\u00e9": 1.0},\n3]\n'
    )


INTERRUPTED = {
    "data": page(BY_TWO_AUTHORS),
    "entry.resource": json.dumps({"entry": [{"resource": record, "n": 1} for record in BY_TWO_AUTHORS]}).encode(),
}


@pytest.mark.parametrize("path", INTERRUPTED)
async def test_a_killed_run_loses_and_repeats_no_record(authored: Bench, path: str) -> None:
    bench = authored.with_settings(import_batch_size=20)
    job = await bench.submit("articles", INTERRUPTED[path], format="json", options=ImportOptions(records_at=path))
    for kill_after in (100, 300, 500):
        run = await claimed(bench, job)
        async with author_2_locked(bench):
            work = asyncio.create_task(bench.runner().run(run))
            await until_committed(bench, job, kill_after)
            work.cancel()
            await asyncio.wait({work})
        assert work.cancelled()
        assert kill_after <= sum(await counted(bench, job)) < 1000
        async with bench.pool.connection() as connection, connection.transaction():
            await ledger.release(connection, run.lease)  # or its deaths would be counted
    done = await bench.execute(job)
    assert (done.status, done.total_records, done.epoch) == ("partial", 1000, 4)
    assert await counted(bench, job) == (1000 - BAD, BAD)
