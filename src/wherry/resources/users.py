"""Users: accounts of the system. An imported one has no password until its owner sets one through a link."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from wherry.errors import ErrorCode
from wherry.resources import rules
from wherry.resources.model import Columns, ImportField, ImportShape, Resource, RowPolicy, State

USER, ADMIN = "user", "admin"
ROLES = (USER, ADMIN)


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
    yield from rules.id_or("email", given)


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
        "role": record.role or USER,
        "active": record.active is not False,
        "created_at": record.created_at or now,
        "updated_at": record.updated_at or now,
    }


IS_ADMIN, IS_ACTIVE, HAS_PASSWORD = 1, 2, 4
"""Bits of an account's state."""


class AdminPolicy(RowPolicy):
    """Only admins change an admin's account, and one active admin always remains. An import never makes an admin of
    somebody who can log in, because whoever imports a file may not know what is in it."""

    def faults(self, record: UserRecord, state: State) -> Iterator[tuple[str, rules.Fault]]:
        """Faults, each with the code `FORBIDDEN`."""
        if not self.by_admin:
            if state & IS_ADMIN:
                name = "email" if record.id is None else "id"
                yield name, _forbidden("belongs to an admin's account, which only an admin may change")
            return
        if record.role == ADMIN and state & HAS_PASSWORD and not state & IS_ADMIN:
            yield "role", _forbidden("cannot become admin by an import, as the account has a password")
        if _keeps(state) and not _keeps(_changed(record, state)) and self._is_last():
            if record.role == USER:
                yield "role", _forbidden("must stay admin: this is the last active admin")
            if record.active is False:
                yield "active", _forbidden("must stay true: this is the last active admin")

    def after(self, record: UserRecord, state: State | None) -> State:
        """Also keeps count of the active admins."""
        changed = _changed(record, IS_ACTIVE if state is None else state)
        if self.keepers is not None:
            self.keepers += _keeps(changed) - (state is not None and _keeps(state))
        return changed

    def _is_last(self) -> bool:
        self.lacks_keepers |= self.keepers is None
        return self.keepers is not None and self.keepers <= 1


def _keeps(state: State) -> bool:
    return state & (IS_ADMIN | IS_ACTIVE) == IS_ADMIN | IS_ACTIVE


def _changed(record: UserRecord, state: State) -> State:
    if record.role is not None:
        state = state | IS_ADMIN if record.role == ADMIN else state & ~IS_ADMIN
    if record.active is not None:
        state = state | IS_ACTIVE if record.active else state & ~IS_ACTIVE
    return state


def _forbidden(text: str) -> rules.Fault:
    return rules.Fault(ErrorCode.FORBIDDEN, text)


USERS = Resource(
    name="users",
    singular="user",
    natural_key="email",
    keeps_first_key=True,
    shape=ImportShape(
        record=UserRecord,
        fields=FIELDS,
        is_clean=is_clean,
        check=check,
        admin_only={"role": ADMIN},
        policy=AdminPolicy,
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
    constraints={"users_email_key": "email", "users_username_key": "email", "users_pkey": "id"},
)
