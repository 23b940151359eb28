"""Groups decoded records into batches. Unless the file is small, splitting and decoding are done in a thread.

A batch is full when it has `size` records or 8 MiB of text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

from wherry.errors import BrokenJson, ErrorCode, JobFailed
from wherry.imports.decode import Decoder
from wherry.imports.models import Batch, RawRecord
from wherry.imports.readers.model import Splitter

BATCH_BYTES = 8 << 20

SMALL_BYTES = 1 << 14
"""Up to so much text is decoded on the event loop: for a tiny file, a thread costs more than decoding."""


class Batches:
    """Reads a file once, from where its splitter starts.

    Args:
        size: records per batch, at most.
        max_records: per file.
    """

    def __init__(
        self, chunks: AsyncIterator[bytes], splitter: Splitter, decoder: Decoder, *, size: int, max_records: int
    ) -> None:
        self._chunks = chunks
        self._splitter = splitter
        self._decoder = decoder
        self._size = size
        self._max_records = max_records
        self._batch: Batch = []
        self._bytes = 0
        self._read = 0

    async def read(self) -> AsyncGenerator[Batch]:
        """Every batch in order.

        Raises:
            JobFailed: the file as a whole is faulty. All records before the fault have been yielded.
        """
        failure: JobFailed | None = None
        try:
            async for chunk in self._chunks:
                self._read += len(chunk)
                async for batch in self._full_batches(self._decoder.prepared(self._splitter.feed(chunk))):
                    yield batch
            async for batch in self._full_batches(self._decoder.prepared(self._splitter.finish())):
                yield batch
        except JobFailed as fault:
            failure = fault
        except BrokenJson as fault:
            failure = JobFailed(ErrorCode.PARSE_ERROR, str(fault))
        if self._batch:
            yield self._take()
        if failure is not None:
            raise failure

    async def _full_batches(self, records: Iterator[RawRecord]) -> AsyncIterator[Batch]:
        while not await self._filled(records):
            yield self._take()

    async def _filled(self, records: Iterator[RawRecord]) -> bool:
        return self._fill(records) if self._read <= SMALL_BYTES else await asyncio.to_thread(self._fill, records)

    def _fill(self, records: Iterator[RawRecord]) -> bool:
        """Decode until the batch is full; return True if the records ran out first."""
        for raw in records:
            if raw.index >= self._max_records:
                message = f"The file has more than {self._max_records} records"
                raise JobFailed(ErrorCode.TOO_MANY_RECORDS, message, detail={"limit": self._max_records})
            self._batch.append(self._decoder.decode(raw))
            self._bytes += raw.size if raw.data is not None else 0
            if len(self._batch) >= self._size or self._bytes >= BATCH_BYTES:
                return False
        return True

    def _take(self) -> Batch:
        batch, self._batch, self._bytes = self._batch, [], 0
        return batch
