"""Records what an import has done: its errors in the report, its counters and checkpoint in the job.

A file of a kilobyte can cause hundreds of megabytes of errors, so the size of the report is limited. Errors beyond the
limit are only counted. The current size is part of the checkpoint, so it is committed together with the rows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self
from uuid import UUID

import msgspec
from psycopg.types.json import Jsonb

from wherry.database.pools import Connection
from wherry.database.queries import load
from wherry.errors import ErrorCode, JobFailed
from wherry.imports.copying import copying
from wherry.imports.merge import Tally
from wherry.imports.models import FILE_INDEX, Place, RecordError
from wherry.jobs.ledger import Position
from wherry.jobs.models import Advance
from wherry.jobs.runs import Run

ROW_BYTES = 200
"""The size of a row of `import_errors` without its texts, but with its index entry."""

SINCE = "since"
"""The first transaction of the import, in the checkpoint."""

_encode = msgspec.json.Encoder(decimal_format="number").encode


MAX_UNKNOWN_NAMES = 100
"""Fields with other names are counted together."""


class ReportState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What has been reported.

    Attributes:
        size: of the errors, in bytes.
        truncated: whether errors had to be left out.
        unknown: how many records had each unknown field; an empty name stands for all other names.
    """

    size: int = msgspec.field(default=0, name="reportBytes")
    truncated: bool = msgspec.field(default=False, name="reportTruncated")
    unknown: dict[str, int] = msgspec.field(default_factory=dict, name="unknown")

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any] | None) -> Self:
        """The state in a job's checkpoint."""
        return msgspec.convert(checkpoint or {}, cls)

    def checkpoint_at(self, place: Place, since: str | None) -> dict[str, Any]:
        """The checkpoint of an import that resumes at `place`. `since` is its first transaction."""
        return {**msgspec.to_builtins(place), **msgspec.to_builtins(self), SINCE: since}

    def admit(self, errors: Sequence[RecordError], limit: int) -> tuple[Sequence[RecordError], ReportState]:
        """The errors that still fit, and the state once they are written. The first error always fits."""
        if self.truncated:
            return (), self
        size = self.size
        for number, error in enumerate(errors):
            more = size + _bytes_of(error)
            if more > limit and size:
                return errors[:number], msgspec.structs.replace(self, size=size, truncated=True)
            size = more
        return errors, msgspec.structs.replace(self, size=size)

    def noting(self, unknown: Mapping[str, int]) -> ReportState:
        """The state with more records that have unknown fields."""
        if not unknown:
            return self
        counts = dict(self.unknown)
        for name, count in unknown.items():
            key = name if name in counts or len(counts) < MAX_UNKNOWN_NAMES else ""
            counts[key] = counts.get(key, 0) + count
        return msgspec.structs.replace(self, unknown=counts)


class Bookkeeper:
    """Records the errors, counters and checkpoint of one run, on one connection. Every entry checks the run's lease.

    Args:
        max_error_bytes: size limit of the report.
        position: the counters so far.
        report: the state of the report so far.
    """

    def __init__(
        self, run: Run, connection: Connection, max_error_bytes: int, *, position: Position, report: ReportState
    ) -> None:
        self.connection = connection
        self.position = position
        self.report = report
        self._run = run
        self._max_error_bytes = max_error_bytes

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A transaction on the connection. If it is rolled back, so are `position` and `report`."""
        before = self.position, self.report
        try:
            async with self.connection.transaction():
                yield self.connection
        except BaseException:
            self.position, self.report = before
            raise

    async def count(self, place: Place, since: str | None, tally: Tally, successes: int, percent: float) -> None:
        """Write a batch's errors and advance the lease to where to resume, inside a transaction."""
        errors, report = self.report.admit(tally.errors, self._max_error_bytes)
        self.report = report.noting(tally.unknown)
        await _write_errors(self.connection, self._run.job.id, errors)
        if rejects := tally.rejects:
            values = {"job_id": self._run.job.id, "indexes": rejects}
            await self.connection.execute(load("imports")["reject"], values)
        step = Advance(
            successes=successes,
            errors=tally.failures,
            summary=tally.summary,
            checkpoint=self.report.checkpoint_at(place, since),
            progress=percent,
        )
        self.position = await self._run.advance_within(self.connection, step)

    async def report_file(self, failure: JobFailed) -> None:
        """Report a fault of the file as a whole, unless an earlier run of the job has reported one."""
        job_id = self._run.job.id
        error = RecordError(FILE_INDEX, None, ErrorCode[failure.code], failure.message, details=failure.detail or None)
        async with self.connection.transaction():
            found = await self.connection.execute(load("imports")["has_file_error"], {"job_id": job_id})
            errors = [] if await found.fetchone() else [error]
            await _write_errors(self.connection, job_id, errors)
            summary = {error.summary_key: 1 for error in errors}
            await self._run.advance_within(self.connection, Advance(summary=summary))


async def _write_errors(connection: Connection, job_id: UUID, errors: Sequence[RecordError]) -> None:
    if not errors:
        return
    async with copying(connection, load("imports")["copy_errors"].encode()) as copy:
        copy.set_types(["uuid", "int8", "text", "int2", "text", "text", "text", "jsonb", "jsonb"])
        for error in errors:
            value = None if error.value is None else Jsonb(error.value, _encode)
            details = None if error.details is None else Jsonb(error.details, _encode)
            code = (int(error.code), error.code.name)
            row = (job_id, error.index, error.record_id, *code, error.message, error.field, value, details)
            await copy.write_row(row)


def _bytes_of(error: RecordError) -> int:
    texts = (error.record_id, error.code.name, error.message, error.field)
    extra = sum(len(_encode(value)) for value in (error.value, error.details) if value is not None)
    return ROW_BYTES + extra + sum(len(text.encode()) for text in texts if text is not None)
