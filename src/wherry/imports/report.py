"""Reads the error report of an import: the whole of it as ndjson or as an array, or page by page."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncGenerator
from typing import Any, TypeAlias
from uuid import UUID

import msgspec
from psycopg.rows import tuple_row

from wherry.database.pools import Connection, Pool
from wherry.database.queries import load
from wherry.errors import Invalid
from wherry.imports.readers.model import RecordsFormat
from wherry.imports.view import ErrorsPage, ReportedError
from wherry.times import rfc3339

STREAM_ROWS = 500

ErrorRow: TypeAlias = tuple[Any, ...]
ErrorPlace: TypeAlias = tuple[int, int]
"""The position of an error: the index of its record, and its own number."""

_BEFORE_ALL: ErrorPlace = (-2, 0)


async def exists(connection: Connection, job_id: UUID) -> bool:
    """Whether there are any errors."""
    return bool((await page(connection, job_id, cursor=None, limit=1)).errors)


async def stream(pool: Pool, job_id: UUID, format: RecordsFormat) -> AsyncGenerator[bytes, None]:
    """The whole report: an array of objects for formats that are arrays, otherwise one object per line.

    If there are no errors, it is empty.

    No connection is used while errors are being sent, so slow clients do not use up the pool.
    """
    lead, between, closing = format.frame
    place = _BEFORE_ALL
    while True:
        async with pool.connection() as connection:
            rows = await _rows(connection, job_id, place, STREAM_ROWS)
        if rows:
            yield lead + between.join([msgspec.json.encode(_error(row)) for row in rows])
            lead, place = between, _place(rows[-1])
        if len(rows) < STREAM_ROWS:
            break
    if place != _BEFORE_ALL:
        yield closing


async def page(connection: Connection, job_id: UUID, *, cursor: str | None, limit: int) -> ErrorsPage:
    """At most `limit` errors after the cursor.

    Raises:
        Invalid: on `cursor`: this function did not return it.
    """
    place = _BEFORE_ALL if cursor is None else _read_cursor(cursor)
    rows = await _rows(connection, job_id, place, limit + 1)
    next_cursor = _cursor(_place(rows[limit - 1])) if len(rows) > limit else None
    return ErrorsPage([_error(row) for row in rows[:limit]], next_cursor)


async def _rows(connection: Connection, job_id: UUID, after: ErrorPlace, limit: int) -> list[ErrorRow]:
    index, seq = after
    values = {"job_id": job_id, "index": index, "seq": seq, "limit": limit}
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(load("imports")["errors_page"], values)
        return await cursor.fetchall()


def _place(row: ErrorRow) -> ErrorPlace:
    return row[0], row[-1]


def _error(row: ErrorRow) -> ReportedError:
    index, record_id, code, name, message, field, value, details, created_at, _seq = row
    return ReportedError(
        index, record_id, code, name, message, field, _unparsed(value), _unparsed(details), rfc3339(created_at)
    )


def _unparsed(text: str | None) -> msgspec.Raw | None:
    """The text of a jsonb value, unparsed: Python's types would change some of its numbers."""
    return None if text is None else msgspec.Raw(text.encode())


def _cursor(place: ErrorPlace) -> str:
    index, seq = place
    return base64.urlsafe_b64encode(f"{index}.{seq}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> ErrorPlace:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        index, seq = text.split(".")
        return int(index), int(seq)
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise Invalid("cursor must be the nextCursor of an earlier page", field="cursor") from error
