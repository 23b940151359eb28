"""Reads the records that an import refused from its source, as they were sent."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from uuid import UUID

from psycopg.rows import scalar_row

from wherry.database.pools import Pool
from wherry.database.queries import load
from wherry.errors import BrokenJson, JobFailed
from wherry.imports.models import RawRecord
from wherry.imports.readers.model import Opening, Reader, RecordsFormat

STREAM_ROWS = 1000


async def read_indexes(pool: Pool, job_id: UUID) -> array[int]:
    """The indexes of the refused records, in order."""
    found = array("q")
    async with pool.connection() as connection, connection.cursor(row_factory=scalar_row) as cursor:
        async for index in cursor.stream(load("imports")["rejects"], {"job_id": job_id}, size=STREAM_ROWS):
            found.append(index)
    return found


async def stream(format: RecordsFormat, opening: Opening, reader: Reader, indexes: array[int]) -> AsyncGenerator[bytes]:
    """A file of the records with these indexes, in the format of the import.

    Args:
        opening: of the whole source.
        reader: that was opened with it.
    """
    opening_bracket, between, closing = format.frame
    lead = reader.heading + opening_bracket
    async with aclosing(_chosen(reader, indexes)) as raws:
        async for batch in raws:
            for raw in batch:
                yield lead + (raw.data or b"")
                if raw.data is None:  # it is too long to be kept in memory
                    async for piece in _range(opening, raw):
                        yield piece
                lead = between
    yield closing


async def _chosen(reader: Reader, indexes: array[int]) -> AsyncGenerator[list[RawRecord]]:
    """The records with these indexes, by chunk of the source."""
    wanted = iter(indexes)
    next_index = next(wanted, None)

    def choose(raws: Iterable[RawRecord]) -> list[RawRecord]:
        nonlocal next_index
        chosen = []
        try:
            for raw in raws:
                if raw.index == next_index:
                    chosen.append(raw)
                    next_index = next(wanted, None)
        except (BrokenJson, JobFailed):
            next_index = None  # the import did not read any further either
        return chosen

    async with aclosing(reader.chunks) as chunks:
        async for chunk in chunks:
            yield await asyncio.to_thread(choose, reader.splitter.feed(chunk))
            if next_index is None:
                return
    yield await asyncio.to_thread(choose, reader.splitter.finish())


async def _range(opening: Opening, raw: RawRecord) -> AsyncIterator[bytes]:
    """The text of a record that its reader skipped."""
    left = raw.size
    async with aclosing(opening.source.open(raw.start)) as chunks:
        async for chunk in chunks:
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                return
