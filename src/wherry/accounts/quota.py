"""The job limits of an account: jobs per hour, and unfinished jobs at a time.

They are checked in the transaction that has just created a job, so that `LimitReached` rolls the job back. An upload is
also refused before it is read, if its job would be refused as things are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import cache

from psycopg import sql

from wherry.accounts import limits
from wherry.accounts.limits import RatePolicy, Usage
from wherry.database.pools import Connection, Pool, brief_transaction
from wherry.database.queries import fetch_one, load
from wherry.errors import ConcurrentLimit
from wherry.jobs.states import Kind
from wherry.settings import Settings

HOUR_SECONDS = 3600
RETRY_SECONDS = 10
# The first number of two-number advisory locks; it distinguishes these locks from all others.
_LOCKS = {kind: 0x77680000 + number for number, kind in enumerate(Kind)}


def admission(pool: Pool, kind: Kind, owner_id: int) -> AbstractAsyncContextManager[Connection]:
    """A transaction that queues a job and calls `admit`. Those of one owner and kind run one after the other."""
    return brief_transaction(pool, lock=(_LOCKS[kind], owner_id))


async def admit(connection: Connection, kind: Kind, owner_id: int, settings: Settings) -> dict[str, str]:
    """Count the job that this transaction has queued against its owner's limits, in the transaction of `admission`.

    Returns the RateLimit headers of the response. Not for a replayed job.

    Raises:
        LimitReached: a limit is exceeded.
    """
    policy, limit = _limits(kind, settings)
    values = {"policy": policy.name, "subject": str(owner_id), "quota": policy.quota, "window": policy.window_seconds}
    cursor = await connection.execute(_take_and_count(), {**values, "kind": kind, "owner_id": owner_id})
    row = await cursor.fetchone()
    assert row is not None, "an upsert always returns its row"
    used, reset_seconds, unfinished = row
    usage = limits.used(policy, used, reset_seconds)
    if unfinished > limit:
        raise _too_many(kind, limit, [limits.returned(usage)])  # the rollback returns it
    return limits.headers([usage])


@cache
def _take_and_count() -> bytes:
    queries = load("limits")
    return sql.SQL(queries["take_and_count"]).format(take=sql.SQL(queries["take"])).as_bytes()


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
