"""One page of a selection, read at once.

In: a `PageRequest`. Out: a `Page`: its next cursor, and its bytes as a stream. Its beginning is read before anything is
sent, so that what the database refuses becomes a status; a page of usual size is read whole, and its connection is
given back before the first byte leaves: a slow client costs no connection.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field

import msgspec

from wherry.database.pools import Pool
from wherry.exports import statements
from wherry.exports.formats.records import RecordEncoder
from wherry.exports.formats.registry import PAGE_FORMATS
from wherry.exports.requests import PageRequest
from wherry.exports.snapshot import Row

BATCH_ROWS = 250
BUFFER_BYTES = 4 << 20
"""What is read ahead: a page that is larger is sent while the rest is read."""


@dataclass
class Page:
    """A page on its way. `aclose` it when it is not read to its end: it may hold a connection."""

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
        if self._request.format == "ndjson":
            async with aclosing(self._batches()) as batches:
                async for rows in batches:
                    yield self._encoder.lines(rows)
            yield msgspec.json.encode({"_type": "cursor", "nextCursor": self.next_cursor}) + b"\n"
            return
        opening = b'{"data":['
        async with aclosing(self._batches()) as batches:
            async for rows in batches:
                yield opening + self._encoder.items(rows)
                opening = b","
        closing = b"]," if opening == b"," else opening + b"],"
        yield closing + msgspec.json.encode({"nextCursor": self.next_cursor})[1:]

    async def _batches(self) -> AsyncGenerator[list[Row], None]:
        selection = self._request.selection
        values = statements.values(selection, after=self._request.after, limit=self._request.limit)
        async with self._pool.connection() as connection, connection.cursor() as cursor:
            stream = cursor.stream(statements.page(selection), values, binary=True, size=BATCH_ROWS)
            batch: list[Row] = []
            async with aclosing(stream) as rows:  # type: ignore[type-var]  # typed as an iterator, made as a generator
                async for row in rows:
                    if not batch:
                        self.next_cursor = row[-1]
                    batch.append(row[:-1])
                    if len(batch) == BATCH_ROWS:
                        yield batch
                        batch = []
            if batch:
                yield batch
