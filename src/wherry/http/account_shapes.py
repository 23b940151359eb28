"""The bodies of account requests and their responses, as JSON.

Required strings are declared as optional, so that an absent or null one is reported as blank, like an empty one.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from wherry.accounts.models import NOT_BLANK, NOT_NULL, Registration
from wherry.accounts.validation import MIN_PASSWORD_CHARACTERS
from wherry.times import Time

NEW_PASSWORD = Meta(extra_json_schema={"minLength": MIN_PASSWORD_CHARACTERS, NOT_NULL: True})


class RegistrationBody(Struct):
    """The account to create."""

    user: Registration


class LoginFields(Struct):
    """The credentials of an account."""

    email: Annotated[str | None, NOT_BLANK] = None
    password: Annotated[str | None, NOT_BLANK] = None


class LoginBody(Struct):
    """The account to log in to."""

    user: LoginFields


class ChangedFields(Struct):
    """The fields to change; absent fields stay as they are."""

    username: Annotated[str | UnsetType | None, NOT_BLANK] = UNSET
    email: Annotated[str | UnsetType | None, NOT_BLANK] = UNSET
    password: Annotated[str | None, Meta(description="Null or empty leaves the password as it is.")] = None
    bio: Annotated[str | UnsetType | None, Meta(description="Null or empty removes it.")] = UNSET
    image: Annotated[str | UnsetType | None, Meta(description="A URL; null or empty removes it.")] = UNSET


class ChangesBody(Struct):
    """The changes to the caller's account."""

    user: ChangedFields


class ResetBody(Struct):
    """The account that needs a new password."""

    email: Annotated[str | None, NOT_BLANK] = None


class NewPasswordBody(Struct):
    """The token of a password link, and the password to set."""

    token: Annotated[str | None, NOT_BLANK] = None
    password: Annotated[str | None, NEW_PASSWORD] = None


class UserFields(Struct):
    """An account and a token for it."""

    id: int
    email: str
    username: str
    bio: str | None
    image: str | None
    token: Annotated[str, Meta(description="Sent as `Authorization: Bearer …`.")]


class UserAnswer(Struct):
    """An account."""

    user: UserFields


class LinkAnswer(Struct, rename="camel"):
    """A one-time link for setting a password."""

    url: str
    expires_at: Time
