"""Keeps a table's id sequence from handing out the ids that an import's records have.

Otherwise a person who registers during an import could be given the id of its next record, and that record would then
overwrite the person's row. So before a batch is looked up, the sequence is moved far ahead of the batch's ids. When the
import ends, the sequence is moved back to the highest id that was really used. Sequences do not roll back, so none of
this waits for a commit.

A run that dies does not move the sequence back, so the ids that it reserved are skipped. An id that is handed out at
the very moment when the sequence is moved back may be handed out again much later; that insert then takes the next id.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from wherry.database.pools import Connection, Pool
from wherry.database.queries import load
from wherry.errors import JobCancelled, JobFailed
from wherry.imports.models import Batch
from wherry.jobs.models import Lease
from wherry.resources.model import Resource
from wherry.resources.rules import MAX_ID

LAST_RESERVED = MAX_ID - 1_000_000
"""The sequence is never moved past this id, whatever ids the records have. The ids after it are left for new rows."""


class IdReservation:
    """The ids that one run has reserved in a table's sequence. A run that has lost its lease gives nothing back."""

    def __init__(self, resource: Resource, lease: Lease) -> None:
        self._table = resource.name
        self._lease = lease
        self._clear_to = 0  # no id up to this one will be handed out any more
        self._reserved_to = 0
        self._floor = 0
        self._used = 0

    async def cover(self, connection: Connection, batch: Batch, room: int) -> None:
        """Unless the sequence is ahead of a batch's ids, move it `room` ahead. Do not call this in a transaction."""
        ids = [entry.record.id for entry in batch if not entry.errors and entry.record.id is not None]
        highest = min(max(ids, default=0), LAST_RESERVED)
        if highest <= self._clear_to:
            return
        target = min(highest + room, LAST_RESERVED)
        async with connection.transaction():
            await connection.execute(load("imports")["lock_ids"], {"table": self._table})
            values = {"table": self._table, "highest": highest, "target": target}
            row = await (await connection.execute(load("imports")["reserve_ids"], values)).fetchone()
        assert row is not None
        before, self._clear_to = row
        if before < highest:
            if before != self._reserved_to:
                self._floor = before
            self._reserved_to = target

    def use(self, highest_id: int) -> None:
        """Note that rows with ids up to this one have been, or are about to be, committed."""
        self._used = max(self._used, highest_id)

    async def give_back(self, pool: Pool) -> None:
        """Move the sequence back to the highest id that was used, unless others have come to rely on its value."""
        if not self._reserved_to:
            return
        async with pool.connection() as connection, connection.transaction():
            await connection.execute(load("imports")["lock_ids"], {"table": self._table})
            values = {
                "table": self._table,
                "reserved": self._reserved_to,
                "used": max(self._floor, min(self._used, LAST_RESERVED)),
                "job_id": self._lease.job_id,
                "epoch": self._lease.epoch,
            }
            await connection.execute(load("imports")["give_ids_back"], values)


@asynccontextmanager
async def reserve_ids(pool: Pool, resource: Resource, lease: Lease) -> AsyncIterator[IdReservation]:
    """A reservation that is given back when the import ends, but not when another run is going to continue it."""
    ids = IdReservation(resource, lease)
    try:
        yield ids
    except (JobFailed, JobCancelled):
        await ids.give_back(pool)
        raise
    await ids.give_back(pool)
