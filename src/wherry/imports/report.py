"""The error report of an import, straight from the database.

In: a job's id. Out: a stream of bytes (ndjson or one array), or a page of the same objects by keyset.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg.rows import tuple_row

from wherry.database.pools import Connection
from wherry.database.queries import load
from wherry.errors import Invalid
from wherry.imports.models import Format
from wherry.times import rfc3339

STREAM_ROWS = 500
_BEFORE_ALL = (-2, 0)


@dataclass(frozen=True)
class Page:
    """Errors in order, and the cursor behind the last one; None where it is the last there is."""

    errors: list[dict[str, Any]]
    next_cursor: str | None


async def exists(connection: Connection, job_id: UUID) -> bool:
    """Whether the report has any error."""
    return bool((await page(connection, job_id, cursor=None, limit=1)).errors)


async def stream(connection: Connection, job_id: UUID, format: Format) -> AsyncIterator[bytes]:
    """The whole report: one object a line, or an array of them. Nothing at all where there is no error."""
    lines = format is Format.NDJSON
    opening, between, closing = (b"", b"\n", b"\n") if lines else (b"[", b",\n", b"]\n")
    pieces: list[bytes] = []
    begun = False
    async with connection.cursor(row_factory=tuple_row) as cursor:
        async for row in cursor.stream(load("imports")["errors"], {"job_id": job_id}, size=STREAM_ROWS):
            pieces.append(msgspec.json.encode(_error(row)))
            if len(pieces) == STREAM_ROWS:
                yield (between if begun else opening) + between.join(pieces)
                begun = True
                pieces.clear()
    if pieces:
        yield (between if begun else opening) + between.join(pieces)
        begun = True
    if begun:
        yield closing


async def page(connection: Connection, job_id: UUID, *, cursor: str | None, limit: int) -> Page:
    """At most `limit` errors behind the cursor.

    Raises:
        Invalid: on `cursor`: it is none that this function gave.
    """
    index, seq = _BEFORE_ALL if cursor is None else _read_cursor(cursor)
    values = {"job_id": job_id, "index": index, "seq": seq, "limit": limit + 1}
    async with connection.cursor(row_factory=tuple_row) as reader:
        await reader.execute(load("imports")["errors_page"], values)
        rows = await reader.fetchall()
    more = len(rows) > limit
    rows = rows[:limit]
    return Page([_error(row) for row in rows], _cursor(rows[-1]) if more else None)


def _error(row: Sequence[Any]) -> dict[str, Any]:
    index, record_id, code, name, message, field, value, details, created_at, _seq = row
    moment: datetime = created_at
    return {
        "recordIndex": index,
        "recordId": record_id,
        "errorCode": code,
        "errorName": name,
        "message": message,
        "field": field,
        "value": _as_it_stands(value),
        "details": _as_it_stands(details),
        "createdAt": rfc3339(moment),
    }


def _as_it_stands(text: str | None) -> msgspec.Raw | None:
    """jsonb's own text, which holds numbers that no type of Python's would give back unchanged."""
    return None if text is None else msgspec.Raw(text.encode())


def _cursor(row: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(f"{row[0]}.{row[-1]}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[int, int]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        index, seq = text.split(".")
        return int(index), int(seq)
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise Invalid("cursor must be one that a page before gave", field="cursor") from error
