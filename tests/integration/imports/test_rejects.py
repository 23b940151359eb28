"""The refused records of an import, as a file to correct and import again."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from tests.integration.imports.harness import Bench, user
from tests.integration.imports.test_interruptions import claimed
from wherry.imports import rejects
from wherry.imports.models import ImportOptions, OnConflict, Place
from wherry.imports.readers import FORMATS
from wherry.imports.readers.model import Opening
from wherry.imports.requests import options_of
from wherry.imports.stored import source_text
from wherry.jobs.models import Job


async def rejected(bench: Bench, job: Job) -> bytes:
    """The file of refused records."""
    indexes = await rejects.read_indexes(bench.pool, job.id)
    table = await bench.tables.find(job.resource)
    assert table is not None
    source = source_text(bench.store, job, bench.settings)
    opening = Opening(source, Place(), table, options_of(job), bench.settings.import_max_record_bytes)
    format_ = FORMATS[job.format]
    reader = await format_.open(opening)
    return b"".join([chunk async for chunk in rejects.stream(format_, opening, reader, indexes)])


def file_of(format: str, records: list[dict[str, Any]]) -> bytes:
    """Users in a format."""
    if format == "csv":
        return b"id,email,name\r\n" + b"".join(
            f'{each["id"]},{each["email"]},"{each["name"]}"\r\n'.encode() for each in records
        )
    texts = [json.dumps(each).encode() for each in records]
    return b"[" + b",\n".join(texts) + b"]\n" if format == "json" else b"\n".join(texts) + b"\n"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("batch", [1, 7, 1000])
async def test_corrected_rejects_complete_an_import(bench: Bench, format: str, batch: int) -> None:
    bench = bench.with_settings(import_batch_size=batch)
    records = [user(number, name="" if number % 3 == 0 else f"User\n{number}") for number in range(1, 41)]
    if format != "csv":
        records = [{**each, "name": each["name"].replace("\n", " ")} for each in records]
    job = await bench.run("users", file_of(format, records), format=format)
    wrong = [each for each in records if each["name"] == ""]
    assert job.error_count == len(wrong) == 13
    file = await rejected(bench, job)
    assert file == file_of(format, wrong)
    corrected = await bench.run(
        "users", file.replace(b'""', b'"x"'), format=format, options=ImportOptions(OnConflict.UPDATE)
    )
    assert (corrected.success_count, corrected.error_count) == (13, 0)
    assert await bench.rows("select count(*) from wherry.users") == [{"count": 40}]


async def test_records_that_cannot_be_read_are_rejected_as_they_were_sent(bench: Bench) -> None:
    bench = bench.with_settings(import_max_record_bytes=1000)
    long = b'{"id":5,"name":"' + b"x" * 5_000_000 + b'"}'
    broken = [b"nonsense", b'{"id":3,"name":"\xff"}', long, b"[1]"]
    good = json.dumps(user(1)).encode()
    text = b"\n".join([good, broken[0], b"", broken[1], good.replace(b"1", b"2"), broken[2], broken[3]])
    job = await bench.run("users", gzip.compress(text))
    assert (job.success_count, job.error_count) == (2, 4)
    assert await rejected(bench, job) == b"\n".join(broken) + b"\n"
    ended = await bench.run("users", good.replace(b"1", b"7") + b"\n" + long)
    assert await rejected(bench, ended) == long + b"\n"


async def test_a_file_that_breaks_off_has_the_rejects_before_the_break(bench: Bench) -> None:
    job = await bench.run("users", b'[{"id":1},{"id":2,"email":"a@b.c","name":"b"},{"id":', format="json")
    assert await rejected(bench, job) == b'[{"id":1}]\n'


async def test_rejects_are_complete_if_the_report_is_not(bench: Bench) -> None:
    bench = bench.with_settings(import_max_error_bytes=1000, import_batch_size=10)
    job = await bench.run("users", [{"id": number, "name": ""} for number in range(1, 101)])
    assert len(await bench.errors(job)) < 10
    assert (await rejected(bench, job)).count(b"\n") == 100


async def test_an_atomic_import_that_starts_over_has_each_reject_once(bench: Bench) -> None:
    bench = bench.with_settings(import_batch_size=5)
    lines = b"".join(json.dumps({"id": number, "name": ""}).encode() + b"\n" for number in range(1, 21))
    job = await bench.submit("users", lines, options=ImportOptions(dry_run=True))
    await claimed(bench, job)  # by a worker that dies after two batches
    await bench.do("insert into wherry.import_rejects (job_id, indexes) values (%s, '{0, 1, 2, 3, 4}')", job.id)
    await bench.do("insert into wherry.import_rejects (job_id, indexes) values (%s, '{5, 6, 7, 8, 9}')", job.id)
    await bench.execute(job)
    assert list(await rejects.read_indexes(bench.pool, job.id)) == list(range(20))
