"""Login by e-mail and password.

A failed login takes the same time and gets the same response whether or not the account exists.

There are two limits per five minutes: 20 failures per address, and 10 per account from all addresses. An attempt is
counted before the password is checked, and no longer counts if the password is right, so that guessing in parallel is
no faster than guessing one at a time. If strangers use up an account's ten attempts, its owner is locked out only from
new addresses: each address that the account has logged in from within 30 days has ten attempts of its own. Responses
show only the limit per address, because the other one would reveal whether the account has logged in from there, and
whether somebody else is guessing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from wherry.accounts import limits, repository
from wherry.accounts.limits import RatePolicy, Usage, network_hash
from wherry.accounts.models import Login, Session
from wherry.accounts.passwords import Passwords
from wherry.accounts.tokens import Tokens
from wherry.accounts.validation import normalize_email, refuse_blank
from wherry.database.pools import Connection, Pool, brief_transaction
from wherry.errors import Forbidden, InvalidCredentials, PasswordNotSet
from wherry.times import now

BY_ADDRESS = RatePolicy("login-address", 20, 300)
BY_ACCOUNT = RatePolicy("login-account", 10, 300)


@dataclass(frozen=True)
class _Attempt:
    address: bytes
    taken: dict[str, Usage]
    """The usages that the attempt has taken, by subject; they are undone if the password is right."""
    login: Login | None

    @property
    def shown(self) -> Usage:
        """The usage that the caller sees: that of its address."""
        return self.taken[self.address.hex()]


@dataclass(frozen=True)
class Logins:
    """Logins to the accounts of one database."""

    pool: Pool
    passwords: Passwords
    tokens: Tokens

    async def login(self, email: str | None, password: str | None, address: str) -> Session:
        """Start a session for the account with this e-mail and password.

        Raises:
            Forbidden: the e-mail or the password is wrong; or (code `PASSWORD_NOT_SET`) the account has none yet.
            Invalid: one of the two is blank.
            LimitReached: too many attempts failed.
            Unavailable: a long import is changing the account.
        """
        refuse_blank(email=email, password=password)
        began = now()
        async with self.pool.connection() as connection:
            attempt = await _begin(connection, normalize_email(email or ""), network_hash(address))
        # No connection is held while the hash is computed, which takes longer than everything else combined.
        stored = attempt.login.password_hash if attempt.login else None
        verdict = await self.passwords.verify(password or "", stored)
        if attempt.login is None or not attempt.login.account.active:
            raise _wrong_pair(attempt)
        if stored is None:
            raise _not_set(attempt)
        if not verdict.fits:
            raise _wrong_pair(attempt)
        account = attempt.login.account
        rehashed = await self.passwords.hash(password or "") if verdict.outdated else None
        async with brief_transaction(self.pool) as connection:
            for subject, usage in attempt.taken.items():
                await limits.give_back(connection, usage, subject)
            await repository.remember_address(connection, account.id, attempt.address)
            if rehashed is not None:
                await repository.rehash(connection, account.id, old_hash=stored, password_hash=rehashed)
        # issued as of the start, so that the token is invalid if the password was changed in the meantime
        token = self.tokens.issue(account.id, now=began, password_changed_at=account.password_changed_at)
        return Session(account, token, (limits.returned(attempt.shown),))


async def _begin(connection: Connection, email: str, address: bytes) -> _Attempt:
    taken = {address.hex(): await limits.take(connection, BY_ADDRESS, address.hex())}
    login = None if "\0" in email else await repository.find_login(connection, email, address)
    subject = hashlib.sha256(email.encode()).hexdigest()
    if login is not None and login.known_address:
        subject = f"{subject} {address.hex()}"
    taken[subject] = await limits.take(connection, BY_ACCOUNT, subject)
    return _Attempt(address, taken, login)


def _wrong_pair(attempt: _Attempt) -> Forbidden:
    return InvalidCredentials(
        "email or password is invalid",
        fields={"email or password": ["is invalid"]},
        headers=limits.headers([attempt.shown]),
    )


def _not_set(attempt: _Attempt) -> Forbidden:
    return PasswordNotSet(
        "the account has no password yet; request a link to set one",
        fields={"password": ["is not set yet"]},
        headers=limits.headers([attempt.shown]),
    )
