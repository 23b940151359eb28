"""Keeps the bytes of sources and artifacts.

In: a key and a stream of chunks. Out: an object that becomes visible only when it is complete, with its size and
SHA-256. A root is a local directory or a URL that obstore understands (`s3://bucket/prefix`).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store, from_url

from wherry.errors import Misconfigured, Unavailable

CHUNK_BYTES = 1 << 20
WRITE_BACK_BYTES = 16 << 20
"""How often Linux is told to begin putting a file on disk (posix_fadvise(2)), so that the fsync at its end finds little
left to wait for: it took a tenth of an export's time."""

_STAGED = re.compile(r"#\d+$")  # obstore's name for an upload that is not complete


@dataclass(frozen=True)
class Stored:
    """A complete object: bytes, and their SHA-256 in hexadecimal."""

    key: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Listed:
    """An object that is there."""

    key: str
    size: int
    modified_at: datetime


class Store:
    """One root under which objects are kept.

    Args:
        root: a directory, made where it is missing, or a URL.

    Raises:
        Misconfigured: the root cannot be used.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._directory = None if "://" in root else Path(root).resolve()
        try:
            self._store: ObjectStore = self._open()
        except (BaseError, OSError, ValueError) as error:
            raise Misconfigured(f"storage path {root} cannot be used: {error}") from error

    def _open(self) -> ObjectStore:
        if self._directory is None:
            return from_url(self.root)
        self._directory.mkdir(parents=True, exist_ok=True)
        return LocalStore(self._directory)

    async def put(self, key: str, chunks: AsyncIterable[bytes]) -> Stored:
        """Write a stream as one object; nothing is visible if it fails or the process ends on the way.

        Raises:
            Unavailable: the storage does not answer; errors of the stream itself pass through.
        """
        meter = _Meter()
        try:
            await obstore.put_async(self._store, key, meter.follow(chunks), use_multipart=True)
        except BaseException as error:
            # obstore wraps what the stream itself raised; its reader wants the first cause.
            if meter.failure is not None:
                raise meter.failure from None
            if isinstance(error, (BaseError, OSError)):
                raise Unavailable(f"storage cannot be written: {type(error).__name__}", code="STORAGE_ERROR") from error
            raise
        await self._make_durable(key)
        return Stored(key, meter.size, meter.digest)

    def put_blocking(self, key: str, chunks: Iterable[bytes]) -> Stored:
        """`put` for a producer that blocks: its thread hashes and writes too, at three quarters of the cost. Blocks.

        Raises:
            Unavailable: the storage does not answer; errors of the stream itself pass through.
        """
        meter = _Meter()
        path = self.local_path(key)
        try:
            if path is None:
                obstore.put(self._store, key, meter.follow_blocking(chunks), use_multipart=True)
            else:
                _write(path, meter.follow_blocking(chunks))
        except BaseException as error:
            if meter.failure is not None:
                raise meter.failure from None
            if isinstance(error, (BaseError, OSError)):
                raise Unavailable(f"storage cannot be written: {type(error).__name__}", code="STORAGE_ERROR") from error
            raise
        return Stored(key, meter.size, meter.digest)

    async def put_file(self, key: str, path: Path) -> Stored:
        """Write a local file as one object."""
        return await self.put(key, read_file(path))

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` up to and without `end`, in chunks of about 1 MiB.

        Raises:
            FileNotFoundError: no such object.
        """
        if end is not None and end <= start:
            return
        options: obstore.GetOptions | None = None
        if end is not None:
            options = {"range": (start, end)}
        elif start:
            options = {"range": {"offset": start}}
        result = await obstore.get_async(self._store, key, options=options)
        async for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
            yield bytes(chunk)

    async def size(self, key: str) -> int | None:
        """The object's bytes, or None where there is none."""
        try:
            return int((await obstore.head_async(self._store, key))["size"])
        except FileNotFoundError:
            return None

    async def delete(self, key: str) -> None:
        """Remove an object; it is no error if it is not there."""
        try:
            await obstore.delete_async(self._store, key)
        except FileNotFoundError:
            return

    async def list(self, prefix: str = "") -> AsyncIterator[Listed]:
        """Every complete object under a prefix, in no order."""
        async for batch in obstore.list(self._store, prefix or None):
            for entry in batch:
                yield Listed(entry["path"], int(entry["size"]), entry["last_modified"])

    async def check(self) -> None:
        """Raise Unavailable unless the root answers."""
        try:
            async for _ in self.list("readiness-probe"):
                break
            if self._directory is not None and not os.access(self._directory, os.W_OK):
                raise PermissionError("not writable")
        except (BaseError, OSError) as error:
            raise Unavailable("storage does not answer", code="STORAGE_ERROR") from error

    async def signed_url(self, key: str, expires_in: timedelta) -> str | None:
        """A URL that reads the object without credentials, or None where the storage cannot give one."""
        if isinstance(self._store, (S3Store, GCSStore, AzureStore)):
            return await obstore.sign_async(self._store, "GET", key, expires_in)
        return None

    def local_path(self, key: str) -> Path | None:
        """The file behind an object of a local root."""
        return None if self._directory is None else self._directory / key

    def remove_abandoned_uploads(self, older_than_seconds: float) -> int:
        """Delete what crashed writers left in a local root, before it became visible; how many files. Blocks."""
        if self._directory is None:
            return 0
        removed = 0
        newest = _now() - older_than_seconds
        for path in self._directory.rglob("*#*"):
            if _STAGED.search(path.name) and path.stat().st_mtime < newest:
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    async def _make_durable(self, key: str) -> None:
        path = self.local_path(key)
        if path is not None:
            await asyncio.to_thread(_fsync, path)


class _Meter:
    """Counts and hashes a stream on its way, and remembers what it raised."""

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
                yield self._counted(chunk)

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


async def read_file(path: Path) -> AsyncIterator[bytes]:
    """A local file in chunks of 1 MiB, read in a thread."""
    file = await asyncio.to_thread(path.open, "rb")
    with file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk


def _write(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file that is there only when it is complete and on disk; on the way it has obstore's kind of name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f"{path.name}#0")
    try:
        with staged.open("wb", buffering=0) as file:
            written = begun = 0
            for chunk in chunks:
                rest = memoryview(chunk)
                while rest:
                    rest = rest[file.write(rest) :]
                written += len(chunk)
                if written - begun >= WRITE_BACK_BYTES and hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(file.fileno(), begun, written - begun, os.POSIX_FADV_DONTNEED)
                    begun = written
        _fsync(staged)
        staged.replace(path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    _fsync(path)


def _fsync(path: Path) -> None:
    for target in (path, path.parent):
        descriptor = os.open(target, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _now() -> float:
    return datetime.now().timestamp()
