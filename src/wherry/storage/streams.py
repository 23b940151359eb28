"""Streams of bytes to and from the storage: hashed on the way, and with the storage's errors translated."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from obstore.exceptions import BaseError

from wherry.errors import StorageUnavailable

CHUNK_BYTES = 1 << 20
LONG_TO_HASH = 1 << 17
"""From this many bytes on, hashing takes long enough (a quarter of a millisecond) to do it in a thread."""


class Meter:
    """Counts and hashes a stream as it passes through, and remembers the exception that it raised."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.size = 0
        self.failure: BaseException | None = None

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    async def follow(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        with self._remembering():
            async for chunk in chunks:
                if len(chunk) < LONG_TO_HASH:
                    yield self._counted(chunk)
                else:
                    yield await asyncio.to_thread(self._counted, chunk)

    def follow_blocking(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        with self._remembering():
            for chunk in chunks:
                yield self._counted(chunk)

    def _counted(self, chunk: bytes) -> bytes:
        self.size += len(chunk)
        self._hash.update(chunk)
        return chunk

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        try:
            yield
        except GeneratorExit:
            raise
        except BaseException as error:
            self.failure = error
            raise


@contextmanager
def explained(action: str, meter: Meter | None = None) -> Iterator[None]:
    """Raise the storage's errors as `Unavailable`, and the stream's own exception, which obstore wraps, unchanged."""
    try:
        yield
    except BaseException as error:
        if meter is not None and meter.failure is not None:
            raise meter.failure from None
        if isinstance(error, FileNotFoundError) and meter is None:
            raise
        if isinstance(error, (BaseError, OSError)):
            raise StorageUnavailable(f"the storage cannot be {action}") from error
        raise


async def read_file(path: Path) -> AsyncIterator[bytes]:
    """A local file in chunks of 1 MiB, read in a thread."""
    file = await asyncio.to_thread(path.open, "rb")
    with file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk


async def limited(
    chunks: AsyncIterable[bytes], max_bytes: int, too_large: Callable[[], Exception]
) -> AsyncIterator[bytes]:
    """The same chunks; raises `too_large()` in place of the chunk that exceeds `max_bytes` in total."""
    total = 0
    async for chunk in chunks:
        total += len(chunk)
        if total > max_bytes:
            raise too_large()
        yield chunk
