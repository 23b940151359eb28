"""API tokens: long-lived credentials for scripts.

A token is `whr_` and 256 random bits. The database stores only its SHA-256, so nobody can log in with a leaked copy of
the database.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from wherry.accounts import repository
from wherry.accounts.models import Account, ApiToken, NewApiToken
from wherry.accounts.validation import BLANK, refuse
from wherry.database.pools import Connection, Pool, brief_transaction
from wherry.database.queries import fetch_all, fetch_one, load
from wherry.errors import Conflict, NotFound
from wherry.jobs.models import new_job_id
from wherry.times import now

MARK = "whr_"
PREFIX_CHARACTERS = len(MARK) + 6
MAX_LIVE = 50
MAX_NAME = 100
RANDOM_BYTES = 32


@dataclass(frozen=True)
class ApiTokens:
    """The API tokens in one database."""

    pool: Pool

    async def create(self, owner: Account, name: str | None, expires_at: str | None) -> NewApiToken:
        """Create a token with the rights of its owner.

        Raises:
            Invalid: lists every invalid field.
            Conflict: the owner already has the maximum number of tokens.
            Unavailable: a long import is changing the account.
        """
        values = _checked(name, expires_at)
        secret = MARK + secrets.token_urlsafe(RANDOM_BYTES)
        values |= {
            "id": new_job_id(),
            "user_id": owner.id,
            "prefix": secret[:PREFIX_CHARACTERS],
            "token_hash": secret_hash(secret),
        }
        async with brief_transaction(self.pool) as connection:
            await repository.lock(connection, owner.id)  # so that two concurrent requests cannot exceed the maximum
            await _require_room(connection, owner)
            row = await fetch_one(connection, load("api_tokens")["insert"], values)
        assert row is not None, "an insert that does not fail returns its row"
        return NewApiToken(ApiToken(**row), secret)

    async def live(self, owner: Account) -> list[ApiToken]:
        """The owner's unexpired tokens, oldest first."""
        async with self.pool.connection() as connection:
            rows = await fetch_all(connection, load("api_tokens")["list_live"], {"user_id": owner.id})
        return [ApiToken(**row) for row in rows]

    async def revoke(self, owner: Account, token_id: str) -> None:
        """Delete a token; it stops working at once.

        Raises:
            NotFound: the owner has no such token, whether or not somebody else does.
        """
        values = {"id": _uuid(token_id), "user_id": owner.id}
        async with self.pool.connection() as connection:
            deleted = (await connection.execute(load("api_tokens")["delete"], values)).rowcount
        if not deleted:
            raise NotFound("you have no API token with this id", field="apiToken")


def is_api_token(credential: str) -> bool:
    """Whether a credential, valid or not, is an API token rather than a JWT."""
    return credential.startswith(MARK)


def secret_hash(secret: str) -> bytes:
    """The hash to store of a random secret."""
    return hashlib.sha256(secret.encode()).digest()


async def _require_room(connection: Connection, owner: Account) -> None:
    row = await fetch_one(connection, load("api_tokens")["count_live"], {"user_id": owner.id})
    assert row is not None, "an aggregate always returns its row"
    if row["live"] >= MAX_LIVE:
        raise Conflict(f"an account may have at most {MAX_LIVE} API tokens; delete one first", field="apiToken")


def _checked(name: str | None, expires_at: str | None) -> dict[str, Any]:
    values: dict[str, Any] = {"name": (name or "").strip(), "expires_at": None}
    faults: Mapping[str, list[str]] = {"name": [], "expiresAt": []}
    if not values["name"]:
        faults["name"].append(BLANK)
    elif len(values["name"]) > MAX_NAME:
        faults["name"].append(f"is too long (maximum is {MAX_NAME} characters)")
    elif "\0" in values["name"]:
        faults["name"].append("must not contain the character U+0000")
    if expires_at is not None:
        values["expires_at"] = _instant(expires_at)
        if values["expires_at"] is None:
            faults["expiresAt"].append("must be an RFC 3339 date-time with an offset, such as 2030-01-31T12:00:00Z")
        elif values["expires_at"] <= now():
            faults["expiresAt"].append("must be in the future")
    refuse(faults)
    return values


def _instant(text: str) -> datetime | None:
    try:
        moment = msgspec.convert(text, datetime)
        return None if moment.tzinfo is None else moment.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):  # overflow: the last day of 9999 with a negative offset
        return None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
