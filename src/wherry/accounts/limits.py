"""Rate limits. The counters are in PostgreSQL, so that all API processes share them.

A policy is a quota per window, and a subject is whoever it limits: a user or an address. `take` returns a `Usage`, from
which the RateLimit headers of the response are made, or raises `LimitReached`.

Each subject has its own fixed window: it begins with the first use and ends `window_seconds` later, so retrying does
not prolong a refusal. Within a window, never more than `quota` uses pass, however many are concurrent; across the
boundary of two windows it can be twice as many. A single statement counts and decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from wherry.database.pools import Connection
from wherry.database.queries import fetch_one, load
from wherry.errors import LimitReached
from wherry.networks import network_of

PURGE_BATCH = 1000


@dataclass(frozen=True)
class RatePolicy:
    """At most `quota` uses per subject in `window_seconds`. Clients see the `name`."""

    name: str
    quota: int
    window_seconds: int


@dataclass(frozen=True)
class Usage:
    """How many uses a subject has left, and in how many seconds its window ends."""

    policy: RatePolicy
    remaining: int
    reset_seconds: int

    @property
    def limit(self) -> int:
        """The quota of the policy."""
        return self.policy.quota


def network_hash(address: str) -> bytes:
    """SHA-256 of an IPv4 address, or of an IPv6 address's /64 network, as one host can use the whole network."""
    return hashlib.sha256(network_of(address).encode()).digest()


async def take(connection: Connection, policy: RatePolicy, subject: str) -> Usage:
    """Count one use. Keep the transaction short: it locks the subject's counter until its end.

    Raises:
        LimitReached: the quota is used up; has `Retry-After` and the RateLimit headers.
    """
    values = {"policy": policy.name, "subject": subject, "quota": policy.quota, "window": policy.window_seconds}
    row = await fetch_one(connection, load("limits")["take"], values)
    assert row is not None, "the statement always returns its row"
    return used(policy, row["used"], row["reset_seconds"])


def used(policy: RatePolicy, count: int, reset_seconds: int) -> Usage:
    """The usage after the last of `count` uses was taken.

    Raises:
        LimitReached: it was one too many.
    """
    usage = Usage(policy, max(0, policy.quota - count), reset_seconds)
    if count > policy.quota:
        raise _used_up(usage)
    return usage


async def require_unused(connection: Connection, policy: RatePolicy, subject: str) -> None:
    """Check that the quota is not used up, without counting a use.

    Raises:
        LimitReached: it is used up.
    """
    row = await fetch_one(connection, load("limits")["look"], {"policy": policy.name, "subject": subject})
    if row is not None:
        unused(policy, row)


def unused(policy: RatePolicy, row: Mapping[str, Any]) -> Usage:
    """The usage in a row with `used` and `reset_seconds`.

    Raises:
        LimitReached: the quota is used up.
    """
    usage = used(policy, row["used"], row["reset_seconds"])
    if not usage.remaining:
        raise _used_up(usage)
    return usage


async def give_back(connection: Connection, usage: Usage, subject: str) -> None:
    """Undo one `take` in the current window."""
    values = {"policy": usage.policy.name, "subject": subject, "quota": usage.policy.quota}
    await connection.execute(load("limits")["give_back"], values)


def returned(usage: Usage) -> Usage:
    """The usage after `give_back`."""
    return replace(usage, remaining=min(usage.limit, usage.remaining + 1))


async def purge_counters(connection: Connection) -> int:
    """Remove the counters of windows that have ended, in small batches. Returns their number."""
    removed = 0
    while True:
        batch = (await connection.execute(load("limits")["purge"], {"limit": PURGE_BATCH})).rowcount
        removed += batch
        if batch < PURGE_BATCH:
            return removed


def headers(usages: Iterable[Usage]) -> dict[str, str]:
    """The `RateLimit` and `RateLimit-Policy` headers (IETF draft "RateLimit header fields for HTTP")."""
    listed = list(usages)
    if not listed:
        return {}
    return {
        "RateLimit-Policy": ", ".join(f'"{u.policy.name}";q={u.limit};w={u.policy.window_seconds}' for u in listed),
        "RateLimit": ", ".join(f'"{u.policy.name}";r={u.remaining};t={u.reset_seconds}' for u in listed),
    }


def _used_up(usage: Usage) -> LimitReached:
    policy, seconds = usage.policy, usage.reset_seconds
    return LimitReached(
        f"at most {policy.quota} per {policy.window_seconds} seconds; try again in {seconds} seconds",
        headers={"Retry-After": str(seconds), **headers([usage])},
    )
