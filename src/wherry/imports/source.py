"""Reads a stored source as text: plain, gzip or zstd.

Text is read from any offset, in chunks never much larger than 1 MiB whatever the source contains, and up to a limit. A
byte-order mark is dropped, and offsets do not count it. To start reading in the middle of a compressed source, all of
it up to there is decompressed again.
"""

from __future__ import annotations

import asyncio
import codecs
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from wherry.errors import ErrorCode, JobFailed
from wherry.imports.inflate import DAMAGED, Inflater, inflater_for
from wherry.storage.store import Store
from wherry.storage.streams import limited

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_UTF32_MARK = b"\xff\xfe\0\0"
_HEAD_BYTES = 4  # enough for every byte-order mark and magic number
_BEGINNING_BYTES = 1 << 14  # read first, so that a small source is read only once

SMALLEST_RECORD_BYTES = 2
"""The size of the smallest record with an id: a line of csv that consists of a digit."""


@dataclass
class ReadingProgress:
    """How many bytes of the stored source have been read, and of how many.

    If it is plain, not compressed, its bytes are also those of its text.
    """

    read: int = 0
    size: int = 0
    is_plain: bool = False

    @property
    def percent(self) -> float:
        """From 0 to 99.9, as the source is always read to its end before the last record is written."""
        return min(99.9, 100 * self.read / self.size) if self.size else 0.0

    def most_records_after(self, offset: int) -> int:
        """How many records with ids there can be after an offset in the text."""
        return max(0, self.size - offset) // SMALLEST_RECORD_BYTES if self.is_plain else sys.maxsize


class SourceText:
    """A stored source that can be opened at any offset. Its text is in UTF-8.

    Args:
        max_bytes: size limit of its decompressed text.
        charset: the encoding in which it is stored, if that is not UTF-8.
        may_be_utf16: whether a byte-order mark of UTF-16 is accepted.
    """

    def __init__(
        self, store: Store, key: str, max_bytes: int, *, charset: str | None = None, may_be_utf16: bool = False
    ) -> None:
        self._store = store
        self._key = key
        self._max_bytes = max_bytes
        self._charset = charset
        self._may_be_utf16 = may_be_utf16
        self._beginning = b""
        self.progress = ReadingProgress()

    async def exists(self) -> bool:
        """Whether it is still stored."""
        return await self._store.size(self._key) is not None

    async def open(self, offset: int = 0) -> AsyncGenerator[bytes]:
        """The text from `offset` on.

        Raises:
            JobFailed: FILE_READ_ERROR if it is missing or damaged, FILE_TOO_LARGE, ENCODING_ERROR if it is UTF-16.
            Unavailable: the storage does not respond.
        """
        head = self._beginning = await self._read_beginning()
        make_inflater = inflater_for(head)
        encoding = await self._encoding(head, make_inflater)
        if encoding is not None:
            stored = self._stored(0) if make_inflater is None else self._inflated(make_inflater)
            text = _after(_in_utf8(limited(stored, self._max_bytes, self._too_large), encoding), offset)
        elif make_inflater is None:
            start = mark_bytes(head) + offset
            self.progress.read = start
            self.progress.is_plain = True
            text = limited(self._stored(start), self._max_bytes - start, self._too_large)
        else:
            text = _after(limited(self._inflated(make_inflater), self._max_bytes, self._too_large), offset)
        async for chunk in text:
            yield chunk

    async def _read_beginning(self) -> bytes:
        size = await self._store.size(self._key)
        if size is None:
            raise _gone()
        self.progress = ReadingProgress(size=size)
        return b"".join([chunk async for chunk in self._store.read(self._key, 0, min(size, _BEGINNING_BYTES))])

    async def _encoding(self, head: bytes, make_inflater: type[Inflater] | None) -> str | None:
        """The encoding, if it is not UTF-8. A byte-order mark overrides the one that was named."""
        if not self._may_be_utf16:
            return self._charset
        if make_inflater is not None:
            async with aclosing(self._inflated(make_inflater)) as chunks:
                head = await anext(chunks, b"")
            self.progress.read = 0
        if head.startswith(_UTF32_MARK):
            raise JobFailed(ErrorCode.ENCODING_ERROR, "The file is in UTF-32; it must be in UTF-8 or UTF-16")
        if head.startswith(UTF16_MARKS):
            return "utf-16"
        return None if head.startswith(BYTE_ORDER_MARK) else self._charset

    async def _stored(self, start: int) -> AsyncIterator[bytes]:
        if start >= self.progress.size:
            return  # the run resumes after the last record, and the store does not accept an empty range
        if len(self._beginning) == self.progress.size:
            self.progress.read += self.progress.size - start
            yield self._beginning[start:]
            return
        try:
            async for chunk in self._store.read(self._key, start):
                self.progress.read += len(chunk)
                yield chunk
        except FileNotFoundError as error:
            raise _gone() from error

    async def _inflated(self, make_inflater: type[Inflater]) -> AsyncGenerator[bytes]:
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

    def _too_large(self) -> JobFailed:
        message = f"The source is larger than {self._max_bytes} bytes once decompressed"
        return JobFailed(ErrorCode.FILE_TOO_LARGE, message, detail={"limit": self._max_bytes})


def _gone() -> JobFailed:
    return JobFailed(ErrorCode.FILE_READ_ERROR, "The source is no longer stored")


async def _in_utf8(chunks: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()

    def transcoded(chunk: bytes, *, is_last: bool) -> bytes:
        return decoder.decode(chunk, is_last).encode()

    try:
        async for chunk in chunks:
            yield await asyncio.to_thread(transcoded, chunk, is_last=False)
        yield transcoded(b"", is_last=True)
    except UnicodeError as error:
        reason = getattr(error, "reason", error)
        raise JobFailed(ErrorCode.ENCODING_ERROR, f"The file is not valid {encoding}: {reason}") from error


async def _after(chunks: AsyncIterator[bytes], offset: int) -> AsyncIterator[bytes]:
    """The text without its byte-order mark and the `offset` bytes that follow it."""
    head = b""
    async for chunk in chunks:
        head += chunk
        if len(head) >= _HEAD_BYTES:
            break
    skip = mark_bytes(head) + offset
    if skip < len(head):
        yield head[skip:]
    skip = max(0, skip - len(head))
    async for chunk in chunks:
        if skip < len(chunk):
            yield chunk[skip:]
        skip = max(0, skip - len(chunk))


def mark_bytes(head: bytes) -> int:
    """The length of a text's byte-order mark, 0 if it has none.

    Raises:
        JobFailed: the mark is that of UTF-16, or of UTF-32, which begins with the same bytes.
    """
    if head.startswith(UTF16_MARKS):
        raise JobFailed(ErrorCode.ENCODING_ERROR, "The file is in UTF-16; it must be in UTF-8")
    return len(BYTE_ORDER_MARK) if head.startswith(BYTE_ORDER_MARK) else 0
