"""Writes the rows of a batch to the resource's table, inside the caller's transaction.

The table may refuse what the plan allows, because of a race or a constraint of its own. Then the driver's exception is
raised, and once the batch has been narrowed down to a single record, `refusal` turns the exception into an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import Any, TypeAlias, cast
from uuid import UUID

import msgspec
import psycopg
from psycopg.rows import scalar_row, tuple_row

from wherry.database.pools import Connection
from wherry.database.queries import load
from wherry.errors import ErrorCode
from wherry.imports.models import Batch, DecodedRecord, RecordError, label, report_value
from wherry.imports.plan import Known, Plan, PlannedRow, Rules, Write, make_plan, name_of
from wherry.resources.model import Resource

DrawIds: TypeAlias = Callable[[Connection, int], Awaitable[list[int]]]
"""Returns ids for new rows: at most the number requested."""


class _AllBut(Container[int]):
    """Contains every id except those known to be missing: the rest is left to the table's foreign key."""

    def __init__(self, missing: frozenset[int]) -> None:
        self._missing = missing

    def __contains__(self, id_: object) -> bool:
        return id_ not in self._missing


REFUSALS = (
    psycopg.IntegrityError,
    psycopg.DataError,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.RaiseException,
)
"""Exceptions that the database raises because of the rows."""

RACES = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
"""Exceptions caused by other transactions: the batch may succeed if it is tried again."""

_REFUSED_AS: tuple[tuple[type[psycopg.Error], ErrorCode, str], ...] = (
    (psycopg.errors.UniqueViolation, ErrorCode.DUPLICATE_VALUE, "is already in use"),
    (psycopg.errors.ForeignKeyViolation, ErrorCode.INVALID_REFERENCE, "does not exist"),
    (psycopg.errors.NotNullViolation, ErrorCode.MISSING_REQUIRED_FIELD, "is required"),
    (psycopg.errors.StringDataRightTruncation, ErrorCode.FIELD_TOO_LONG, "is too long"),
    (psycopg.errors.ProgramLimitExceeded, ErrorCode.FIELD_TOO_LONG, "is too long to be indexed"),
    (psycopg.errors.CheckViolation, ErrorCode.INVALID_FIELD_FORMAT, "is not allowed"),
)


@dataclass(slots=True)
class Tally:
    """The result of a batch. `highest_id` is the highest id that a record gave a new row, or 0 if none did."""

    successes: int = 0
    failures: int = 0
    errors: list[RecordError] = field(default_factory=list)
    highest_id: int = 0

    @property
    def summary(self) -> dict[str, int]:
        """Errors by name and field."""
        return dict(Counter(error.summary_key for error in self.errors))


