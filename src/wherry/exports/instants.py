"""Instants as clients write them in filters.

In: an ISO 8601 date or date-time; without an offset it is UTC. Out: an aware `datetime` in UTC, and back.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

# `datetime.fromisoformat` also takes week dates and other forms that no client means; what may pass is stated here.
_INSTANT = re.compile(
    r"\d{4}-\d{2}-\d{2}"
    r"(?:[Tt ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:[Zz]|[+-]\d{2}(?::?\d{2})?)?)?",
    re.ASCII,
)


def parse_instant(text: str) -> datetime:
    """The instant that `text` names; digits beyond microseconds are dropped.

    Raises:
        ValueError: it names none, or one that is not within the years 1 to 9999 in UTC.
    """
    if not _INSTANT.fullmatch(text):
        raise ValueError("not an ISO 8601 date or date-time")
    moment = datetime.fromisoformat(text.upper())
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("outside the years 1 to 9999") from error


def format_instant(moment: datetime) -> str:
    """RFC 3339 in UTC, with as many digits as the instant has: a filter must not be rounded."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
