"""Keeps the ids that a table's sequence hands out clear of those that an import's records have.

Otherwise the sequence's next id could be the very one that the import's next record has: whoever registers in between
would get it, and the record would then overwrite that person's row. So before a batch is looked up, the sequence is
moved far ahead of its ids, and when the import ends it is moved back to the highest id that was really used. Sequences
do not roll back, so none of this waits for a commit.

A run that dies gives nothing back; those ids are skipped. An id that is handed out at the very moment of giving back
may, much later, be handed out a second time; that insert then takes the next one.
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
"""A sequence is never moved past this, whatever ids records have: the rest is left for it to hand out."""


class IdReservation:
    """The ids that one run has reserved.

    Args:
        resource: its table's sequence is moved.
        lease: of the run. A run that has lost its lease gives nothing back.
    """

    def __init__(self, resource: Resource, lease: Lease) -> None:
        self._table = resource.name
        self._lease = lease
        self._clear_to = 0  # no id up to this one will be handed out any more
        self._reserved_to = 0
        self._floor = 0
        self._used = 0

    async def cover(self, connection: Connection, batch: Batch, room: int) -> None:
        """Unless the sequence is ahead of a batch's ids, move it `room` ahead of them. Not inside a transaction."""
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
        """Take note that rows with ids up to this one have been, or are about to be, committed."""
        self._used = max(self._used, highest_id)

    async def give_back(self, pool: Pool) -> None:
        """Move the sequence back to the highest id that was used, unless others rely on its value by now."""
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
