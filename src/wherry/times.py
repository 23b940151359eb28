"""Times as the API shows them: RFC 3339 in UTC, with milliseconds and `Z`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, TypeAlias, overload

from msgspec import Meta

Time: TypeAlias = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""What `rfc3339` returns, in the responses of the API."""


@overload
def rfc3339(moment: datetime) -> str: ...


@overload
def rfc3339(moment: datetime | None) -> str | None: ...


def rfc3339(moment: datetime | None) -> str | None:
    """`2026-01-31T12:00:00.000Z`, or None for None."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)
