"""Counts what callers do, in PostgreSQL, so that every API process shares the counters.

In: a policy (so many in so many seconds) and a subject (a user, an address). Out: `Usage`, which becomes the RateLimit
fields of the answer, or `LimitReached`.

A window is fixed and a subject's own: it begins with the first use and ends `window_seconds` later, whatever comes in
between, so a refused caller is not kept out by trying. Within any window never more than `quota` pass, however many
ask at once; across the border of two windows up to twice as many can. One statement counts and decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from wherry.database.pools import Connection
from wherry.database.queries import load
from wherry.database.rows import fetch_one
from wherry.errors import ConcurrentLimit, LimitReached
from wherry.jobs import ledger
from wherry.jobs.states import Kind

CONCURRENT_RETRY_SECONDS = 10
PURGE_BATCH = 1000
# The first number of a two-number advisory lock: these locks are told from all others by it.
_LOCKS = {kind: 0x77680000 + number for number, kind in enumerate(Kind)}


@dataclass(frozen=True)
class Policy:
    """At most `quota` uses in `window_seconds`, per subject; `name` is what clients see."""

    name: str
    quota: int
    window_seconds: int


@dataclass(frozen=True)
class Usage:
    """What a subject has left of a policy, and in how many seconds it begins anew."""

    policy: Policy
    remaining: int
    reset_seconds: int

    @property
    def limit(self) -> int:
        """The policy's quota."""
        return self.policy.quota


async def take(connection: Connection, policy: Policy, subject: str) -> Usage:
    """Count one use. In a transaction it holds the subject's counter until the end, so keep that short.

    Raises:
        LimitReached: the quota is used up; with `Retry-After` and the RateLimit fields.
    """
    values = {"policy": policy.name, "subject": subject, "quota": policy.quota, "window": policy.window_seconds}
    row = await fetch_one(connection, load("limits")["take"], values)
    assert row is not None, "the statement always returns its row"
    usage = _usage(policy, row)
    if row["used"] > policy.quota:
        raise _used_up(usage)
    return usage


async def require_unused(connection: Connection, policy: Policy, subject: str) -> None:
    """Check without counting that the quota is not used up.

    Raises:
        LimitReached: it is.
    """
    row = await fetch_one(connection, load("limits")["look"], {"policy": policy.name, "subject": subject})
    if row is not None and row["used"] >= policy.quota:
        raise _used_up(_usage(policy, row))


async def give_back(connection: Connection, usage: Usage, subject: str) -> None:
    """Undo one `take` of the present window."""
    values = {"policy": usage.policy.name, "subject": subject, "quota": usage.policy.quota}
    await connection.execute(load("limits")["give_back"], values)


def returned(usage: Usage) -> Usage:
    """What a usage is after `give_back`."""
    return replace(usage, remaining=min(usage.limit, usage.remaining + 1))


async def concurrent(
    connection: Connection, kind: Kind, owner_id: int, limit: int, usage: Usage, *, to_come: int = 0
) -> None:
    """Let a transaction keep the job that it has just created, if its owner has at most `limit` unfinished ones then.

    Until the end of that transaction, no other of the same owner and kind passes here.

    Args:
        usage: what the transaction has taken for the job, and gives back when it ends without it.
        to_come: jobs that are not created yet, and count as well.

    Raises:
        LimitReached: it is one too many.
    """
    await connection.execute(load("limits")["lock_owner"], {"kind": _LOCKS[kind], "owner_id": owner_id})
    if await ledger.count_unfinished(connection, kind, owner_id) + to_come > limit:
        raise ConcurrentLimit(
            f"you may have at most {limit} unfinished {kind} jobs",
            headers={"Retry-After": str(CONCURRENT_RETRY_SECONDS), **headers([returned(usage)])},
        )


async def purge(connection: Connection) -> int:
    """Remove counters whose window is over, a small batch a statement; how many."""
    removed = 0
    while True:
        batch = (await connection.execute(load("limits")["purge"], {"limit": PURGE_BATCH})).rowcount
        removed += batch
        if batch < PURGE_BATCH:
            return removed


def headers(usages: Iterable[Usage]) -> dict[str, str]:
    """The `RateLimit` and `RateLimit-Policy` fields (IETF draft "RateLimit header fields for HTTP")."""
    listed = list(usages)
    if not listed:
        return {}
    return {
        "RateLimit-Policy": ", ".join(f'"{u.policy.name}";q={u.limit};w={u.policy.window_seconds}' for u in listed),
        "RateLimit": ", ".join(f'"{u.policy.name}";r={u.remaining};t={u.reset_seconds}' for u in listed),
    }


def _usage(policy: Policy, row: Mapping[str, Any]) -> Usage:
    return Usage(policy, max(0, policy.quota - row["used"]), row["reset_seconds"])


def _used_up(usage: Usage) -> LimitReached:
    policy, seconds = usage.policy, usage.reset_seconds
    return LimitReached(
        f"at most {policy.quota} per {policy.window_seconds} seconds; try again in {seconds} seconds",
        headers={"Retry-After": str(seconds), **headers([usage])},
    )