class Merger:
    """Writes the batches of one import, one after another, and marks the rows that it writes with the import's id."""

    def __init__(self, resource: Resource, job_id: UUID, rules: Rules) -> None:
        self._resource = resource
        self._columns = resource.shape.columns
        self._sql = load(resource.name, "resources")
        self._clearable = resource.shape.clearable
        self._job_id = job_id
        self._rules = rules
        self._expects_new = False

    async def write(self, connection: Connection, batch: Batch) -> Tally:
        """Write the rows of a batch, inside the caller's transaction. Its errors are only returned.

        If all rows of a batch were new, those of the next batch are assumed to be new too, and are not looked up. If
        that is wrong, the table's constraints refuse the batch, and the caller has to call `write_again`.

        Raises:
            psycopg.Error: `REFUSALS` and `RACES` among others; the caller must roll the batch back.
            JobFailed: the import's owner has lost the role that it needs.
        """
        expects_new, self._expects_new = self._expects_new, False
        now = await self._prepare(connection)
        plan = await self._plan_new(connection, batch, now) if expects_new else None
        plan = plan or await self._plan(connection, batch, now)
        return await self._carry_out(connection, plan, batch, self._draw_ids)

    async def write_again(self, connection: Connection, batch: Batch) -> Tally:
        """`write` for a batch that was refused, without assumptions: look up its records and the ids that it draws."""
        self._expects_new = False
        plan = await self._plan(connection, batch, await self._prepare(connection))
        return await self._carry_out(connection, plan, batch, self._draw_unused_ids)

    async def _carry_out(self, connection: Connection, plan: Plan, batch: Batch, draw: DrawIds) -> Tally:
        highest_id = 0
        for segment in plan.segments:
            highest_id = max([highest_id, *(write.id for write in segment.creates if write.id is not None)])
            await self._update(connection, segment.updates)
            await self._allocate(connection, segment.creates, draw)
            await self._create(connection, segment.creates)
        self._expects_new = plan.created == _count_sound(batch)
        return Tally(plan.successes, plan.failures, plan.errors, highest_id)

    async def _plan(self, connection: Connection, batch: Batch, now: datetime, keepers: int | None = None) -> Plan:
        records = [entry.record for entry in batch if entry.record is not None]
        rows = await self._rows(connection, records)
        references = await self._existing_references(connection, records)
        plan = make_plan(self._resource, self._rules, Known(rows, references, now, keepers), batch)
        if plan.lacks_keepers:
            return await self._plan(connection, batch, now, await self._count_keepers(connection))
        return plan

    async def _plan_new(self, connection: Connection, batch: Batch, now: datetime) -> Plan | None:
        """A plan made without looking up the sound records, or None if any of them does not become a new row.

        If two records of the batch concern the same row, both have to be looked up: the second could hide a fault of
        the first from the table's constraints. Faulty records never reach the table, so they are always looked up.
        """
        faulty = [entry.record for entry in batch if entry.errors and entry.record is not None]
        rows = await self._rows(connection, faulty)
        existing = await self._existing_references(connection, faulty)
        references = {name: _AllBut(self._named(faulty, name) - ids) for name, ids in existing.items()}
        plan = make_plan(self._resource, self._rules, Known(rows, references, now), batch)
        return plan if plan.created == _count_sound(batch) and not plan.lacks_keepers else None

    async def _rows(self, connection: Connection, records: Sequence[Any]) -> list[PlannedRow]:
        """The rows with the ids or natural keys of these records."""
        ids, keys = _distinct(records, "id"), _distinct(records, self._resource.natural_key)
        if not ids and not keys:
            return []
        values = {"job_id": self._job_id, "ids": ids, "keys": keys}
        async with connection.cursor(row_factory=tuple_row) as cursor:
            # A prepared statement could keep a generic plan that was made while the table was small, and scans all of
            # it. Setting plan_cache_mode would also replan the foreign key checks of each row, which takes 30 % of
            # an import's time.
            await cursor.execute(self._sql["lookup"], values, prepare=False)
            return [PlannedRow(*row) for row in await cursor.fetchall()]  # its columns are the first fields, in order

    async def _existing_references(self, connection: Connection, records: Sequence[Any]) -> dict[str, frozenset[int]]:
        """The existing ids among those that records refer to, by resource."""
        named = {name: self._named(records, name) for name in set(self._resource.references.values())}
        return {name: await _existing(connection, name, list(ids)) if ids else ids for name, ids in named.items()}

    async def _count_keepers(self, connection: Connection) -> int:
        """Count and lock the rows of which at least one must remain. Few records need this."""
        return (await connection.execute(self._sql["keepers"])).rowcount

    async def _prepare(self, connection: Connection) -> datetime:
        """Set the transaction up, check that the owner still has the role, and return the transaction's time."""
        authority = self._rules.authority
        values = {"name": session_name(self._job_id), "owner_id": authority.owner_id}
        cursor = connection.cursor(row_factory=tuple_row)
        await cursor.execute(load("imports")["prepare"], values)
        now, role, *_ = cast(tuple[Any, ...], await cursor.fetchone())
        authority.require(role)
        return cast(datetime, now)

    def _named(self, records: Sequence[Any], resource: str) -> frozenset[int]:
        columns = [column for column, name in self._resource.references.items() if name == resource]
        return frozenset(value for column in columns for value in _distinct(records, column))

    async def _update(self, connection: Connection, writes: Sequence[Write]) -> None:
        if not writes:
            return
        # Encoding one JSON text takes the client a tenth of the time of encoding one array per column.
        rows = msgspec.json.encode([{"id": write.id, **write.columns, **self._meant(write)} for write in writes])
        await connection.execute(self._sql["update"], {"rows": rows.decode(), "job_id": self._job_id})

    def _meant(self, write: Write) -> dict[str, bool]:
        """Flags for columns that may be set to null. In all others, null means to leave the value as it is."""
        return {f"sets_{name}": True for name in self._clearable if name in write.columns}

    async def _allocate(self, connection: Connection, writes: Sequence[Write], draw: DrawIds) -> None:
        """Give every new row an id, in the order of their records."""
        waiting = [write for write in writes if write.id is None]
        taken = {write.id for write in writes}
        while waiting:
            ids = [id_ for id_ in await draw(connection, len(waiting)) if id_ not in taken]
            for write, id_ in zip(waiting, ids, strict=False):
                write.id = id_
            waiting = waiting[len(ids) :]

    async def _draw_ids(self, connection: Connection, count: int) -> list[int]:
        """The sequence's next ids."""
        cursor = connection.cursor(row_factory=scalar_row)
        await cursor.execute(self._sql["allocate"], {"count": count})
        return await cursor.fetchall()

    async def _draw_unused_ids(self, connection: Connection, count: int) -> list[int]:
        """Those of the sequence's next ids that no row has."""
        ids = await self._draw_ids(connection, count)
        used = await _existing(connection, self._resource.name, ids)
        return [id_ for id_ in ids if id_ not in used]

    async def _create(self, connection: Connection, writes: Sequence[Write]) -> None:
        if not writes:
            return
        pick = itemgetter(*self._columns)
        async with connection.cursor() as cursor, cursor.copy(self._sql["copy"]) as copy:
            copy.set_types(["integer", "uuid", *self._columns.values()])
            for write in writes:
                await copy.write_row((write.id, self._job_id, *pick(write.columns)))


