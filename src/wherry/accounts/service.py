"""Registers people, tells who a token stands for, and changes accounts.

In: fields as they came. Out: an `Account` or a `Session`; or the refusal that names what is wrong.
"""

from __future__ import annotations

from wherry.accounts import repository
from wherry.accounts.models import Account, Changes, Registration, Session
from wherry.accounts.passwords import Passwords
from wherry.accounts.tokens import Tokens
from wherry.accounts.validation import checked_changes, checked_registration
from wherry.database.pools import Connection, Pool
from wherry.errors import Unauthenticated

ADMIN, USER = "admin", "user"


class Accounts:
    """Accounts in one database.

    Args:
        pool: open.
        passwords: how they are hashed.
        tokens: how they are signed.
    """

    def __init__(self, pool: Pool, passwords: Passwords, tokens: Tokens) -> None:
        self._pool = pool
        self._passwords = passwords
        self._tokens = tokens

    async def register(self, asked: Registration) -> Session:
        """Create an account, which in an empty system is the administrator's.

        Raises:
            Invalid: names every field that is blank, malformed, too long or taken.
        """
        new = checked_registration(asked)
        # what is taken is told before the costly hash, and again, by the constraints, after it
        async with self._pool.connection() as connection:
            await repository.require_free(connection, email=new.email, username=new.username)
        password_hash = await self._passwords.hash(new.password or "")
        async with self._pool.connection() as connection, connection.transaction():
            role = await self._role_of_next(connection)
            account = await repository.insert(connection, new, password_hash=password_hash, role=role)
        return Session(account, self._tokens.issue(account.id))

    async def _role_of_next(self, connection: Connection) -> str:
        if not await repository.is_empty(connection):
            return USER
        # Of several who all see an empty system, each waits here for the one before it to commit, and looks again.
        await repository.lock_first_account(connection)
        return ADMIN if await repository.is_empty(connection) else USER

    async def authenticate(self, token: str) -> Account:
        """The account that a token stands for.

        Raises:
            Unauthenticated: the token does not hold, or its account is gone or inactive.
        """
        user_id = self._tokens.read(token)
        async with self._pool.connection() as connection:
            account = await repository.get(connection, user_id)
        if account is None or not account.active:
            raise Unauthenticated("the token is not valid")
        return account

    async def update(self, user_id: int, asked: Changes) -> Account:
        """Change what is given. A new e-mail or password ends every password link of the account.

        Raises:
            Invalid: names every field that is blank, malformed, too long or taken.
            Unauthenticated: the account was deactivated meanwhile.
        """
        changes = checked_changes(asked)
        async with self._pool.connection() as connection:
            await repository.require_free(connection, email=changes.email, username=changes.username, except_id=user_id)
        password_hash = None if changes.password is None else await self._passwords.hash(changes.password)
        async with self._pool.connection() as connection, connection.transaction():
            account = await repository.update(connection, user_id, changes, password_hash)
            if account is None:
                raise Unauthenticated("the account is not active")
            if changes.email is not None or password_hash is not None:
                await repository.void_links(connection, user_id)
        return account
