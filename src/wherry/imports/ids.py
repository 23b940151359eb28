"""Keeps the ids that a table hands out clear of those that an import's records bring along.

In: batches, before anything of them is looked up. Out: a sequence that was moved far ahead of their ids, and at the end
back to what was used of them.

Without this the next id of the sequence is the very one that the import's next record brings: whoever registers in
between gets it, and the record then finds "its" row there and writes over it. Sequences do not roll back, so that none
of this waits for a commit. What is reserved by a run that dies is not given back: those ids are left out. An id that is
handed out in the very moment of a give-back may be handed out once more, far later: inserts then take the next one.
"""

from __future__ import annotations

from wherry.database.pools import Connection
from wherry.database.queries import load
from wherry.imports.models import Batch
from wherry.jobs.models import Lease
from wherry.resources.model import Resource
from wherry.resources.rules import MAX_ID

LAST_RESERVED = MAX_ID - 1_000_000
"""Sequences are never moved beyond, whatever ids records bring: the rest is for those that are handed out."""


class IdReservation:
    """The ids of one run.

    Args:
        resource: whose table's sequence it is.
        lease: of the run; one that has lost it gives nothing back.
    """

    def __init__(self, resource: Resource, lease: Lease) -> None:
        self._table = resource.name
        self._lease = lease
        self._clear_to = 0  # no id up to here will be handed out any more
        self._reserved_to = 0
        self._floor = 0

    @property
    def reserved(self) -> bool:
        """Whether there is something to give back."""
        return self._reserved_to > 0

    async def cover(self, connection: Connection, batch: Batch, room: int) -> None:
        """Move the sequence `room` ahead of a batch's ids, if it is not ahead. Not inside a transaction."""
        ids = [entry.record.id for entry in batch if not entry.errors and entry.record.id is not None]
        highest = max(ids, default=0)
        highest = min(highest, LAST_RESERVED)
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

    async def give_back(self, connection: Connection, highest: int) -> None:
        """Move the sequence back to the highest id that was really written, unless others rely on it by now."""
        async with connection.transaction():
            await connection.execute(load("imports")["lock_ids"], {"table": self._table})
            values = {
                "table": self._table,
                "reserved": self._reserved_to,
                "used": max(self._floor, min(highest, LAST_RESERVED)),
                "job_id": self._lease.job_id,
                "epoch": self._lease.epoch,
            }
            await connection.execute(load("imports")["give_ids_back"], values)
