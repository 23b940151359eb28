"""Rate limits. The counters are in PostgreSQL, so that all API processes share them.

In: a policy (a quota per window) and a subject (a user, an address). Out: `Usage`, which becomes the response's
RateLimit fields, or `LimitReached`.

Each subject has its own fixed window: it begins with the first use and ends `window_seconds` later, so retrying does
not prolong a refusal. Within a window, never more than `quota` uses pass, however many are concurrent; across the
boundary of two windows it can be twice as many. A single statement counts and decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from wherry.database.pools import Connection
from wherry.database.queries import fetch_one, load
from wherry.errors import ConcurrentLimit, LimitReached
from wherry.jobs import ledger
from wherry.jobs.states import Kind

CONCURRENT_RETRY_SECONDS = 10
PURGE_BATCH = 1000
# The first number of two-number advisory locks; it distinguishes these locks from all others.
_LOCKS = {kind: 0x77680000 + number for number, kind in enumerate(Kind)}


@dataclass(frozen=True)
class Policy:
    """At most `quota` uses per subject in `window_seconds`. Clients see the `name`."""

    name: str
    quota: int
    window_seconds: int


@dataclass(frozen=True)
class Usage:
    """How many uses a subject has left, and in how many seconds its window ends."""

    policy: Policy
    remaining: int
    reset_seconds: int

    @property
    def limit(self) -> int:
        """The policy's quota."""
        return self.policy.quota


async def take(connection: Connection, policy: Policy, subject: str) -> Usage:
    """Count one use. Keep the transaction short: it locks the subject's counter until its end.

    Raises:
        LimitReached: the quota is used up; has `Retry-After` and the RateLimit fields.
    """
    values = {"policy": policy.name, "subject": subject, "quota": policy.quota, "window": policy.window_seconds}
    row = await fetch_one(connection, load("limits")["take"], values)
    assert row is not None, "the statement always returns its row"
    usage = _usage(policy, row)
    if row["used"] > policy.quota:
        raise _used_up(usage)
    return usage


async def require_unused(connection: Connection, policy: Policy, subject: str) -> None:
    """Check that the quota is not used up, without counting a use.

    Raises:
        LimitReached: it is used up.
    """
    row = await fetch_one(connection, load("limits")["look"], {"policy": policy.name, "subject": subject})
    if row is not None and row["used"] >= policy.quota:
        raise _used_up(_usage(policy, row))


async def give_back(connection: Connection, usage: Usage, subject: str) -> None:
    """Undo one `take` in the current window."""
    values = {"policy": usage.policy.name, "subject": subject, "quota": usage.policy.quota}
    await connection.execute(load("limits")["give_back"], values)


def returned(usage: Usage) -> Usage:
    """The usage after `give_back`."""
    return replace(usage, remaining=min(usage.limit, usage.remaining + 1))


async def concurrent(
    connection: Connection, kind: Kind, owner_id: int, limit: int, usage: Usage, *, to_come: int = 0
) -> None:
    """Check that an owner has at most `limit` unfinished jobs, including the one that this transaction has created.

    Until the transaction ends, this blocks for other jobs of the same owner and kind.

    Args:
        usage: taken for this job in this transaction; returned if the transaction is rolled back.
        to_come: jobs that do not exist yet but count too.

    Raises:
        LimitReached: there are too many.
    """
    await connection.execute(load("limits")["lock_owner"], {"kind": _LOCKS[kind], "owner_id": owner_id})
    if await ledger.count_unfinished(connection, kind, owner_id) + to_come > limit:
        raise ConcurrentLimit(
            f"you may have at most {limit} unfinished {kind} jobs",
            headers={"Retry-After": str(CONCURRENT_RETRY_SECONDS), **headers([returned(usage)])},
        )


async def purge(connection: Connection) -> int:
    """Remove the counters of windows that have ended, in small batches. Returns their number."""
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
