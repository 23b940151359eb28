"""Accounts and what belongs to them, as the rest of the program sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated
from uuid import UUID

from msgspec import Meta

from wherry.accounts.limits import Usage

NOT_NULL = "x-not-null"
"""In a JSON Schema: null and, if null is the default, absence are read only to be refused with the other faults."""

NOT_BLANK = Meta(extra_json_schema={"minLength": 1, NOT_NULL: True})


@dataclass(frozen=True)
class Account:
    """A user of the API, without the password. An imported account has its e-mail address as its username."""

    id: int
    email: str
    username: str
    role: str
    active: bool
    bio: str | None
    image: str | None
    operator: bool = False
    """Whether it may manage the whole service; set only by `wherry users` and by the first registration."""
    password_changed_at: datetime | None = None
    """JWTs issued before this are rejected; None if the password was never changed."""


@dataclass(frozen=True)
class Visitor:
    """The origin of a request: its address and, if a web page other than our own sent it, that page's origin."""

    address: str
    foreign_origin: str | None = None


@dataclass(frozen=True)
class ApiToken:
    """A credential for scripts, without the secret itself."""

    id: UUID
    name: str
    prefix: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True)
class NewApiToken:
    """An API token that was just created; its secret cannot be shown again."""

    token: ApiToken
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Login:
    """What a login is checked against: the account, its password hash if it has one, and whether it has recently logged
    in from this address."""

    account: Account
    password_hash: str | None = field(repr=False)
    known_address: bool


@dataclass(frozen=True)
class Session:
    """An account, a token for it, and the rate limits that the request counted against."""

    account: Account
    token: str = field(repr=False)
    usages: tuple[Usage, ...] = ()


@dataclass(frozen=True)
class Link:
    """A one-time link for setting a password. Its token is only in `url`."""

    url: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True)
class ResetRequest:
    """An accepted request for a reset link, whether or not there is an account with this e-mail."""

    email: str
    usages: tuple[Usage, ...]


@dataclass(frozen=True)
class Registration:
    """Somebody who wants an account."""

    username: Annotated[str | None, NOT_BLANK] = None
    email: Annotated[str | None, NOT_BLANK] = None
    password: Annotated[str | None, NOT_BLANK] = field(default=None, repr=False)
    bio: str | None = None
    image: str | None = None


@dataclass(frozen=True)
class Changes:
    """Changes that an account's owner requested; None leaves a value unchanged, `clear` names the fields to empty."""

    username: str | None = None
    email: str | None = None
    password: str | None = field(default=None, repr=False)
    bio: str | None = None
    image: str | None = None
    clear: frozenset[str] = frozenset()
