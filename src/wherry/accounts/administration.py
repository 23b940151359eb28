"""Account management for operators: the `wherry users` commands, which work directly on the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from wherry.accounts import repository
from wherry.accounts.links import onboarding_link, reset_link
from wherry.accounts.models import Account, Link, Registration
from wherry.accounts.passwords import Passwords
from wherry.accounts.validation import check_password, checked_registration, normalize_email
from wherry.database.pools import Connection, Pool, brief_transaction
from wherry.database.queries import fetch_all, fetch_one, load
from wherry.errors import Conflict, NotFound
from wherry.tables.builtin.users import ADMIN, USER
from wherry.texts import whole_number


@dataclass(frozen=True)
class ListedAccount:
    """An account as `wherry users list` shows it."""

    account: Account
    has_password: bool
    created_at: datetime


@dataclass(frozen=True)
class Standing:
    """Changes that an operator makes to an account; None leaves a value unchanged."""

    role: str | None = None
    active: bool | None = None
    operator: bool | None = None


@dataclass(frozen=True)
class Administration:
    """Manages the accounts of one database, identified by e-mail address or id.

    Methods that change an account raise `NotFound` if there is none. Those that set its password or create a link for
    that raise `Conflict` if it is not active.
    """

    pool: Pool
    passwords: Passwords
    base_url: str
    """The start of every link."""

    async def list_accounts(self) -> list[ListedAccount]:
        """Every account, oldest first."""
        async with self.pool.connection() as connection:
            rows = await fetch_all(connection, load("administration")["list"], {})
        return [ListedAccount(repository.account_of(row), row["has_password"], row["created_at"]) for row in rows]

    async def create(self, asked: Registration, standing: Standing) -> Account:
        """Create an account. Without a password, its owner needs a link to set one (see `onboarding_link`).

        Raises:
            Invalid: lists every field that is blank, malformed, too short, too long or taken.
        """
        new = checked_registration(asked, later=("password",) if asked.password is None else ())
        password_hash = None
        if new.password is not None:
            password_hash = await self.passwords.hash(check_password(new.password))
        role, operator = standing.role or USER, bool(standing.operator)
        async with brief_transaction(self.pool) as connection:
            await repository.require_free(connection, email=new.email, username=new.username)
            return await repository.insert(connection, new, password_hash=password_hash, role=role, operator=operator)

    async def set_standing(self, who: str, standing: Standing) -> Account:
        """Change an account's role, whether it is active, or whether it is an operator.

        Raises:
            Conflict: it is the last active admin and would lose that role.
        """
        async with brief_transaction(self.pool) as connection:
            # locks the admins first, so that nobody else can change who is an admin in the meantime
            admins = await fetch_all(connection, load("administration")["lock_admins"], {})
            account = await _find(connection, who)
            stays = standing.role in (None, ADMIN) and standing.active is not False
            if [row["id"] for row in admins] == [account.id] and not stays:
                raise Conflict(f"{account.email} is the last active admin: make another account an admin first")
            values = {"id": account.id, **vars(standing)}
            row = await fetch_one(connection, load("administration")["set_standing"], values)
        assert row is not None, "the account was found in the same transaction"
        return repository.account_of(row)

    async def set_password(self, who: str, password: str) -> Account:
        """Set an account's password. This ends its sessions and password links, but not its API tokens.

        Raises:
            Invalid: the password is blank, too short or too long.
        """
        password_hash = await self.passwords.hash(check_password(password))
        async with brief_transaction(self.pool) as connection:
            account = await _find_active(connection, who)
            await repository.lock(connection, account.id)
            await repository.set_password(connection, account.id, password_hash)
            await repository.void_links(connection, account.id)
        return account

    async def reset_link(self, who: str) -> Link:
        """A one-time link for setting a password, whether or not the account has one."""
        async with brief_transaction(self.pool) as connection:
            account = await _find_active(connection, who)
            link = await reset_link(connection, self.base_url, account.email)
        assert link is not None, "the account was found in the same transaction"
        return link

    async def onboarding_link(self, account: Account) -> Link:
        """A one-time link for an account that was created without a password."""
        async with brief_transaction(self.pool) as connection:
            link = await onboarding_link(connection, self.base_url, account.id)
        assert link is not None, "the account has no password yet"
        return link


async def _find(connection: Connection, who: str) -> Account:
    values = {"id": whole_number(who), "email": normalize_email(who)}
    row = await fetch_one(connection, load("administration")["find"], values)
    if row is None:
        raise NotFound(f"there is no account {who}: name one by its e-mail address or id (wherry users list)")
    return repository.account_of(row)


async def _find_active(connection: Connection, who: str) -> Account:
    account = await _find(connection, who)
    if not account.active:
        raise Conflict(f"{account.email} is deactivated: run `wherry users activate {who}` first")
    return account
