"""Reads and writes accounts and their links.

Values must already be validated. Every function works in the caller's transaction and never commits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import fields
from functools import cache
from typing import Any, TypeAlias
from uuid import UUID

import msgspec
from psycopg import sql
from psycopg.errors import UniqueViolation

from wherry.accounts.models import Account, Changes, Login, Registration
from wherry.accounts.validation import refuse_taken
from wherry.database.pools import Connection
from wherry.database.queries import fetch_one, load
from wherry.errors import DatabaseUnavailable
from wherry.jobs.models import Job
from wherry.times import now

FIRST_ACCOUNT_LOCK = 0x7768_6572_7279_0001  # "wherry" and a number; serializes the first registrations
KNOWN_DAYS = 30
ID_TRIES = 5
Caller: TypeAlias = tuple[Account, Job | None]
"""Who sent a request, and the job that it is about, if any. The job may be somebody else's."""

_COLUMNS = tuple(column.name for column in fields(Account))
_USER_COLUMNS = sql.SQL(", ").join(sql.Identifier("users", name) for name in _COLUMNS)
# as in `pools`, numbers that are too large for a float become infinite
_read_job = msgspec.json.Decoder(Job, float_hook=float).decode


async def is_empty(connection: Connection) -> bool:
    """Whether there are no accounts at all."""
    row = await _one(connection, "any_account")
    return row is None or not row["found"]


async def lock_first_account(connection: Connection) -> None:
    """Lock the decision about which account is the first, until the transaction ends."""
    await connection.execute(load("accounts")["lock_first"], {"key": FIRST_ACCOUNT_LOCK})


async def require_free(
    connection: Connection, *, email: str | None, username: str | None, except_id: int | None = None
) -> None:
    """Raise `Invalid` for the e-mail, the username or both if an account other than `except_id` has them."""
    row = await _one(connection, "taken", email=email, username=username, except_id=except_id)
    assert row is not None, "an aggregate always returns its row"
    refuse_taken(email=row["email"], username=row["username"])


async def insert(
    connection: Connection, new: Registration, *, password_hash: str | None, role: str, operator: bool = False
) -> Account:
    """Create an account; without a hash it has no password yet.

    Raises:
        Invalid: the e-mail or the username was taken in the meantime.
        Unavailable: the next ids of the sequence are all taken by accounts that were imported with their ids.
    """
    values = {**_profile(new), "password_hash": password_hash, "role": role, "operator": operator}
    for _ in range(ID_TRIES):
        with suppress(UniqueViolation):  # the remaining cause: an import has used the id that the sequence returned
            async with _refusing_taken_names(), connection.transaction():
                row = await _one(connection, "insert", **values)
            assert row is not None, "an insert that does not fail returns its row"
            return account_of(row)
    raise DatabaseUnavailable("accounts are being imported just now; try again")


async def update(connection: Connection, user_id: int, changes: Changes, password_hash: str | None) -> Account | None:
    """Change an active account. Returns None if there is no such account.

    Raises:
        Invalid: another account has the e-mail or the username.
    """
    values = {
        **_profile(changes),
        "sets_bio": changes.bio is not None or "bio" in changes.clear,
        "sets_image": changes.image is not None or "image" in changes.clear,
        "password_hash": password_hash,
        # from the same clock as the times of JWTs, because the two are compared
        "password_changed_at": None if password_hash is None else now(),
    }
    async with _refusing_taken_names():
        row = await _one(connection, "update", id=user_id, **values)
    return None if row is None else account_of(row)


async def set_password(connection: Connection, user_id: int, password_hash: str) -> Account | None:
    """Set an active account's password. Returns None if there is no such account."""
    return await update(connection, user_id, Changes(), password_hash)


async def get(connection: Connection, user_id: int) -> Account | None:
    """The account, or None if there is no such account."""
    row = await _one(connection, "by_id", id=user_id)
    return None if row is None else account_of(row)


async def get_with_job(connection: Connection, user_id: int, job_id: UUID | None) -> Caller | None:
    """The account, or None if there is no such account, and the job, whoever owns it."""
    return await _caller(connection, _with_columns("accounts", "with_job"), {"user_id": user_id, "job_id": job_id})


