"""Hashes and verifies passwords with Argon2id (RFC 9106).

Hashes are in the usual text form, which includes the parameters. A hash takes tenths of a second and 64 MiB, so hashes
are computed in dedicated threads, and only a few at a time. Setting passwords can use at most half of these threads, so
that many registrations never delay logins.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from wherry.errors import Busy
from wherry.this_process import lower_thread

T = TypeVar("T")

NICENESS = 5
"""The threads get a third of the CPU time of other threads, so that many logins slow nothing else down."""

MAX_AT_ONCE = 2
MAX_WAITING = 100
MAX_SET_AT_ONCE = MAX_AT_ONCE // 2
MAX_SET_WAITING = MAX_WAITING // 2


@dataclass(frozen=True)
class Verdict:
    """Whether a password is right, and whether its hash has outdated parameters."""

    fits: bool
    outdated: bool = False


class Passwords:
    """Argon2id with one set of parameters. Raises `Unavailable` if too many calls are waiting.

    Args:
        hasher: the parameters; by default the second recommended option of RFC 9106, section 4.
    """

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._line = _Line(MAX_AT_ONCE, MAX_WAITING)
        self._line_to_set = _Line(MAX_SET_AT_ONCE, MAX_SET_WAITING)
        self._threads = ThreadPoolExecutor(
            MAX_AT_ONCE, thread_name_prefix="argon2", initializer=lower_thread, initargs=(NICENESS,)
        )
        self._dummy = _unmatchable_hash(self._hasher)

    async def hash(self, password: str) -> str:
        """The hash to store."""
        async with self._line_to_set.place():
            return await self._in_thread(lambda: self._hasher.hash(password))

    async def verify(self, password: str, password_hash: str | None) -> Verdict:
        """Check a password. Without a hash it is always wrong, which takes the same time to find out."""
        return await self._in_thread(lambda: self._verify(password, password_hash))

    def _verify(self, password: str, password_hash: str | None) -> Verdict:
        try:
            self._hasher.verify(password_hash or self._dummy, password)
        except (VerificationError, InvalidHashError):
            password_hash = None
        if password_hash is None:
            return Verdict(fits=False)
        return Verdict(fits=True, outdated=self._hasher.check_needs_rehash(password_hash))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        async with self._line.place():
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class _Line:
    """Limits how many calls run at once, and how many there are in total, including those that wait. Refuses more."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self._slots = asyncio.Semaphore(at_once)
        self._room = waiting

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        if self._room == 0:
            raise Busy("too many passwords are being checked; try again")
        self._room -= 1
        try:
            async with self._slots:
                yield
        finally:
            self._room += 1


def _unmatchable_hash(hasher: PasswordHasher) -> str:
    """A well-formed hash with a random digest, which no password matches. Verifying it takes as long as any other."""
    lengths = (hasher.salt_len, hasher.hash_len)
    salt, digest = (base64.b64encode(secrets.token_bytes(length)).decode().rstrip("=") for length in lengths)
    costs = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${costs}${salt}${digest}"
