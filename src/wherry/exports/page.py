"""One page of a selection, read at once.

In: a `PageRequest`. Out: a `Page`: its next cursor, and its bytes as a stream. Its beginning is read before anything is
sent, so that what the database refuses becomes a status; a page of usual size is read whole, and its connection is
given back before the first byte leaves: a slow client costs no connection.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import cast

from wherry.database.pools import Pool
from wherry.exports import statements
from wherry.exports.formats.records import RecordEncoder
from wherry.exports.formats.registry import PAGE_FORMATS
from wherry.exports.requests import PageRequest
from wherry.exports.snapshot import Row

BATCH_ROWS = 250

_FRAMES = MappingProxyType(
    {
        "ndjson": (RecordEncoder.lines, b"", b"", b'{"_type":"cursor","nextCursor":%s}\n'),
        "json": (RecordEncoder.items, b'{"data":[', b",", b'],"nextCursor":%s}'),
    }
)
"""How a page's format encodes rows, and what stands before, between and behind them."""

BUFFER_BYTES = 4 << 20
"""What is read ahead: a page that is larger is sent while the rest is read."""


@dataclass
class Page:
    """A page on its way. `aclose` it when it is not read to its end: it may hold a connection.

    `next_cursor` is what the body ends with: None where there is no next page, and where the page is so large that
    its end is not read yet.
    """

    next_cursor: int | None
    content_type: str
    _head: bytes
    _tail: AsyncGenerator[bytes, None] = field(repr=False)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._head
        async with aclosing(self._tail) as tail:
            async for chunk in tail:
                yield chunk

    async def aclose(self) -> None:
        """Give the connection back."""
        await self._tail.aclose()


async def open_page(pool: Pool, request: PageRequest) -> Page:
    """Read a page's beginning, or all of it where it is not large.

    Raises:
        psycopg.Error: as the database says.
    """
    reading = _Reading(pool, request)
    chunks = reading.chunks()
    head: list[bytes] = []
    size = 0
    async for chunk in chunks:
        head.append(chunk)
        size += len(chunk)
        if size >= BUFFER_BYTES:
            break
    return Page(reading.next_cursor, PAGE_FORMATS[request.format].content_type, b"".join(head), chunks)


class _Reading:
    """The one query of a page, and the bytes that it comes to."""

    def __init__(self, pool: Pool, request: PageRequest) -> None:
        self._pool = pool
        self._request = request
        self._encoder = RecordEncoder(request.selection.fields)
        self.next_cursor: int | None = None

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        encode, opening, between, closing = _FRAMES[self._request.format]
        lead = opening
        async with aclosing(self._batches()) as batches:
            async for rows in batches:
                yield lead + encode(self._encoder, rows)
                lead = between
        cursor = b"null" if self.next_cursor is None else str(self.next_cursor).encode()
        yield (lead if lead is opening else b"") + closing % cursor

    async def _batches(self) -> AsyncGenerator[list[Row], None]:
        selection, limit = self._request.selection, self._request.limit
        values = statements.values(selection, after=self._request.after, limit=limit)
        position = statements.id_position(selection)
        count = 0
        async with self._pool.connection() as connection, connection.cursor() as cursor:
            stream = cursor.stream(statements.window(selection), values, binary=True, size=BATCH_ROWS)
            async with aclosing(cast("AsyncGenerator[Row, None]", stream)) as rows:
                async for batch in _batched(rows):
                    count += len(batch)
                    self.next_cursor = batch[-1][position] if count == limit else None
                    yield batch if position == 0 else [row[:position] for row in batch]


async def _batched(rows: AsyncIterator[Row]) -> AsyncIterator[list[Row]]:
    batch: list[Row] = []
    async for row in rows:
        batch.append(row)
        if len(batch) == BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch
