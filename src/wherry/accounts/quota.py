"""The job limits of an account: jobs per hour, and unfinished jobs at a time.

They are checked in the transaction that has just created a job, so that `LimitReached` rolls the job back.
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
    """Count a new job, not a replayed one, against its owner's limits. Returns the response's RateLimit fields.

    Raises:
        LimitReached: a limit is exceeded.
    """
    per_hour, unfinished = _limits(kind, settings)
    usage = await limits.take(connection, Policy(f"{kind}s", per_hour, HOUR_SECONDS), str(owner_id))
    await limits.concurrent(connection, kind, owner_id, unfinished, usage, to_come=to_come)
    return limits.headers([usage])


class Uploads:
    """Counts the bodies that this process is receiving, by owner: each may become a job.

    Each API process has its own counts, which vanish with the process, however it dies.
    """

    def __init__(self) -> None:
        self._receiving: Counter[int] = Counter()

    @contextmanager
    def one(self, owner_id: int) -> Iterator[int]:
        """Count a body until the context ends. Yields how many the owner is sending now."""
        self._receiving[owner_id] += 1
        try:
            yield self._receiving[owner_id]
        finally:
            self._receiving -= Counter([owner_id])


async def look_ahead(pool: Pool, kind: Kind, owner_id: int, key: str, settings: Settings, *, to_come: int = 1) -> None:
    """Refuse a job before its body is read if it would be refused afterwards. A replay, known by its key, passes.

    Args:
        pool: an open pool.
        kind: of the job.
        owner_id: of the job.
        key: its idempotency key.
        settings: the limits.
        to_come: how many jobs the bodies that the owner is sending may become, including this one.

    Raises:
        LimitReached: it would currently exceed a limit.
        Unavailable: another transaction of the same owner takes too long.
    """
    async with brief_transaction(pool, force_rollback=True) as connection:
        if not await ledger.is_known(connection, kind, owner_id, key):
            await admit(connection, kind, owner_id, settings, to_come=to_come)


def _limits(kind: Kind, settings: Settings) -> tuple[int, int]:
    if kind is Kind.IMPORT:
        return settings.import_rate_limit_per_hour, settings.import_concurrent_limit_user
    return settings.export_rate_limit_per_hour, settings.export_concurrent_limit_user
