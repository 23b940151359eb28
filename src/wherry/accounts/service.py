"""Registers accounts, authenticates tokens, and changes accounts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from wherry.accounts import limits, repository
from wherry.accounts.api_tokens import is_api_token, secret_hash
from wherry.accounts.limits import RatePolicy, network_hash
from wherry.accounts.links import SET_BY_ACCOUNT, SET_BY_ADDRESS
from wherry.accounts.models import Account, Changes, Registration, Session, Visitor
from wherry.accounts.passwords import Passwords
from wherry.accounts.repository import Caller
from wherry.accounts.tokens import Claims, Tokens
from wherry.accounts.validation import checked_changes, checked_registration
from wherry.database.pools import Connection, Pool, brief_transaction
from wherry.errors import Forbidden, Unauthenticated
from wherry.tables.builtin.users import ADMIN, USER

REGISTER_BY_ADDRESS = RatePolicy("register-address", 60, 3600)
"""Enough for a class or an office that shares one address, but not for a script that registers endlessly."""

RENAME_BY_ADDRESS = RatePolicy("rename-address", 60, 3600)
RENAME_BY_ACCOUNT = RatePolicy("rename-account", 20, 3600)
"""Limited because the refusal of a taken e-mail address or username reveals that somebody has it."""


@dataclass(frozen=True)
class Accounts:
    """The accounts of one database."""

    pool: Pool
    passwords: Passwords
    tokens: Tokens

    async def register(self, asked: Registration, visitor: Visitor) -> Session:
        """Create an account; the first in an empty system becomes admin and operator.

        Raises:
            Forbidden: it would be the first account, and a foreign web page sent the request.
            Invalid: lists every field that is blank, malformed, too long or taken.
            LimitReached: too many registrations from this address.
            Unavailable: too many passwords are being set, or a long import is writing the same account.
        """
        new = checked_registration(asked)
        # taken names are refused before the costly hash and, by the constraints, again after it
        async with self.pool.connection() as connection:
            usage = await limits.take(connection, REGISTER_BY_ADDRESS, network_hash(visitor.address).hex())
            await repository.require_free(connection, email=new.email, username=new.username)
        password_hash = await self.passwords.hash(new.password or "")
        async with brief_transaction(self.pool) as connection:
            first = await self._is_first(connection)
            if first and visitor.foreign_origin is not None:
                raise Forbidden(
                    f"the first account cannot be registered from a page of {visitor.foreign_origin}: register it from "
                    "this server's own address (PUBLIC_URL), or without a browser"
                )
            account = await repository.insert(
                connection, new, password_hash=password_hash, role=ADMIN if first else USER, operator=first
            )
        return Session(account, self.tokens.issue(account.id), (usage,))

    async def _is_first(self, connection: Connection) -> bool:
        if not await repository.is_empty(connection):
            return False
        # If several registrations see an empty system, each waits here for the previous one to commit, and looks again.
        await repository.lock_first_account(connection)
        return await repository.is_empty(connection)

    async def authenticate(self, token: str, job_id: UUID | None = None) -> Caller:
        """The account that a JWT or an API token belongs to, and a job, read in the same round trip.

        Args:
            token: the credential.
            job_id: of the job that the request is about, if any. It is returned whoever owns it.

        Raises:
            Unauthenticated: the token is invalid, or its account is gone or inactive.
        """
        caller = await (self._token_owner(token, job_id) if is_api_token(token) else self._signed_in(token, job_id))
        if caller is None or not caller[0].active:
            raise Unauthenticated("the token is not valid")
        return caller

    async def _token_owner(self, token: str, job_id: UUID | None) -> Caller | None:
        async with self.pool.connection() as connection:
            return await repository.find_token_owner(connection, secret_hash(token), job_id)

    async def _signed_in(self, token: str, job_id: UUID | None) -> Caller | None:
        claims = self.tokens.read(token)
        async with self.pool.connection() as connection:
            caller = await repository.get_with_job(connection, claims.user_id, job_id)
        if caller is not None and claims.outlived(caller[0].password_changed_at):
            raise Unauthenticated("the token was issued before the password was changed; log in again")
        return caller

    async def authenticate_all(self, credentials: Iterable[str]) -> dict[str, Account]:
        """The accounts of those of these credentials that are still valid, in one round trip."""
        hashes: dict[str, bytes] = {}
        signed: dict[str, Claims] = {}
        for token in credentials:
            if is_api_token(token):
                hashes[token] = secret_hash(token)
            else:
                with suppress(Unauthenticated):
                    signed[token] = self.tokens.read(token)
        user_ids = {claims.user_id for claims in signed.values()}
        async with self.pool.connection() as connection:
            by_id, by_hash = await repository.find_live(connection, user_ids, hashes.values())
        found = {token: by_hash.get(token_hash) for token, token_hash in hashes.items()}
        for token, claims in signed.items():
            account = by_id.get(claims.user_id)
            if account is not None and not claims.outlived(account.password_changed_at):
                found[token] = account
        return {token: account for token, account in found.items() if account is not None}

    async def update(self, caller: Account, credential: str, asked: Changes, address: str) -> Session:
        """Change an account. A new e-mail or password voids all password links; a new password also voids older JWTs.

        Raises:
            Invalid: lists every field that is blank, malformed, too long or taken.
            LimitReached: too many passwords or names were set from this address or for this account.
            Unauthenticated: the account was deactivated in the meantime.
            Unavailable: too many passwords are being set, or a long import is changing the account.
        """
        changes = checked_changes(asked, caller)
        async with self.pool.connection() as connection:
            usages = [
                await limits.take(connection, policy, subject)
                for by_address, by_account in _policies(changes, caller)
                for policy, subject in ((by_address, network_hash(address).hex()), (by_account, str(caller.id)))
            ]
            await repository.require_free(
                connection, email=changes.email, username=changes.username, except_id=caller.id
            )
        password_hash = None if changes.password is None else await self.passwords.hash(changes.password)
        async with brief_transaction(self.pool) as connection:
            account = await repository.update(connection, caller.id, changes, password_hash)
            if account is None:
                raise Unauthenticated("the account is not active")
            if changes.email is not None or password_hash is not None:
                await repository.void_links(connection, caller.id)
        if password_hash is not None:
            credential = self.tokens.issue(account.id, password_changed_at=account.password_changed_at)
        return Session(account, credential, tuple(usages))


def _policies(changes: Changes, account: Account) -> Iterator[tuple[RatePolicy, RatePolicy]]:
    """The policies that limit these changes, per address and per account. Unchanged names count against none."""
    if changes.password is not None:
        yield SET_BY_ADDRESS, SET_BY_ACCOUNT
    if changes.email not in (None, account.email) or changes.username not in (None, account.username):
        yield RENAME_BY_ADDRESS, RENAME_BY_ACCOUNT
