"""Accepts imports: stores the uploaded source and queues the job."""

from __future__ import annotations

from collections.abc import AsyncIterable
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID

from wherry.database.pools import Connection, Pool
from wherry.errors import EmptyFile, JobFailed, TooLarge
from wherry.imports.models import ImportOptions
from wherry.imports.readers.json import JSON, detect_format
from wherry.imports.requests import EMPTY_UPLOAD, ImportSource, fingerprint, job_options, source_key
from wherry.imports.source import SourceText
from wherry.jobs.models import Job, NewJob
from wherry.jobs.queue import submit
from wherry.jobs.states import Kind
from wherry.storage.store import Store
from wherry.storage.streams import limited
from wherry.tables.model import Table


@dataclass(frozen=True)
class RequestedImport:
    """A requested import.

    Attributes:
        format: None if it has to be detected from the content of the URL.
        webhook_url: called when the import ends, whether it was requested or is the operator's.
    """

    table: Table
    format: str | None
    options: ImportOptions
    owner_id: int
    owner_role: str
    idempotency_key: str
    webhook_url: str | None = None


class Intake:
    """Accepts imports. `max_file_bytes` is the size limit of a source, as sent."""

    def __init__(self, pool: Pool, store: Store, *, max_file_bytes: int) -> None:
        self._pool = pool
        self._store = store
        self._max_file_bytes = max_file_bytes

    async def keep(
        self,
        job_id: UUID,
        chunks: AsyncIterable[bytes],
        file_name: str | None,
        content_type: str | None,
        charset: str | None = None,
    ) -> ImportSource:
        """Store an upload.

        Raises:
            TooLarge: it has more than `max_file_bytes`.
            EmptyFile: it is empty.
        """
        whole = limited(chunks, self._max_file_bytes, self.too_large)
        stored = await self._store.put(source_key(job_id), (chunk async for chunk in whole if chunk))
        if stored.size == 0:
            await self._store.delete(stored.key)
            raise EmptyFile(EMPTY_UPLOAD, field="file")
        return ImportSource(
            stored.key, file_name, stored.size, stored.sha256, content_type=content_type, charset=charset
        )

    async def detect_format(self, source: ImportSource) -> str:
        """The format of a stored upload, judged by its first bytes."""
        stored = SourceText(self._store, source.key, self._max_file_bytes)
        try:
            async with aclosing(stored.open()) as text:
                return await detect_format(text)
        except JobFailed:  # the file is damaged, which the run will report
            return JSON.name

    async def drop(self, job_id: UUID) -> None:
        """Remove an upload for which no job was created."""
        await self._store.delete(source_key(job_id))

    async def queue(
        self, connection: Connection, job_id: UUID, asked: RequestedImport, source: ImportSource
    ) -> tuple[Job, bool]:
        """Insert the job and its queue row, in the caller's transaction; return `(job, replayed)`.

        Raises:
            KeyReused: the idempotency key was already used for a different request.
        """
        format_ = asked.format or JSON.name
        new = NewJob(
            id=job_id,
            kind=Kind.IMPORT,
            owner_id=asked.owner_id,
            resource=asked.table.name,
            format=format_,
            options=job_options(asked.options, asked.owner_role, asked.table, format_is_known=asked.format is not None),
            source=source.as_json(),
            idempotency_key=asked.idempotency_key,
            fingerprint=fingerprint(
                asked.table, format_, asked.options, sha256=source.sha256, url=source.url, charset=source.charset
            ),
            webhook_url=asked.webhook_url,
        )
        return await submit(connection, new)

    def check_declared(self, declared_bytes: int | None) -> None:
        """Raise `TooLarge` before a body is sent if its declared length is over the limit."""
        if declared_bytes is not None and declared_bytes > self._max_file_bytes:
            raise self.too_large()

    def too_large(self) -> TooLarge:
        return TooLarge(f"file may have at most {self._max_file_bytes} bytes", field="file")