def session_name(job_id: UUID) -> str:
    """The `application_name` of the import's sessions while they have a transaction."""
    return f"wherry import {job_id}"


def refusal(resource: Resource, entry: DecodedRecord, error: psycopg.Error) -> RecordError:
    """The database's exception about a single record as an error of that record."""
    name = resource.constraints.get(error.diag.constraint_name or "") or error.diag.column_name
    code, text = ErrorCode.DATABASE_ERROR, "was refused by the database"
    for kind, its_code, its_text in _REFUSED_AS:
        if isinstance(error, kind):
            code, text = its_code, its_text
            break
    if isinstance(error, psycopg.errors.ProgramLimitExceeded):
        name = resource.natural_key
    value = getattr(entry.record, name, None) if name else None
    message = f"{label(name or 'record')} {text}"
    return RecordError(entry.index, name_of(resource, entry.record), code, message, name, report_value(value))


def is_id_clash(resource: Resource, entry: DecodedRecord, error: psycopg.Error) -> bool:
    """Whether another transaction has taken the id that the sequence gave this record, which is not at fault."""
    has_no_id = entry.record is not None and entry.record.id is None
    return has_no_id and error.diag.constraint_name == f"{resource.name}_pkey"


async def _existing(connection: Connection, resource: str, ids: Sequence[int]) -> frozenset[int]:
    cursor = connection.cursor(row_factory=scalar_row)
    await cursor.execute(load(resource, "resources")["existing"], {"ids": list(ids)}, prepare=False)  # see Merger._rows
    return frozenset(await cursor.fetchall())


def _count_sound(batch: Batch) -> int:
    return sum(not entry.errors for entry in batch)


def _distinct(records: Iterable[Any], name: str) -> list[Any]:
    values = {getattr(record, name) for record in records}
    values.discard(None)
    return list(values)
