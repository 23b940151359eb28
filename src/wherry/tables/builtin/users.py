"""Users: accounts of the system. An imported one has no password until its owner sets one through a link."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import UNSET

from wherry.errors import ErrorCode
from wherry.tables.builtin import rules
from wherry.tables.builtin.policy import given_values, make_policy
from wherry.tables.shape import RowPolicy, State
from wherry.tables.values import Fault

USER, ADMIN = "user", "admin"
ROLES = (USER, ADMIN)


FIELDS = {
    "id": rules.ID,
    "email": rules.ADDRESS,
    "name": rules.PRESENT,
    "role": rules.one_of(*ROLES),
    "active": rules.BOOLEAN,
    "created_at": rules.INSTANT,
    "updated_at": rules.INSTANT,
}

IS_ADMIN, IS_ACTIVE, HAS_PASSWORD = 1, 2, 4
"""Bits of an account's state."""


class AdminPolicy(RowPolicy):
    """Only admins change an admin's account, and one active admin always remains. An import never makes an admin of
    somebody who can log in, because whoever imports a file may not know what is in it."""

    state = (
        "(target.role = 'admin')::pg_catalog.int4 + 2 * target.active::pg_catalog.int4"
        " + 4 * (target.password_hash is not null)::pg_catalog.int4"
    )
    keepers_where = "target.role = 'admin' and target.active"

    def faults(self, record: Any, state: State) -> Iterator[tuple[str, Fault]]:
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

    def after(self, record: Any, state: State | None) -> State:
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


def _changed(record: Any, state: State) -> State:
    if record.role is not None:
        state = state | IS_ADMIN if record.role == ADMIN else state & ~IS_ADMIN
    if record.active is not None:
        state = state | IS_ACTIVE if record.active else state & ~IS_ACTIVE
    return state


def _forbidden(text: str) -> Fault:
    return Fault(ErrorCode.FORBIDDEN, text)


USERS = make_policy(
    "user",
    FIELDS,
    required=("name",),
    one_of=("id", "email"),
    columns=(*FIELDS, "username"),
    new=lambda record: (*given_values(record), record.email),  # an account has its address as its username
    changes=lambda record: (*given_values(record), UNSET),
    required_for_new="email",
    admin_only={"role": ADMIN},
    rows=AdminPolicy,
    touched="updated_at",
)
