"""Lets people in by e-mail and password.

In: an e-mail, a password, the address they came from. Out: a `Session`; or a refusal that takes the same time and
says the same, whether or not there is such an account.

Failures are limited twice, in five minutes: 20 from one address, 10 of one account from all addresses together. A
place is taken before the password is checked and given back if it fits, so that guessing in parallel is no faster than
guessing one at a time. Strangers who use up an account's ten keep its owner out only from addresses that it has not
logged in from in 30 days: each of the others has ten of its own. Responses show the limit per address only, as the
other one would tell whether the account has logged in from there, and whether somebody else is guessing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from wherry.accounts import limits, repository
from wherry.accounts.limits import Policy, Usage
from wherry.accounts.models import Login, Session
from wherry.accounts.passwords import Passwords
from wherry.accounts.tokens import Tokens
from wherry.accounts.validation import normalize_email, refuse_blank
from wherry.database.pools import Connection, Pool, brief_transaction
from wherry.errors import Forbidden, InvalidCredentials, PasswordNotSet
from wherry.networks import network_of
from wherry.times import now

BY_ADDRESS = Policy("login-address", 20, 300)
BY_ACCOUNT = Policy("login-account", 10, 300)


@dataclass(frozen=True)
class _Attempt:
    email: str
    address: bytes
    taken: dict[str, Usage]
    """What the attempt has taken, by subject; a fitting password gives it back."""
    login: Login | None

    @property
    def shown(self) -> Usage:
        """What the caller is told of: what is left for its address."""
        return self.taken[self.address.hex()]


class Logins:
    """Logins to the accounts of one database.

    Args:
        pool: open.
        passwords: how they are checked.
        tokens: how they are signed.
    """

    def __init__(self, pool: Pool, passwords: Passwords, tokens: Tokens) -> None:
        self._pool = pool
        self._passwords = passwords
        self._tokens = tokens

    async def login(self, email: str | None, password: str | None, address: str) -> Session:
        """The session of the account that the pair belongs to.

        Raises:
            Forbidden: no account has this pair; or, code `PASSWORD_NOT_SET`, the account has no password yet.
            Invalid: one of the two is blank.
            LimitReached: too many attempts failed.
            Unavailable: the account is being changed by an import that takes long.
        """
        refuse_blank(email=email, password=password)
        began = now()
        async with self._pool.connection() as connection:
            attempt = await _begin(connection, normalize_email(email or ""), network_hash(address))
        # No connection is held while the hash is computed: it takes longer than everything else together.
        stored = attempt.login.password_hash if attempt.login else None
        verdict = await self._passwords.verify(password or "", stored)
        if attempt.login is None or not attempt.login.account.active:
            raise _wrong_pair(attempt)
        if stored is None:
            raise _not_set(attempt)
        if not verdict.fits:
            raise _wrong_pair(attempt)
        account = attempt.login.account
        rehashed = await self._passwords.hash(password or "") if verdict.outdated else None
        async with brief_transaction(self._pool) as connection:
            await _succeed(connection, attempt, account.id)
            if rehashed is not None:
                await repository.rehash(connection, account.id, old_hash=stored, password_hash=rehashed)
        # issued as of the beginning: if the password is changed meanwhile, the token is older than that
        token = self._tokens.issue(account.id, now=began, password_changed_at=account.password_changed_at)
        return Session(account, token, (limits.returned(attempt.shown),))


async def _begin(connection: Connection, email: str, address: bytes) -> _Attempt:
    taken = {address.hex(): await limits.take(connection, BY_ADDRESS, address.hex())}
    login = None if "\0" in email else await repository.find_login(connection, email, address)
    subject = hashlib.sha256(email.encode()).hexdigest()
    if login is not None and login.known_address:
        subject = f"{subject} {address.hex()}"
    taken[subject] = await limits.take(connection, BY_ACCOUNT, subject)
    return _Attempt(email, address, taken, login)


async def _succeed(connection: Connection, attempt: _Attempt, user_id: int) -> None:
    for subject, usage in attempt.taken.items():
        await limits.give_back(connection, usage, subject)
    await repository.remember_address(connection, user_id, attempt.address)


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


def network_hash(address: str) -> bytes:
    """SHA-256 of an address, or of its /64 network for IPv6: one host can have all of that network's addresses."""
    return hashlib.sha256(network_of(address).encode()).digest()