async def find_token_owner(connection: Connection, token_hash: bytes, job_id: UUID | None) -> Caller | None:
    """The active account that an unexpired API token belongs to, and the job, whoever owns it. Records that the token
    was used."""
    values = {"token_hash": token_hash, "job_id": job_id}
    return await _caller(connection, _with_columns("api_tokens", "authenticate"), values)


async def find_live(
    connection: Connection, user_ids: Collection[int], token_hashes: Collection[bytes]
) -> tuple[dict[int, Account], dict[bytes, Account]]:
    """Those of these accounts that are active, by id, and the active owners of these API tokens, by hash."""
    query = _with_columns("api_tokens", "live_callers")
    cursor = await connection.execute(query, {"user_ids": list(user_ids), "token_hashes": list(token_hashes)})
    by_id, by_token = {}, {}
    for token_hash, *columns in await cursor.fetchall():
        account = Account(*columns)
        if token_hash is None:
            by_id[account.id] = account
        else:
            by_token[bytes(token_hash)] = account
    return by_id, by_token


async def find_login(connection: Connection, email: str, address_hash: bytes) -> Login | None:
    """What is needed to check a login with this e-mail from this address, or None if there is no such account."""
    row = await _one(connection, "for_login", email=email, address_hash=address_hash, known_days=KNOWN_DAYS)
    return None if row is None else Login(account_of(row), row["password_hash"], row["known_address"])


async def remember_address(connection: Connection, user_id: int, address_hash: bytes) -> None:
    """Record that the account has logged in from this address; writes at most once per day."""
    await connection.execute(load("accounts")["remember_address"], {"user_id": user_id, "address_hash": address_hash})


async def rehash(connection: Connection, user_id: int, *, old_hash: str, password_hash: str) -> None:
    """Replace a hash with a new one of the same password, unless the password was changed in the meantime."""
    values = {"id": user_id, "old_hash": old_hash, "password_hash": password_hash}
    await connection.execute(load("accounts")["rehash"], values)


async def lock(connection: Connection, user_id: int) -> None:
    """Lock an account and its links against other changes until the transaction ends."""
    await connection.execute(load("accounts")["lock"], {"id": user_id})


async def link_owner(connection: Connection, token_hash: bytes) -> int | None:
    """The account that a valid link belongs to: an onboarding link is valid until the account has a password, a reset
    link as long as the account has the address that it was sent to."""
    row = await _one(connection, "link_owner", token_hash=token_hash)
    return None if row is None else int(row["user_id"])


async def void_links(connection: Connection, user_id: int) -> None:
    """Void all links of an account, including the one that is being redeemed."""
    await connection.execute(load("accounts")["void_links"], {"user_id": user_id})


async def purge_expired(connection: Connection) -> int:
    """Remove expired links, addresses and API tokens. Returns their number."""
    links = await connection.execute(load("accounts")["purge_links"])
    addresses = await connection.execute(load("accounts")["purge_addresses"], {"known_days": KNOWN_DAYS})
    tokens = await connection.execute(load("api_tokens")["purge"])
    return links.rowcount + addresses.rowcount + tokens.rowcount


@asynccontextmanager
async def _refusing_taken_names() -> AsyncIterator[None]:
    try:
        yield
    except UniqueViolation as error:
        constraint = error.diag.constraint_name
        refuse_taken(email=constraint == "users_email_key", username=constraint == "users_username_key")
        raise


async def _one(connection: Connection, query: str, **values: object) -> dict[str, Any] | None:
    return await fetch_one(connection, load("accounts")[query], values)


def _profile(given: Registration | Changes) -> dict[str, object]:
    return {name: getattr(given, name) for name in ("email", "username", "bio", "image")}


@cache
def _with_columns(subject: str, query: str) -> bytes:
    """A query with the columns of accounts in a fixed order, because rows as dictionaries take twice the time."""
    return sql.SQL(load(subject)[query]).format(columns=_USER_COLUMNS).as_bytes()


async def _caller(connection: Connection, query: bytes, values: Mapping[str, object]) -> Caller | None:
    row = await (await connection.execute(query, values)).fetchone()
    if row is None:
        return None
    *account, job = row
    return Account(*account), None if job is None else _read_job(job)


def account_of(row: Mapping[str, Any]) -> Account:
    """The account in a row with all of its columns."""
    return Account(**{name: row[name] for name in _COLUMNS})
