"""Reads a stored source as text.

In: a key of a store; gzip, zstd or plain. Out: chunks of the decompressed text, from any offset on, never much larger
than 1 MiB whatever the source does, and never more of them in all than `max_bytes`. A byte-order mark is dropped, and
offsets are counted from its end. Of a compressed source the skipped part is decompressed again.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass

from wherry.errors import ErrorCode, JobFailed
from wherry.imports.inflate import DAMAGED, Inflater, inflater_for
from wherry.storage.store import Store

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_HEAD_BYTES = 4  # enough for every mark and magic number


SMALLEST_RECORD_BYTES = 16
"""Of a record that brings an id along: less than `{"id":1,"name":"x"}` takes."""


@dataclass
class Progress:
    """How much of the stored source has been read.

    Attributes:
        read, size: bytes.
        is_plain: whether they are bytes of its text too.
    """

    read: int = 0
    size: int = 0
    is_plain: bool = False

    @property
    def percent(self) -> float:
        """0 to 99.9: all is never read before the last record is written."""
        return min(99.9, 100 * self.read / self.size) if self.size else 0.0

    def most_records_after(self, offset: int) -> int:
        """How many records with ids can stand after an offset in the text."""
        return max(0, self.size - offset) // SMALLEST_RECORD_BYTES if self.is_plain else sys.maxsize


class Source:
    """A stored source that can be opened at an offset.

    Args:
        store: where it is kept.
        key: its name there.
        max_bytes: of the decompressed text.
    """

    def __init__(self, store: Store, key: str, max_bytes: int) -> None:
        self._store = store
        self._key = key
        self._max_bytes = max_bytes
        self.progress = Progress()

    async def open(self, offset: int = 0) -> AsyncGenerator[bytes]:
        """The text from `offset` on.

        Raises:
            JobFailed: FILE_READ_ERROR where it is missing or damaged, FILE_TOO_LARGE, ENCODING_ERROR for UTF-16.
            Unavailable: the storage does not answer.
        """
        head = await self._head()
        make_inflater = inflater_for(head)
        if make_inflater is None:
            start = mark_bytes(head) + offset
            self.progress.read = start
            self.progress.is_plain = True
            text = self._limited(self._stored(start), start)
        else:
            text = _behind(self._limited(self._inflated(make_inflater), 0), offset)
        async for chunk in text:
            yield chunk

    async def _head(self) -> bytes:
        size = await self._store.size(self._key)
        if size is None:
            raise _gone()
        self.progress = Progress(size=size)
        return b"".join([chunk async for chunk in self._store.read(self._key, 0, min(size, _HEAD_BYTES))])

    async def _stored(self, start: int) -> AsyncIterator[bytes]:
        if start >= self.progress.size:
            return  # a run that ended after its last record is taken up here; no range begins there
        try:
            async for chunk in self._store.read(self._key, start):
                self.progress.read += len(chunk)
                yield chunk
        except FileNotFoundError as error:
            raise _gone() from error

    async def _inflated(self, make_inflater: Callable[[], Inflater]) -> AsyncIterator[bytes]:
        inflater = make_inflater()
        try:
            async for chunk in self._stored(0):
                pieces = inflater.feed(chunk)
                while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                    yield piece
        except DAMAGED as error:
            raise JobFailed(ErrorCode.FILE_READ_ERROR, "The compressed source is damaged") from error
        if not inflater.complete:
            raise JobFailed(ErrorCode.FILE_READ_ERROR, "The compressed source is truncated")

    async def _limited(self, chunks: AsyncIterator[bytes], start: int) -> AsyncIterator[bytes]:
        total = start
        async for chunk in chunks:
            total += len(chunk)
            if total > self._max_bytes:
                raise JobFailed(
                    ErrorCode.FILE_TOO_LARGE,
                    f"The source is larger than {self._max_bytes} bytes once decompressed",
                    detail={"limit": self._max_bytes},
                )
            yield chunk


def _gone() -> JobFailed:
    return JobFailed(ErrorCode.FILE_READ_ERROR, "The source is no longer stored")


async def _behind(chunks: AsyncIterator[bytes], offset: int) -> AsyncIterator[bytes]:
    """What comes after the byte-order mark and `offset` bytes more."""
    head = b""
    async for chunk in chunks:
        head += chunk
        if len(head) >= _HEAD_BYTES:
            break
    left = mark_bytes(head) + offset
    if left < len(head):
        yield head[left:]
    left = max(0, left - len(head))
    async for chunk in chunks:
        if left < len(chunk):
            yield chunk[left:]
        left = max(0, left - len(chunk))


def mark_bytes(head: bytes) -> int:
    """How many bytes the byte-order mark of a text takes.

    Raises:
        JobFailed: the mark says UTF-16 (or UTF-32, which begins alike).
    """
    if head.startswith(UTF16_MARKS):
        raise JobFailed(ErrorCode.ENCODING_ERROR, "The file is in UTF-16; it must be in UTF-8")
    return len(BYTE_ORDER_MARK) if head.startswith(BYTE_ORDER_MARK) else 0
