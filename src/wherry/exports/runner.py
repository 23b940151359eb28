"""Runs export jobs: writes the selected records to a file in storage.

A run that fails, is cancelled or loses its lease leaves no file behind. A job that is claimed again starts over.
"""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import closing
from datetime import timedelta
from functools import partial

import psycopg
import structlog

from wherry.accounts.authority import LOST, Authority, read_authority
from wherry.database.pools import Pool
from wherry.errors import ErrorCode, Forbidden, Invalid, JobFailed
from wherry.exports import artifact
from wherry.exports.artifact import Artifact
from wherry.exports.requests import ExportRequest
from wherry.exports.selection import require_targets
from wherry.exports.snapshot import ReadConnection, Snapshot, connected_ahead, require_chunked_rows
from wherry.jobs import ledger
from wherry.jobs.models import Advance, Outcome
from wherry.jobs.runs import Run
from wherry.jobs.states import Status
from wherry.settings import Settings
from wherry.storage.store import Store, Stored
from wherry.tables.registry import CHANGED, DEFINITION_CHANGED, Tables
from wherry.texts import whole_number
from wherry.waiting import beside_the_loop

REPORT_SECONDS = 0.5
"""How often a run writes its progress and checks whether to stop."""

ALMOST_DONE = 99.0
"""Progress after the last record was read; the ledger sets 100 when the job ends."""

MAX_RECORDS_REACHED = "max_records_reached"

log = structlog.get_logger(__name__)


class ExportRunner:
    """The runner of the kind `export`.

    Args:
        pool: of the primary, to check what the owner may do.
        tables: those that may be exported.
        read_conninfo: the database to read records from: the primary, or a hot standby.
        store: where artifacts go.
        settings: sizes and limits.

    Raises:
        Misconfigured: libpq is too old.
    """

    def __init__(self, pool: Pool, tables: Tables, read_conninfo: str, store: Store, settings: Settings) -> None:
        require_chunked_rows()
        self._pool = pool
        self._tables = tables
        self._read_conninfo = read_conninfo
        self._store = store
        self._settings = settings

    async def run(self, run: Run) -> Outcome:
        """Run a job; see `Runner`."""
        with connected_ahead(self._read_conninfo) as connecting:
            return await self._run(run, connecting)

    async def _run(self, run: Run, connecting: Future[ReadConnection]) -> Outcome:
        authority = await read_authority(self._pool, run.job.owner_id, self._settings.transfer_roles)
        authority.require(authority.role)
        request = await self._request(run, authority)
        key = artifact.key(run.job.id, run.lease.epoch, request)
        await self._remove_older(run)
        snapshot = Snapshot(
            connecting,
            request.selection,
            batch_rows=self._settings.export_batch_size,
            max_rows=self._settings.export_max_records,
        )
        output = Artifact(request, snapshot)
        progress = _Progress(run, snapshot, output)
        await progress.begin()
        try:
            stored = await self._produce(output, key, progress)
            await progress.end()
        except JobFailed:
            await progress.end()  # replaces the estimate with the number that was read
            await self._store.discard(key)
            raise
        except BaseException:
            await self._store.discard(key)
            raise
        return self._outcome(run, request, stored, snapshot)

    async def _request(self, run: Run, authority: Authority) -> ExportRequest:
        """The job's request, for its table as it is now.

        Raises:
            JobFailed: the owner may not export the table, or the table no longer has what the request names.
        """
        table = await self._tables.find(run.job.resource)
        if table is None:
            raise JobFailed(ErrorCode.DATABASE_ERROR, f"{CHANGED}: it cannot be exported now")
        if authority.owner_id is not None and authority.role not in table.export_roles:
            raise JobFailed(ErrorCode.FORBIDDEN, LOST)
        try:
            request = ExportRequest.of_job(run.job, table)
        except Invalid as error:
            raise JobFailed(ErrorCode.DATABASE_ERROR, f"{CHANGED}: {error}") from error
        if request.selection.shown_references:
            others = (await self._tables.current()).values()
            allowed = [each for each in others if authority.owner_id is None or authority.role in each.export_roles]
            try:
                require_targets(request.selection, allowed)
            except Forbidden as error:
                raise JobFailed(ErrorCode.FORBIDDEN, str(error)) from error
        return request

    async def _produce(self, output: Artifact, key: str, progress: _Progress) -> Stored:
        """Store the artifact, and report progress meanwhile."""

        def store() -> Stored:
            with closing(output.chunks()) as chunks:
                return self._store.put_blocking(key, chunks)

        try:
            return await beside_the_loop(store, stop=output.stop, tick=progress.advance, seconds=REPORT_SECONDS)
        except psycopg.Error as error:
            raise _translated(error) from error

    async def _remove_older(self, run: Run) -> None:
        """Remove files that earlier runs of this job left behind, but not those of later ones."""
        if run.lease.epoch == 1:
            return
        async for found in self._store.list(f"{run.job.id}/"):
            epoch = whole_number(found.key.rpartition("/")[2].partition(".")[0])
            if epoch is not None and epoch < run.lease.epoch:
                await self._store.delete(found.key)

    def _outcome(self, run: Run, request: ExportRequest, stored: Stored, snapshot: Snapshot) -> Outcome:
        log.debug("exported", records=snapshot.rows, bytes=stored.size, truncated=snapshot.truncated)
        return Outcome(
            status=Status.SUCCEEDED,
            artifact={
                "key": stored.key,
                "fileName": f"{run.job.id}.{artifact.extension(request)}",
                "contentType": artifact.content_type(request),
                "size": stored.size,
                "sha256": stored.sha256,
                "truncated": snapshot.truncated,
                "recordLimit": self._settings.export_max_records if snapshot.truncated else None,
                "reason": MAX_RECORDS_REACHED if snapshot.truncated else None,
            },
            keep_for=timedelta(hours=self._settings.export_file_retention_hours),
            total_records=snapshot.found,
            message=f"Exported {snapshot.rows} records",
            discard=partial(self._store.discard, stored.key),
        )


