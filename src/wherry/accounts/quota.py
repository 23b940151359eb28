"""What one account may ask of the job system: so many jobs an hour, so many unfinished at one time.

In: the transaction that has just created a job. Out: the RateLimit fields of its answer, or `LimitReached`, and then
the transaction takes the job back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from wherry.accounts import limits
from wherry.accounts.limits import Policy
from wherry.database.pools import Connection, Pool, brief_transaction
from wherry.jobs import ledger
from wherry.jobs.states import Kind
from wherry.settings import Settings

HOUR_SECONDS = 3600


async def admit(
    connection: Connection, kind: Kind, owner_id: int, settings: Settings, *, to_come: int = 0
) -> dict[str, str]:
    """Count a job that was just created, and not replayed, against its owner's limits.

    Raises:
        LimitReached: it is one too many.
    """
    per_hour, unfinished = _limits(kind, settings)
    usage = await limits.take(connection, Policy(f"{kind}s", per_hour, HOUR_SECONDS), str(owner_id))
    await limits.concurrent(connection, kind, owner_id, unfinished, usage, to_come=to_come)
    return limits.headers([usage])


class Uploads:
    """Counts the bodies that this process is receiving, by owner: each may become a job.

    Other API processes count their own. Nothing is left of the counts when a process dies, however it dies.
    """

    def __init__(self) -> None:
        self._receiving: Counter[int] = Counter()

    @contextmanager
    def one(self, owner_id: int) -> Iterator[int]:
        """Count one more until the context ends; which one of its owner's it is."""
        self._receiving[owner_id] += 1
        try:
            yield self._receiving[owner_id]
        finally:
            self._receiving -= Counter([owner_id])


async def look_ahead(pool: Pool, kind: Kind, owner_id: int, key: str, settings: Settings, *, to_come: int = 1) -> None:
    """Refuse a job before its body is read, if it would be refused after it. What is known by its key may pass.

    Args:
        pool: open.
        kind: of the job.
        owner_id: of the job.
        key: its idempotency key.
        settings: the limits.
        to_come: jobs of the owner's that may still come of bodies that are being received, this one included.

    Raises:
        LimitReached: it would be one too many, as things are now.
        Unavailable: another transaction of the owner's takes too long.
    """
    async with brief_transaction(pool, force_rollback=True) as connection:
        if not await ledger.is_known(connection, kind, owner_id, key):
            await admit(connection, kind, owner_id, settings, to_come=to_come)


def _limits(kind: Kind, settings: Settings) -> tuple[int, int]:
    if kind is Kind.IMPORT:
        return settings.import_rate_limit_per_hour, settings.import_concurrent_limit_user
    return settings.export_rate_limit_per_hour, settings.export_concurrent_limit_user
