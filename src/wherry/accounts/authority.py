"""Checks that the owner of a job still has the role it needs: roles can change while jobs are queued or running."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from wherry.database.pools import Connection, Pool
from wherry.database.queries import fetch_one, load
from wherry.errors import ErrorCode, JobFailed
from wherry.tables.builtin.users import ADMIN

LOST = "The owner's account was deactivated, or has lost the role that this job needs"


@dataclass(frozen=True)
class Authority:
    """What a job may do on behalf of its owner.

    Attributes:
        owner_id: None if the job has no owner; then it cannot lose its role.
        role: the owner's role when the job was claimed; None if the account is inactive or gone.
        transfer_roles: the roles that may import and export.
        needed_role: the role that the owner must keep, if the job depends on it.
    """

    owner_id: int | None
    role: str | None
    transfer_roles: Collection[str]
    needed_role: str | None = None

    @property
    def is_admin(self) -> bool:
        return self.role == ADMIN

    def require(self, role: str | None) -> None:
        """Raise `JobFailed` if the job may not continue with the role that its owner has now."""
        is_enough = role in self.transfer_roles and self.needed_role in (None, role)
        if self.owner_id is not None and not is_enough:
            raise JobFailed(ErrorCode.FORBIDDEN, LOST)


async def read_authority(
    pool: Pool,
    owner_id: int | None,
    transfer_roles: Collection[str],
    *,
    requested_by: str | None = None,
    depends_on_admin: bool = False,
) -> Authority:
    """The authority of a job that was just claimed.

    Args:
        requested_by: the owner's role when the job was requested; a job without an owner keeps it for good.
        depends_on_admin: whether the job behaves differently for an admin.
    """
    if owner_id is None:
        return Authority(None, requested_by, transfer_roles)
    async with pool.connection() as connection:
        role = await read_role(connection, owner_id)
    needed_role = ADMIN if depends_on_admin and ADMIN in (requested_by, role) else None
    return Authority(owner_id, role, transfer_roles, needed_role)


async def read_role(connection: Connection, owner_id: int | None) -> str | None:
    """The role that an account has now, or None if it is inactive or gone."""
    row = await fetch_one(connection, load("accounts")["live_role"], {"id": owner_id})
    return None if row is None else str(row["role"])
