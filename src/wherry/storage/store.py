"""Stores the bytes of sources and artifacts as objects, which become visible only when they are complete.

The root of a store is a local directory or the URL of a bucket (`s3://bucket/prefix`). A bucket's credentials and
endpoint are read from the usual environment variables (`AWS_…`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import obstore
import structlog
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store, from_url

from wherry.errors import Misconfigured, StorageUnavailable, Unavailable
from wherry.storage.directory import (
    keep,
    make_private,
    move_complete,
    remove_empty,
    remove_incomplete,
    write_complete,
)
from wherry.storage.streams import CHUNK_BYTES, Meter, explained, read_file
from wherry.waiting import beside_the_loop

PATIENCE = timedelta(seconds=10)
"""How long an HTTP request waits for a bucket that does not respond."""

LONG_PATIENCE = timedelta(minutes=3)
"""The same for a job: nobody is waiting for a response, and giving up would mean starting over."""

MAX_BACKOFF = timedelta(seconds=5)
MAX_RETRIES = 1000  # never reached: retries are limited by time

BUCKETS = (S3Store, GCSStore, AzureStore)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Stored:
    """An object that was just stored: its size in bytes and its SHA-256 in hexadecimal."""

    key: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Listed:
    """An existing object."""

    key: str
    size: int
    modified_at: datetime


class Store:
    """A root under which objects are stored. Whatever uses it raises `Unavailable` if the storage does not respond.

    Args:
        root: a directory, which is created if it is missing, or a bucket's URL.
        patience: how long a request to a bucket is retried before it fails.

    Raises:
        Misconfigured: the root cannot be used.
    """

    def __init__(self, root: str, *, patience: timedelta = PATIENCE) -> None:
        self.root = root
        self._directory = None if "://" in root else Path(root).resolve()
        try:
            self._store: ObjectStore = self._open(patience)
        except (BaseError, OSError, ValueError) as error:
            raise Misconfigured(f"storage path {root} cannot be used: {error}") from error

    def _open(self, patience: timedelta) -> ObjectStore:
        if self._directory is not None:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return LocalStore(self._directory)
        backoff: obstore.store.BackoffConfig = {"max_backoff": MAX_BACKOFF}
        store = from_url(
            self.root, retry_config={"retry_timeout": patience, "max_retries": MAX_RETRIES, "backoff": backoff}
        )
        if not isinstance(store, BUCKETS):
            raise ValueError("it must be a directory, or a URL of S3 (s3://), Google (gs://) or Azure (az://)")
        return store

    async def put(self, key: str, chunks: AsyncIterable[bytes]) -> Stored:
        """Write a stream as one object; nothing becomes visible if it fails or the process ends before it is complete.

        Errors of the stream itself pass through.
        """
        meter = Meter()
        with explained("written", meter), self._in_own_folder(key):
            await obstore.put_async(self._store, key, meter.follow(chunks), use_multipart=True)
            if (path := self.local_path(key)) is not None:
                await asyncio.to_thread(keep, path)
        return Stored(key, meter.size, meter.digest)

    def put_blocking(self, key: str, chunks: Iterable[bytes]) -> Stored:
        """`put` for a blocking producer, whose thread also hashes and writes: a quarter less CPU time. Blocks."""
        meter = Meter()
        path = self.local_path(key)
        with explained("written", meter), self._in_own_folder(key):
            if path is None:
                obstore.put(self._store, key, meter.follow_blocking(chunks), use_multipart=True)
            else:
                write_complete(path, meter.follow_blocking(chunks))
        return Stored(key, meter.size, meter.digest)

    async def move_file(self, key: str, path: Path, *, sha256: str) -> Stored:
        """Turn a local file, which must not be used afterwards, into an object; `sha256` is the file's, in hexadecimal.

        Within one file system its bytes are neither copied nor read again.

        Raises:
            Unavailable: the storage does not respond, or its copy differs from the file.
        """
        target = self.local_path(key)
        if target is not None:
            with explained("written"), self._in_own_folder(key):
                size = await beside_the_loop(partial(move_complete, path, target))
            if size is not None:
                return Stored(key, size, sha256)
        stored = await self.put(key, read_file(path))
        if stored.sha256 != sha256:
            await self.delete(key)
            raise StorageUnavailable("the stored copy differs from the file")
        return stored

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` up to but not including `end`, in chunks of about 1 MiB.

        Raises:
            FileNotFoundError: no such object.
        """
        if end is not None and end <= start:
            return
        options: obstore.GetOptions = {}  # an empty object has no range
        if start or end is not None:
            options["range"] = {"offset": start} if end is None else (start, end)
        with explained("read"):
            result = await obstore.get_async(self._store, key, options=options)
            async for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)

    async def size(self, key: str) -> int | None:
        """The object's size in bytes, or None if there is no such object."""
        with suppress(FileNotFoundError), explained("read"):
            return int((await obstore.head_async(self._store, key))["size"])
        return None

    async def delete(self, key: str) -> None:
        """Remove an object, if it exists."""
        with suppress(FileNotFoundError), explained("written"):
            try:
                await obstore.delete_async(self._store, key)
            finally:
                self._remove_empty_folder(key)

    async def discard(self, key: str) -> None:
        """Remove an object that its job no longer needs. If that fails, retention removes it later."""
        try:
            await self.delete(key)
        except Unavailable:  # why the job ended matters more
            log.warning("stored file not removed yet: retention will remove it", key=key, exc_info=True)

    async def list(self, prefix: str = "") -> AsyncIterator[Listed]:
        """Every complete object under a prefix, in no particular order."""
        with explained("read"):
            async for batch in obstore.list(self._store, prefix or None):
                for entry in batch:
                    yield Listed(entry["path"], int(entry["size"]), entry["last_modified"])

    async def check(self) -> None:
        """Raise `Unavailable` unless the root responds and, if it is local, is writable."""
        async for _ in self.list("readiness-probe"):
            break
        with explained("written"):
            if self._directory is not None and not os.access(self._directory, os.W_OK):
                raise PermissionError("not writable")

    async def signed_url(self, key: str, expires_in: timedelta) -> str | None:
        """A URL that reads the object without credentials, or None if the storage cannot sign URLs."""
        if isinstance(self._store, BUCKETS):
            return await obstore.sign_async(self._store, "GET", key, expires_in)
        return None

    def local_path(self, key: str) -> Path | None:
        """The path of an object's file, or None if the store is a bucket."""
        return None if self._directory is None else self._directory / key

    def remove_abandoned_uploads(self, older_than_seconds: float) -> int:
        """Delete the incomplete files that crashed writers left in a local root. Returns their number. Blocks."""
        return 0 if self._directory is None else remove_incomplete(self._directory, older_than_seconds)

    @contextmanager
    def _in_own_folder(self, key: str) -> Iterator[None]:
        """Create a private folder for an object of a local root, and remove it if it stays empty."""
        path = self.local_path(key)
        if path is not None:
            make_private(path.parent)
        try:
            yield
        finally:
            self._remove_empty_folder(key)

    def _remove_empty_folder(self, key: str) -> None:
        if self._directory is not None:
            remove_empty((self._directory / key).parent, self._directory)
