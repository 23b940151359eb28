"""The rule that several resources share: a record is named by its id or its natural key."""

from __future__ import annotations

from collections.abc import Iterator

from wherry.errors import ErrorCode
from wherry.resources.rules import Fault


def id_or(natural_key: str, given: frozenset[str]) -> Iterator[tuple[str, Fault]]:
    """A fault on `id` unless one of the two is given, sound or not."""
    if "id" not in given and natural_key not in given:
        yield "id", Fault(ErrorCode.MISSING_REQUIRED_FIELD, f"or {natural_key} is required")
