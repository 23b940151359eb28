"""The bodies of account requests and their responses, as JSON."""

from __future__ import annotations

import msgspec
from litestar.openapi.spec import OpenAPIType, Schema
from msgspec import UNSET, UnsetType

from wherry.accounts.validation import MIN_PASSWORD_CHARACTERS
from wherry.http.described import TEXT, WORDS, members, nullable
from wherry.times import Time

# What is read is looser than these: a required field that is absent or null is reported as blank, like an empty one.
REGISTRATION = members(
    ["username", "email", "password"],
    username=WORDS,
    email=WORDS,
    password=WORDS,
    bio=nullable(TEXT),
    image=nullable(TEXT),
)
NEW_PASSWORD = Schema(type=OpenAPIType.STRING, min_length=MIN_PASSWORD_CHARACTERS)
CHANGES = members([], username=WORDS, email=WORDS, password=nullable(TEXT), bio=nullable(TEXT), image=nullable(TEXT))


class RegistrationFields(msgspec.Struct):
    """Username, e-mail and password must not be blank."""

    username: str | None = None
    email: str | None = None
    password: str | None = None
    bio: str | None = None
    image: str | None = None


class RegistrationBody(msgspec.Struct):
    """Somebody who wants an account."""

    user: RegistrationFields


class LoginFields(msgspec.Struct):
    """Neither must be blank."""

    email: str | None = None
    password: str | None = None


class LoginBody(msgspec.Struct):
    """Somebody who has an account."""

    user: LoginFields


class ChangedFields(msgspec.Struct):
    """What is absent stays, and so does the password if it is empty; null or empty clears bio and image."""

    username: str | UnsetType | None = UNSET
    email: str | UnsetType | None = UNSET
    password: str | None = None
    bio: str | UnsetType | None = UNSET
    image: str | UnsetType | None = UNSET


class ChangesBody(msgspec.Struct):
    """What the caller wants changed."""

    user: ChangedFields


class ResetBody(msgspec.Struct):
    """Somebody who forgot a password."""

    email: str | None = None


class NewPasswordBody(msgspec.Struct):
    """A link's token, and the password to set."""

    token: str | None = None
    password: str | None = None


class UserFields(msgspec.Struct):
    """An account, with a token that stands for it."""

    id: int
    email: str
    username: str
    bio: str | None
    image: str | None
    token: str


class UserAnswer(msgspec.Struct):
    """An account, as clients read it."""

    user: UserFields


class LinkAnswer(msgspec.Struct, rename="camel"):
    """A one-time link, and when it ends."""

    url: str
    expires_at: Time
