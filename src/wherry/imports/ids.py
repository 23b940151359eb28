"""Keeps a table's sequences from handing out the ids that an import's records have.

Otherwise a person who registers during an import could be given the id of its next record, and that record would then
overwrite the person's row. So before a batch is looked up, the sequence is moved far ahead of the batch's ids. When the
import ends, the sequence is moved back to the highest id that was really used. Sequences do not roll back, so none of
this waits for a commit.

A run that dies does not move the sequence back, so the ids that it reserved are skipped. An id that is handed out at
the very moment when the sequence is moved back may be handed out again much later; that insert then takes the next id.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from operator import attrgetter

from wherry.database.pools import Connection, Pool
from wherry.database.queries import load
from wherry.errors import JobCancelled, JobFailed
from wherry.imports.models import Batch
from wherry.jobs.models import Lease
from wherry.tables.derivation import shape_of
from wherry.tables.model import Column, Table

LEFT_FOR_NEW_ROWS = 1_000_000
"""Sequences are never moved into the last ids of a column: this many, or one percent if that is less."""


class _Sequence:
    """The ids of one column. `last_reserved` is the last one that its sequence may be moved to."""

    def __init__(self, column: Column, attribute: str) -> None:
        most = int(column.type.schema["maximum"])
        self.column = column
        self.id_of = attrgetter(attribute)
        self.name = str(column.sequence)
        self.last_reserved = most - min(LEFT_FOR_NEW_ROWS, most // 100)
        self.clear_to = 0  # no id up to this one will be handed out any more
        self.reserved_to = 0
        self.floor = 0
        self.used = 0


class IdReservation:
    """The ids that one run has reserved in a table's sequences. A run that has lost its lease gives nothing back."""

    def __init__(self, table: Table, lease: Lease) -> None:
        self._resource = table.name
        self._lease = lease
        attributes = shape_of(table).attributes
        self._sequences = [
            _Sequence(column, attributes[column.name])
            for column in table.columns.values()
            if column.sequence is not None and column.name in attributes
        ]

    async def cover(self, connection: Connection, batch: Batch, room: int) -> None:
        """Move sequences that are not ahead of a batch's ids `room` ahead. Do not call this in a transaction."""
        for sequence in self._sequences:
            ids = [sequence.id_of(entry.record) for entry in batch if not entry.errors]
            highest = min(max((id_ for id_ in ids if isinstance(id_, int)), default=0), sequence.last_reserved)
            if highest > sequence.clear_to:
                await self._reserve(connection, sequence, highest, min(highest + room, sequence.last_reserved))

    def use(self, highest: Mapping[str, int]) -> None:
        """Note that rows with ids up to these, by column, have been, or are about to be, committed."""
        for sequence in self._sequences:
            sequence.used = max(sequence.used, highest.get(sequence.column.name, 0))

    async def give_back(self, pool: Pool) -> None:
        """Move sequences back to the highest ids that were used, unless others have come to rely on their values."""
        for sequence in self._sequences:
            if sequence.used < sequence.reserved_to:
                async with pool.connection() as connection, connection.transaction():
                    await self._give_back(connection, sequence)

    async def _reserve(self, connection: Connection, sequence: _Sequence, highest: int, target: int) -> None:
        values = {"sequence": sequence.name, "highest": highest, "target": target}
        row = await (await connection.execute(load("imports")["reserve_ids"], values)).fetchone()
        assert row is not None
        before, sequence.clear_to = row
        if before < highest:
            if before != sequence.reserved_to:
                sequence.floor = before
            sequence.reserved_to = target

    async def _give_back(self, connection: Connection, sequence: _Sequence) -> None:
        await connection.execute(load("imports")["lock_ids"], {"sequence": sequence.name})
        values = {
            "sequence": sequence.name,
            "resource": self._resource,
            "reserved": sequence.reserved_to,
            "used": max(sequence.floor, min(sequence.used, sequence.last_reserved)),
            "job_id": self._lease.job_id,
            "epoch": self._lease.epoch,
        }
        await connection.execute(load("imports")["give_ids_back"], values)


@asynccontextmanager
async def reserve_ids(pool: Pool, table: Table, lease: Lease) -> AsyncIterator[IdReservation]:
    """A reservation that is given back when the import ends, but not when another run is going to continue it."""
    ids = IdReservation(table, lease)
    try:
        yield ids
    except (JobFailed, JobCancelled):
        await ids.give_back(pool)
        raise
    await ids.give_back(pool)
