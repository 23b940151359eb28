"""Runs import jobs. While the database server writes one batch, the next one is read and decoded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import psycopg

from wherry.accounts.authority import read_authority
from wherry.database.pools import Pool
from wherry.errors import ErrorCode, JobFailed, Unavailable
from wherry.imports.batches import Batches
from wherry.imports.decode import Decoder
from wherry.imports.models import Batch, Place
from wherry.imports.readers import FORMATS
from wherry.imports.readers.json import detect_format
from wherry.imports.readers.model import Opening, Reader, RecordParser, RecordsFormat
from wherry.imports.requests import CALLER_ROLE, DETECT_FORMAT, TABLE, options_of, table_option
from wherry.imports.source import SourceText
from wherry.imports.stored import source_text
from wherry.imports.writers import ImportTask, Writer, all_or_nothing, batch_by_batch, is_committed
from wherry.jobs import ledger
from wherry.jobs.ledger import Position
from wherry.jobs.models import Outcome
from wherry.jobs.runs import Run
from wherry.jobs.states import Status
from wherry.settings import Settings
from wherry.storage.remote import Fetch, fetch
from wherry.storage.store import Store
from wherry.tables.derivation import shape_of
from wherry.tables.model import Table
from wherry.tables.registry import CHANGED, DEFINITION_CHANGED, Tables
from wherry.waiting import end_task, with_ticks

LOOK_SECONDS = 1.0
"""How often a run checks, during a long step, whether to continue."""

SMALL_BATCH = 100
"""Batches up to this size are not encoded ahead: for a few records, a thread costs more than it saves."""


class ImportRunner:
    """The runner of the kind `import`. A job uses one or two connections throughout, and occasionally another one."""

    def __init__(self, pool: Pool, tables: Tables, store: Store, settings: Settings, *, fetch: Fetch = fetch) -> None:
        self._pool = pool
        self._tables = tables
        self._store = store
        self._settings = settings
        self._fetch = fetch

    async def run(self, run: Run) -> Outcome:
        """Import; see `Runner`."""
        job = run.job
        if is_committed(job):
            return _outcome(Position(False, job.success_count, job.error_count), Place.of(job.checkpoint).index)
        task = await self._task(run)
        open_writer = all_or_nothing if task.options.one_transaction else batch_by_batch
        async with open_writer(self._pool, task) as writer:
            try:
                task.authority.require(task.authority.role)
                await self._obtain(run)
                total = await self._import(task, await self._format(run), writer)
            except JobFailed as failure:
                await writer.report_file(failure)
                raise
            except psycopg.Error as error:
                if error.sqlstate not in DEFINITION_CHANGED:
                    raise
                lost_right = isinstance(error, psycopg.errors.InsufficientPrivilege)
                message = "A right that is needed to write to the table is missing" if lost_right else CHANGED
                changed = JobFailed(ErrorCode.DATABASE_ERROR, message, detail={"sqlstate": error.sqlstate})
                await writer.report_file(changed)
                raise changed from error
            except Unavailable as error:
                gave_up = JobFailed.by(error)
                await writer.report_file(gave_up)
                raise gave_up from error
        return _outcome(writer.position, total)

    async def _task(self, run: Run) -> ImportTask:
        table, settings = await self._table(run), self._settings
        authority = await read_authority(
            self._pool,
            run.job.owner_id,
            tuple(role for role in settings.transfer_roles if role in table.import_roles),
            requested_by=str(run.job.options.get(CALLER_ROLE, "")),
            depends_on_admin=shape_of(table).policy is not None,
        )
        limits = settings.import_batch_size, settings.import_max_records, settings.import_max_error_bytes
        return ImportTask(run, table, options_of(run.job), authority, *limits)

    async def _table(self, run: Run) -> Table:
        """The job's table as it is now.

        Raises:
            JobFailed: there is no such table any more.
        """
        table = await self._tables.find(run.job.resource)
        if table is None or table_option(table) != run.job.options.get(TABLE):
            raise JobFailed(ErrorCode.DATABASE_ERROR, f"{CHANGED}: it cannot be imported into now")
        return table

    async def _import(self, task: ImportTask, format_: RecordsFormat, writer: Writer) -> int:
        """Write every batch; return how many records the file has.

        Raises:
            JobFailed: the file as a whole is invalid.
        """
        source, run = source_text(self._store, task.run.job, self._settings), task.run
        reader = await with_ticks(format_.open(self._opening(task, source)), run.look, seconds=LOOK_SECONDS)
        decoder = self._decoder(task, reader.parser)
        total = task.place.index
        read = self._batches(task, reader, decoder)
        failure: JobFailed | None = None
        async with aclosing(_read_ahead(read, writer.encode_ahead, run)) as batches:
            while True:
                try:
                    batch = await anext(batches, None)
                except JobFailed as fault:  # of the file; all records before it count
                    failure, batch = fault, None
                if batch is None:
                    break
                await with_ticks(writer.write(batch, source.progress), run.look_within_step, seconds=LOOK_SECONDS)
                total = batch[-1].index + 1
        at_last = writer.write_postponed(decoder.decode, source.progress)
        await with_ticks(at_last, run.look_within_step, seconds=LOOK_SECONDS)
        if failure is not None:
            raise failure
        if total == 0:
            raise JobFailed(ErrorCode.EMPTY_FILE, "The file contains no records")
        return total

    def _opening(self, task: ImportTask, source: SourceText) -> Opening:
        return Opening(source, task.place, task.table, task.options, self._settings.import_max_record_bytes)

    def _decoder(self, task: ImportTask, parser: RecordParser) -> Decoder:
        return Decoder(
            task.table,
            parser,
            caller_role=task.authority.role or "",
            max_bytes=self._settings.import_max_record_bytes,
            unknown_fields=task.options.unknown_fields,
        )

    def _batches(self, task: ImportTask, reader: Reader, decoder: Decoder) -> AsyncGenerator[Batch]:
        size, most = self._settings.import_batch_size, task.max_records
        return Batches(reader.chunks, reader.splitter, decoder, size=size, max_records=most).read()

    async def _obtain(self, run: Run) -> None:
        """If the source is a URL, download it into storage, unless an earlier run has."""
        source = run.job.source or {}
        url, key = source.get("url"), str(source["key"])
        if url is None or await self._store.size(key) is not None:
            return
        settings = self._settings
        chunks = self._fetch(url, allowed_hosts=settings.import_allowed_hosts, max_bytes=settings.import_max_file_size)
        stored = await with_ticks(self._store.put(key, chunks), run.look, seconds=LOOK_SECONDS)
        if source.get("sha256") not in (None, stored.sha256):
            raise JobFailed(ErrorCode.FILE_READ_ERROR, "The source was lost, and its URL now has different content")
        found = {**source, "fileSize": stored.size, "sha256": stored.sha256}
        async with self._pool.connection() as connection, connection.transaction():
            await ledger.record_source(connection, run.lease, found)

    async def _format(self, run: Run) -> RecordsFormat:
        """The job's format; if it is not known yet, detect it from the content and record it on the job."""
        if not run.job.options.get(DETECT_FORMAT):
            return FORMATS[run.job.format]
        async with aclosing(source_text(self._store, run.job, self._settings).open()) as text:
            found = await with_ticks(detect_format(text), run.look, seconds=LOOK_SECONDS)
        async with self._pool.connection() as connection, connection.transaction():
            await ledger.record_format(connection, run.lease, found)
        return FORMATS[found]


async def _read_ahead(
    batches: AsyncGenerator[Batch], encode: Callable[[Batch], None], run: Run
) -> AsyncGenerator[Batch]:
    """The same batches; while the consumer works on one, the next one is read and encoded."""

    async def read() -> Batch | None:
        batch = await anext(batches, None)
        if batch is not None and len(batch) > SMALL_BATCH:
            await asyncio.to_thread(encode, batch)
        return batch

    async with aclosing(batches):
        reading = asyncio.ensure_future(read())
        try:
            while (batch := await with_ticks(reading, run.look, seconds=LOOK_SECONDS)) is not None:
                reading = asyncio.ensure_future(read())
                yield batch
        finally:
            await end_task(reading)


def _outcome(position: Position, total: int) -> Outcome:
    if not position.error_count:
        return Outcome(status=Status.SUCCEEDED, total_records=total, message="Imported")
    if position.success_count:
        return Outcome(status=Status.PARTIAL, total_records=total, message="Imported in part")
    message = "Every record has errors"
    error = {"code": ErrorCode.BATCH_FAILED.name, "number": int(ErrorCode.BATCH_FAILED), "message": message}
    return Outcome(status=Status.FAILED, is_read=True, total_records=total, error=error, message=message)
