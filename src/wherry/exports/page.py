"""Reads one page of a selection, and streams it.

A page is read in windows of a few megabytes, however large its records are; most pages are one window. The first is
read before anything is sent, so that a database error becomes a status code. A connection is used only while a window
is read, not while bytes are sent, so slow clients do not occupy connections.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec
import psycopg

from wherry.database.pools import Connection, Pool
from wherry.errors import Invalid
from wherry.exports import statements
from wherry.exports.formats import PAGE_FORMATS
from wherry.exports.formats.json import RecordEncoder
from wherry.exports.requests import PageRequest, make_cursor
from wherry.exports.selection import Selection
from wherry.exports.snapshot import RecordRow
from wherry.exports.statements import Shape

_FRAMES = MappingProxyType(
    {
        "ndjson": (RecordEncoder.lines, b"", b"", b'{"_type":"cursor","nextCursor":%s}\n'),
        "json": (RecordEncoder.items, b'{"data":[', b",", b'],"nextCursor":%s}'),
    }
)
"""By format: how it encodes rows, and what it puts before, between and after the windows."""

WINDOW_BYTES = 4 << 20
"""A window ends with the record that reaches this size."""


@dataclass
class RecordPage:
    """A page whose first window has been read.

    `next_cursor` is None if there is no next page, or if the page has more windows; its body ends with the cursor in
    either case.
    """

    next_cursor: int | str | None
    content_type: str
    _chunks: AsyncGenerator[bytes, None] = field(repr=False)

    def __aiter__(self) -> AsyncGenerator[bytes, None]:
        return self._chunks


async def check_values(connection: Connection, selection: Selection) -> None:
    """Check that PostgreSQL can read the values of filters, inside a transaction.

    Raises:
        Invalid: on the first that it cannot.
    """
    values = statements.values(selection)
    for name, statement in statements.checks(selection):
        try:
            async with connection.transaction():
                await connection.execute(statement, values)
        except (psycopg.DataError, psycopg.errors.CheckViolation, UnicodeEncodeError):
            declared = selection.table.columns[name].declared
            raise Invalid(f"filters.{name} must be a value of the type {declared}", field="filters") from None


async def open_page(pool: Pool, request: PageRequest) -> RecordPage:
    """Read the first window of a page.

    Raises:
        Invalid: PostgreSQL cannot read the cursor or the value of a filter.
        psycopg.Error: the database refused the query or could not be reached.
    """
    reading = _Reading(pool, request)
    try:
        head = await reading.next_chunk()
    except (psycopg.DataError, psycopg.errors.CheckViolation, UnicodeEncodeError):
        async with pool.connection() as connection, connection.transaction():
            await check_values(connection, request.selection)
        if request.after is None:
            raise
        raise Invalid("cursor must be the nextCursor of the previous page", field="cursor") from None
    return RecordPage(reading.next_cursor, PAGE_FORMATS[request.format].content_type, _chunks(head, reading))


async def _chunks(chunk: bytes, reading: _Reading) -> AsyncGenerator[bytes, None]:
    yield chunk
    while not reading.ended:
        chunk = b""  # frees its memory while the next one is read
        chunk = await reading.next_chunk()
        yield chunk


class _Reading:
    """Reads a page window by window, and encodes it."""

    def __init__(self, pool: Pool, request: PageRequest) -> None:
        self._pool = pool
        self._selection = request.selection
        self._shape = Shape.of(request.selection)
        self._encode, self._opening, self._between, self._closing = _FRAMES[request.format]
        self._encoder = RecordEncoder(request.selection.columns, request.selection.shown_references)
        self._after = request.after
        self._left = request.limit
        self._begun = False
        self.ended = False
        self.next_cursor: int | str | None = None

    async def next_chunk(self) -> bytes:
        """The next window as a part of the body. The last one includes the end of the body."""
        records = await self._next_records()
        lead = self._between if records else b""
        if not self._begun:
            lead, self._begun = self._opening, True
        if not self.ended:
            return lead + records
        return lead + records + self._closing % msgspec.json.encode(self.next_cursor)

    async def _next_records(self) -> bytes:
        rows = await self._window()
        width = len(self._selection.fields)
        records = self._encode(self._encoder, rows if self._shape.shows_key else [row[:width] for row in rows])
        self._left -= len(rows)
        self._after = statements.key_of(self._shape, rows[-1]) if rows else self._after
        # A record is larger as JSON than its texts are, so a window that was cut at WINDOW_BYTES is never smaller.
        self.ended = self._left == 0 or len(records) < WINDOW_BYTES
        self.next_cursor = make_cursor(self._selection.table, self._after) if self._left == 0 and self._after else None
        return records

    async def _window(self) -> list[RecordRow]:
        statement = statements.page(self._shape, after=self._after is not None)
        values = statements.values(
            self._selection, **statements.key_values(self._after or ()), limit=self._left, bytes=WINDOW_BYTES
        )
        async with self._pool.connection() as connection, connection.cursor() as cursor:
            await cursor.execute(statement, values, binary=True)
            return await cursor.fetchall()
