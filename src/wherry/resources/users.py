"""Users: accounts of the system. An imported one has no password until its owner sets one through a link."""

from __future__ import annotations

from wherry.resources.model import Filter, FilterType, Resource

ROLES = ("user", "admin")

USERS = Resource(
    name="users",
    singular="user",
    fields=("id", "email", "name", "role", "active", "created_at", "updated_at"),
    natural_key="email",
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
