"""Users: accounts of the system. An imported one has no password until its owner sets one through a link."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from wherry.resources import rules
from wherry.resources.keys import id_or
from wherry.resources.model import Columns, Filter, FilterType, ImportField, ImportShape, Resource

ROLES = ("user", "admin")


class UserRecord(msgspec.Struct, frozen=True, gc=False):
    """A user as it is imported."""

    name: rules.Text
    id: rules.Id | None = None
    email: rules.Email | None = None
    role: Literal["user", "admin"] | None = None
    active: bool | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


FIELDS = (
    ImportField("id", rules.identifier),
    ImportField("email", rules.email),
    ImportField("name", rules.present, required=True),
    ImportField("role", rules.one_of(ROLES)),
    ImportField("active", rules.boolean),
    ImportField("created_at", rules.instant),
    ImportField("updated_at", rules.instant),
)


def is_clean(record: UserRecord) -> bool:
    """Trimmed, in lower case, in UTC, and named by an id or an e-mail address."""
    email = record.email
    return (
        (record.id is not None or email is not None)
        and rules.is_trimmed(record.name)
        and (email is None or rules.is_email(email))
        and rules.is_utc(record.created_at)
        and rules.is_utc(record.updated_at)
    )


def check(values: Mapping[str, Any], given: frozenset[str]) -> Iterator[tuple[str, rules.Fault]]:
    """A user is named by its id or its e-mail address."""
    yield from id_or("email", given)


def changes(record: UserRecord) -> Columns:
    """The columns that a record sets."""
    columns: Columns = {"name": record.name}
    for name in ("email", "role", "active", "created_at", "updated_at"):
        value = getattr(record, name)
        if value is not None:
            columns[name] = value
    return columns


def create(record: UserRecord, now: datetime) -> Columns:
    """A new account: its username is its e-mail address, and it cannot log in."""
    return {
        "email": record.email,
        "username": record.email,
        "name": record.name,
        "role": record.role or "user",
        "active": record.active is not False,
        "created_at": record.created_at or now,
        "updated_at": record.updated_at or now,
    }


USERS = Resource(
    name="users",
    singular="user",
    fields=("id", "email", "name", "role", "active", "created_at", "updated_at"),
    natural_key="email",
    keeps_first_key=True,
    shape=ImportShape(
        record=UserRecord,
        fields=FIELDS,
        is_clean=is_clean,
        check=check,
        admin_only={"role": "admin"},
        columns={
            "email": "text",
            "username": "text",
            "name": "text",
            "role": "text",
            "active": "boolean",
            "created_at": "timestamptz",
            "updated_at": "timestamptz",
        },
        changes=changes,
        create=create,
    ),
    filters=(
        Filter("id", FilterType.ID),
        Filter("email", FilterType.TEXT, lower_case=True),
        Filter("role", FilterType.ENUM, choices=ROLES),
        Filter("name", FilterType.TEXT),
        Filter("active", FilterType.BOOLEAN),
        Filter("created_at", FilterType.PERIOD),
    ),
    constraints={"users_email_key": "email", "users_username_key": "email", "users_pkey": "id"},
)
