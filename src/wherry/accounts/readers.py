"""Checks that those who are reading event streams may still do so, all of them by one query at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from wherry.accounts.models import Account
from wherry.accounts.service import Accounts

CHECK_SECONDS = 5.0

log = structlog.get_logger(__name__)


@dataclass(eq=False)
class Reader:
    """Somebody who is reading a stream. `account` is as of the last check, and None if the credential was not valid."""

    credential: str
    account: Account | None
    wake: asyncio.Event


class Readers:
    """The readers of a process."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._readers: set[Reader] = set()

    @contextmanager
    def reading(self, account: Account, credential: str, wake: asyncio.Event) -> Iterator[Reader]:
        """Keep an account, which was just authenticated, up to date. `wake` is set if it has changed."""
        reader = Reader(credential, account, wake)
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    async def run(self) -> None:
        """Check all readers every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                await self._check(frozenset(self._readers))
            except Exception:
                log.exception("the readers of event streams could not be checked")

    async def _check(self, readers: frozenset[Reader]) -> None:
        if not readers:
            return
        accounts = await self._accounts.authenticate_all({reader.credential for reader in readers})
        for reader in readers:
            account = accounts.get(reader.credential)
            if account != reader.account:
                reader.account = account
                reader.wake.set()
