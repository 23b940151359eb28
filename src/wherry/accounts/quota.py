"""The job limits of an account: jobs per hour, and unfinished jobs at a time.

They are checked in the transaction that has just created a job, so that `LimitReached` rolls the job back. An upload is
also refused before it is read, if its job would be refused as things are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from wherry.accounts import limits
from wherry.accounts.limits import RatePolicy, Usage
from wherry.database.pools import Connection, Pool
from wherry.database.queries import fetch_one, load
from wherry.errors import ConcurrentLimit
from wherry.jobs import ledger
from wherry.jobs.states import Kind
from wherry.settings import Settings

HOUR_SECONDS = 3600
RETRY_SECONDS = 10
# The first number of two-number advisory locks; it distinguishes these locks from all others.
_LOCKS = {kind: 0x77680000 + number for number, kind in enumerate(Kind)}


async def admit(connection: Connection, kind: Kind, owner_id: int, settings: Settings) -> dict[str, str]:
    """Count a new job, not a replayed one, against its owner's limits. Returns the RateLimit headers of the response.

    Raises:
        LimitReached: a limit is exceeded.
    """
    policy, unfinished = _limits(kind, settings)
    usage = await limits.take(connection, policy, str(owner_id))
    await check_unfinished_jobs(connection, kind, owner_id, unfinished, usage)
    return limits.headers([usage])


async def check_unfinished_jobs(
    connection: Connection, kind: Kind, owner_id: int, limit: int, usage: Usage | None = None
) -> None:
    """Check that an owner has at most `limit` unfinished jobs, including the one that this transaction has queued.

    Until the transaction ends, this blocks for other jobs of the same owner and kind.

    Args:
        usage: taken for this job in this transaction, if any; returned if the transaction is rolled back.

    Raises:
        LimitReached: there are too many.
    """
    await connection.execute(load("limits")["lock_owner"], {"kind": _LOCKS[kind], "owner_id": owner_id})
    if await ledger.count_unfinished(connection, kind, owner_id) > limit:
        raise _too_many(kind, limit, [] if usage is None else [limits.returned(usage)])


class OpenUploads:
    """Counts the uploads that this process is receiving, by owner: each may become a job.

    Each API process has its own counts, which end with the process, however it ends.
    """

    def __init__(self) -> None:
        self._receiving: Counter[int] = Counter()

    @contextmanager
    def counted(self, owner_id: int) -> Iterator[int]:
        """Count an upload until the context ends. Yields how many the owner is sending now."""
        self._receiving[owner_id] += 1
        try:
            yield self._receiving[owner_id]
        finally:
            self._receiving -= Counter([owner_id])


async def admit_retry(connection: Connection, kind: Kind, owner_id: int, settings: Settings) -> None:
    """Count a job that was queued again among its owner's unfinished jobs. It does not count as a new one.

    Raises:
        LimitReached: there are too many.
    """
    await check_unfinished_jobs(connection, kind, owner_id, _limits(kind, settings)[1])


async def check_before_upload(
    pool: Pool, kind: Kind, owner_id: int, key: str, settings: Settings, *, to_come: int = 1
) -> None:
    """Refuse an upload whose job would be refused afterwards. A replay, recognized by its idempotency key, passes.

    Args:
        to_come: how many jobs the owner's uploads in progress may become, including this one.

    Raises:
        LimitReached: it would currently exceed a limit.
    """
    policy, limit = _limits(kind, settings)
    values = {
        "kind": kind,
        "owner_id": owner_id,
        "idempotency_key": key,
        "policy": policy.name,
        "subject": str(owner_id),
        "window": policy.window_seconds,
    }
    async with pool.connection() as connection:
        row = await fetch_one(connection, load("limits")["look_ahead"], values)
    assert row is not None, "a left join always returns its row"
    if row["is_known"]:
        return
    usage = limits.unused(policy, row)
    if row["unfinished"] + to_come > limit:
        raise _too_many(kind, limit, [usage])


def _limits(kind: Kind, settings: Settings) -> tuple[RatePolicy, int]:
    if kind is Kind.IMPORT:
        per_hour, unfinished = settings.import_rate_limit_per_hour, settings.import_concurrent_limit_user
    else:
        per_hour, unfinished = settings.export_rate_limit_per_hour, settings.export_concurrent_limit_user
    return RatePolicy(f"{kind}s", per_hour, HOUR_SECONDS), unfinished


def _too_many(kind: Kind, limit: int, usages: Sequence[Usage]) -> ConcurrentLimit:
    return ConcurrentLimit(
        f"a user may have at most {limit} unfinished {kind} jobs; wait until one has ended, or cancel one",
        headers={"Retry-After": str(RETRY_SECONDS), **limits.headers(usages)},
    )