class _Progress:
    """Reports progress to the ledger, on a different connection from the snapshot's."""

    def __init__(self, run: Run, snapshot: Snapshot, output: Artifact) -> None:
        self._run = run
        self._snapshot = snapshot
        self._output = output
        self._reported = 0

    async def begin(self) -> None:
        """Reset the counters, because the file of an earlier run is gone."""
        async with self._run.pool.connection() as connection:
            await ledger.restart(connection, self._run.lease)
        await self._report(0, Advance(message="Reading records"))

    async def advance(self) -> None:
        """Report the number of records read so far.

        Raises:
            JobCancelled, JobReleased, LeaseLost: see `Run.advance`.
        """
        rows, estimate = self._snapshot.rows, self._snapshot.estimate
        total = None if estimate is None else max(rows, estimate)
        done = ALMOST_DONE * self._output.progress
        await self._report(rows, Advance(successes=rows - self._reported, total_records=total, progress=done))

    async def end(self) -> None:
        """Report the final number of records, which is exact."""
        rows, total = self._snapshot.rows, self._snapshot.found
        await self._report(rows, Advance(successes=rows - self._reported, total_records=total, progress=ALMOST_DONE))

    async def _report(self, rows: int, step: Advance) -> None:
        await self._run.advance(step)
        self._reported = rows


def _translated(error: psycopg.Error) -> Exception:
    """The error to raise: the same one if a retry may help, as after a lost connection, and `JobFailed` otherwise."""
    code = error.sqlstate
    transient = code is None or code[:2] in ("08", "40", "53") or code in ("57P01", "57P02", "57P03")
    if transient and isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return error
    message = CHANGED if code in DEFINITION_CHANGED else "The database ended the export"
    return JobFailed(ErrorCode.DATABASE_ERROR, message, detail={"sqlstate": code})
