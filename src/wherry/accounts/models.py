"""What an account is to the rest of the program.

In: rows of `users`. Out: `Account`, which carries no password; `Session`, an account with a token for it; `Link`, a
one-time link to set a password with; `ApiToken`, a credential for scripts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from wherry.accounts.limits import Usage


@dataclass(frozen=True)
class Account:
    """A person or a script that may call. Imported accounts are among them, with their e-mail as username."""

    id: int
    email: str
    username: str
    role: str
    active: bool
    bio: str | None
    image: str | None
    operator: bool = False
    """May do what concerns the whole service; only `wherry users` and the first registration set it."""
    password_changed_at: datetime | None = None
    """None: never since the registration. JWTs issued before this are refused."""


@dataclass(frozen=True)
class Visitor:
    """Where a request comes from: an address, and the origin of the web page that sent it, if that is not our own."""

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
    """An API token that was just made; nobody can read its secret again."""

    token: ApiToken
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Login:
    """What a login is decided by: the account, its hash (None: no password yet), whether it knows the address."""

    account: Account
    password_hash: str | None = field(repr=False)
    known_address: bool


@dataclass(frozen=True)
class Session:
    """An account, a token that stands for it, and what is left of the limits that were counted on the way."""

    account: Account
    token: str = field(repr=False)
    usages: tuple[Usage, ...] = ()


@dataclass(frozen=True)
class Link:
    """A one-time link. Its token is in `url` and nowhere else."""

    url: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True)
class ResetRequest:
    """A request for a link that was let pass, whether or not there is an account with this e-mail."""

    email: str
    usages: tuple[Usage, ...]


@dataclass(frozen=True)
class Registration:
    """What somebody asks to be registered with, as it came."""

    username: str | None
    email: str | None
    password: str | None = field(repr=False)
    bio: str | None = None
    image: str | None = None


@dataclass(frozen=True)
class Changes:
    """What an account's owner asks to be changed; None leaves a value, `clear` names those to empty."""

    username: str | None = None
    email: str | None = None
    password: str | None = field(default=None, repr=False)
    bio: str | None = None
    image: str | None = None
    clear: frozenset[str] = frozenset()
