"""Makes the policies of the built-in tables from the rules of their fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.structs import astuple

from wherry.errors import ErrorCode
from wherry.tables.shape import FieldRule, ImportField, ImportShape, Row, RowPolicy
from wherry.tables.values import Fault

MARKER = "import_job_id"


@dataclass(frozen=True)
class Contradiction:
    """Two fields whose values must not meet: a condition of a record, and the fault that it is, by field."""

    is_in: Callable[[Any], bool]
    field: str
    fault: Fault


def make_policy(
    name: str,
    fields: Mapping[str, FieldRule],
    *,
    required: tuple[str, ...],
    one_of: tuple[str, ...] = (),
    contradiction: Contradiction | None = None,
    columns: tuple[str, ...] | None = None,
    new: Callable[[Any], Row] | None = None,
    changes: Callable[[Any], Row] | None = None,
    required_for_new: str | None = None,
    admin_only: Mapping[str, object] | None = None,
    rows: type[RowPolicy] | None = None,
    touched: str | None = None,
) -> ImportShape:
    """A policy. `one_of` are fields of which a record must have at least one; see `ImportShape` for the others.

    Args:
        name: what messages call one record.
    """
    record = msgspec.defstruct(
        name.capitalize(),
        [
            (field, each.typed) if field in required else (field, each.typed | None, None)
            for field, each in fields.items()
        ],
        kw_only=True,
        frozen=True,
        gc=False,
    )
    checked = [(place, each.keeps) for place, each in enumerate(fields.values()) if each.keeps is not None]
    named = [place for place, field in enumerate(fields) if field in one_of]

    def is_clean(record: msgspec.Struct) -> bool:
        values = astuple(record)
        for place, keeps in checked:
            if values[place] is not None and not keeps(values[place]):
                return False
        if named and all(values[place] is None for place in named):
            return False
        return contradiction is None or not contradiction.is_in(record)

    def check(valid: Mapping[str, Any], given: frozenset[str]) -> Iterator[tuple[str, Fault]]:
        if one_of and given.isdisjoint(one_of):
            yield one_of[0], Fault(ErrorCode.MISSING_REQUIRED_FIELD, f"or {one_of[1]} is required")
        if contradiction is not None and contradiction.is_in(record(**{**dict.fromkeys(fields), **valid})):
            yield contradiction.field, contradiction.fault

    return ImportShape(
        record=record,
        of_values=lambda *values: record(**dict(zip(fields, values, strict=True))),
        fields=tuple(ImportField(field, each.rule, required=field in required) for field, each in fields.items()),
        columns=columns or tuple(fields),
        new=new or given_values,
        changes=changes or new or given_values,
        null_is_absent=True,
        is_clean=is_clean,
        check=check,
        required_for_new=None if required_for_new is None else (required_for_new, name),
        admin_only=admin_only or {},
        policy=rows,
        marker=MARKER,
        touched=touched,
    )


def given_values(record: msgspec.Struct) -> Row:
    """The values that a record gives."""
    return tuple([UNSET if value is None else value for value in astuple(record)])
