"""An export contains exactly what is in the tables: every hostile text and null, in every resource and format."""

from __future__ import annotations

import csv
import gzip
import io
import json
from datetime import datetime
from typing import Any

import pytest
import zstandard

from tests.hostile import HOSTILE_TEXTS
from tests.integration.exports.conftest import Exports
from wherry.tables.builtin import BUILT_IN
from wherry.times import rfc3339

csv.field_size_limit(1 << 30)


async def fill_hostile(exports: Exports) -> None:
    """A user, an article and a comment for every hostile text, with microseconds and nulls here and there."""
    for number, text in enumerate(HOSTILE_TEXTS, 1):
        at = datetime.fromisoformat(f"2024-02-29T23:59:59.{number:06}Z")
        await exports.sql(
            "insert into wherry.users (id, email, username, name, created_at, updated_at, active)"
            " values (%s, %s, %s, %s, %s, %s, %s)",
            *(number, f"{number}@x.org", str(number), text, at, at.replace(microsecond=0), number % 2 == 0),
        )
        await exports.sql(
            "insert into wherry.articles (id, slug, title, body, description, author_id, tags, status, published_at)"
            " values (%s, %s, %s, %s, '', %s, %s, 'published', %s)",
            *(
                number,
                f"a-{number}",
                text,
                text,
                number,
                [text, "", "b"] if number % 2 else [],
                at if number % 3 else None,
            ),
        )
        await exports.sql(
            "insert into wherry.comments (id, body, article_id, user_id, created_at) values (%s, %s, %s, %s, %s)",
            *(number, text, number, number, at),
        )


async def in_the_table(exports: Exports, resource: str) -> list[dict[str, Any]]:
    """The expected records, read with plain SQL."""
    fields = BUILT_IN[resource].fields
    rows = await exports.sql(f"select {', '.join(fields)} from wherry.{resource} order by id")
    return [
        {
            name: rfc3339(value) if isinstance(value, datetime) else value
            for name, value in zip(fields, row, strict=True)
        }
        for row in rows
    ]


@pytest.mark.parametrize("resource", list(BUILT_IN))
async def test_every_hostile_text_and_every_null_is_exact(exports: Exports, resource: str) -> None:
    await fill_hostile(exports)
    expected = await in_the_table(exports, resource)

    ndjson = await exports.exported(resource=resource)
    assert [json.loads(line) for line in ndjson.split(b"\n")[:-1]] == expected
    assert [list(json.loads(line)) for line in ndjson.split(b"\n")[:-1]] == [list(BUILT_IN[resource].fields)] * len(
        expected
    )
    assert json.loads(await exports.exported(resource=resource, format="json")) == expected

    content = await exports.exported(resource=resource, format="csv", csvEscapeFormulas=False)
    rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    assert rows == [{name: as_cell(value) for name, value in record.items()} for record in expected]


def as_cell(value: Any) -> str:
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


async def test_csv_escapes_formulas_if_that_is_requested(exports: Exports) -> None:
    await exports.sql("insert into wherry.users (email, username, name) values ('a@x.org', 'a', '=1+1')")
    request = {"resource": "users", "format": "csv", "fields": "id,name,role"}
    assert b',"=1+1",' in await exports.exported(**request)
    assert b',"\'=1+1",' in await exports.exported(**request, csvEscapeFormulas=True)


@pytest.mark.parametrize("format_name", ["ndjson", "json", "csv"])
async def test_compression_does_not_change_the_content(exports: Exports, format_name: str) -> None:
    await exports.fill(50)
    plain = await exports.exported(resource="articles", format=format_name)
    packed = await exports.exported(resource="articles", format=format_name, compression="gzip")
    assert gzip.decompress(packed) == plain
    packed = await exports.exported(resource="articles", format=format_name, compression="zstd")
    assert zstandard.ZstdDecompressor().decompressobj().decompress(packed) == plain


async def test_an_empty_table_is_a_valid_export_in_every_format(exports: Exports) -> None:
    assert await exports.exported(resource="users") == b""
    assert await exports.exported(resource="users", format="json") == b"[]"
    assert await exports.exported(resource="users", format="csv", fields="id,email") == b"id,email\r\n"


async def test_records_have_the_requested_fields_in_order(exports: Exports) -> None:
    await exports.fill(2)
    assert await exports.exported(resource="articles", fields="status,slug") == (
        b'{"status":"published","slug":"a-1"}\n{"status":"published","slug":"a-2"}\n'
    )
    assert await exports.exported(resource="articles", fields="slug,id,status", format="csv") == (
        b'slug,id,status\r\n"a-1",1,"published"\r\n"a-2",2,"published"\r\n'
    )


async def test_an_instant_always_has_milliseconds_and_none_is_rounded_up(exports: Exports) -> None:
    moments = [
        "2024-01-01T00:00:00Z",
        "2024-01-01T00:00:00.999999Z",
        "1999-12-31T23:59:59.001Z",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999Z",
    ]
    for moment in moments:
        await exports.sql(
            "insert into wherry.users (email, username, name, created_at) values (%s, %s, 'n', %s)",
            moment,
            moment,
            moment,
        )
    content = await exports.exported(resource="users", fields="created_at")
    assert [json.loads(line)["created_at"] for line in content.splitlines()] == [
        "2024-01-01T00:00:00.000Z",
        "2024-01-01T00:00:00.999Z",
        "1999-12-31T23:59:59.001Z",
        "0001-01-01T00:00:00.000Z",
        "9999-12-31T23:59:59.999Z",
    ]


async def test_an_infinite_instant_is_exported_as_null(exports: Exports) -> None:
    await exports.sql("insert into wherry.users (email, username, name, created_at) values ('a', 'a', 'n', 'infinity')")
    assert await exports.exported(resource="users", fields="created_at") == b'{"created_at":null}\n'
