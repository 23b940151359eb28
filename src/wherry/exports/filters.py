"""Validates the filters of a selection, and turns them into conditions on columns.

`parse_filters` takes a JSON object of filters, with names in any spelling that `find_column` knows, and returns them by
column and in one spelling: `{"author_id": 7, "created_at": {"gte": "2026-01-01T00:00:00Z"}}`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Literal

from wherry.errors import Invalid
from wherry.tables.builtin.rules import MAX_ID, parse_instant
from wherry.tables.model import Column, Filter, FilterType, Table, find_column
from wherry.tables.types import Form
from wherry.texts import SHOWN_CHARACTERS, whole_number

Operator = Literal["=", ">", ">=", "<", "<=", "is null"]
FilterValue = int | str | bool | dict[str, str] | None

NOT_AN_OBJECT = "filters must be a valid JSON object"
"""Clients of the older service match this message, so it must not change."""

_BOUNDS: Mapping[str, Operator] = MappingProxyType({"gt": ">", "gte": ">=", "lt": "<", "lte": "<="})
MAX_TEXT = 2000
"""In characters. No key is longer, and no index can find a longer text."""

_FIT: Mapping[Form, tuple[type, ...]] = MappingProxyType(
    {Form.BOOLEAN: (bool, str), Form.NUMBER: (int, float, str), Form.TEXT: (str,)}
)
"""What a filter's value may be in JSON, by the form of its column."""

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Condition:
    """A condition on one column. Those of a selection are combined with AND. `value` is always bound, never part of the
    SQL."""

    column: str
    operator: Operator
    value: int | str | bool | None = None


def parse_filters(table: Table, given: object) -> dict[str, FilterValue]:
    """The filters of a request, by column; empty if `given` is None.

    Raises:
        Invalid: on the field `filters`; the message describes the first fault.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise _fault(NOT_AN_OBJECT)
    known = {declared.column: declared for declared in table.filters}
    parsed: dict[str, FilterValue] = {}
    for name, value in given.items():
        declared = known.get(find_column(str(name), known) or "")
        if declared is None:
            shown = str(name)[:SHOWN_CHARACTERS]
            raise _fault(f"filters.{shown} is not a filter of {table.name}; use one of {', '.join(known)}")
        if declared.column in parsed:
            raise _fault(f"filters.{declared.column} is given twice")
        parsed[declared.column] = _parse(table, declared, value)
    return parsed


def conditions(table: Table, filters: Mapping[str, FilterValue]) -> Iterator[Condition]:
    """The conditions for filters that `parse_filters` returned."""
    for declared in table.filters:
        if declared.column not in filters:
            continue
        value = filters[declared.column]
        if value is None:
            yield Condition(declared.column, "is null")
        elif isinstance(value, dict):
            yield from (Condition(declared.column, _BOUNDS[bound], limit) for bound, limit in value.items())
        elif declared.type is FilterType.PERIOD and isinstance(value, str):
            yield from _at(declared.column, value)
        else:
            yield Condition(declared.column, "=", value)


def parse_id(value: object) -> int | None:
    """An id, given as a number or as a string of digits, or None if it is not an id from 1 to 2147483647."""
    if isinstance(value, str):
        value = whole_number(value.lstrip("0"))
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 1 <= value <= MAX_ID else None


def is_storable(text: str) -> bool:
    """Whether PostgreSQL can store `text`, which must have no NUL and no lone surrogates."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _parse(table: Table, declared: Filter, value: object) -> FilterValue:
    if value is None:
        if declared.nullable:
            return None
        raise _fault(f"filters.{declared.column} must not be null")
    if declared.type is FilterType.VALUE:
        return _read_value(f"filters.{declared.column}", table.columns[declared.column], value)
    return _READERS[declared.type](declared, value)


def _read_value(place: str, column: Column, value: object) -> FilterValue:
    """A value of the column's type, or an object of such bounds, as text for PostgreSQL to read."""
    if not isinstance(value, Mapping):
        return _text_of(place, column, value)
    if not value or not _BOUNDS.keys() >= value.keys():
        raise _fault(f"{place} must be a value, or an object of {', '.join(_BOUNDS)}")
    return {bound: _text_of(f"{place}.{bound}", column, limit) for bound, limit in value.items()}


def _text_of(place: str, column: Column, value: object) -> str:
    is_fit = isinstance(value, _FIT[column.type.form]) and not (
        isinstance(value, bool) and column.type.form is Form.NUMBER
    )
    if not is_fit:
        raise _fault(f"{place} must be a value of the type {column.declared}")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if len(text) > MAX_TEXT or not is_storable(text):
        raise _fault(f"{place} must be at most {MAX_TEXT} characters, without NUL and lone surrogates")
    return text


def _read_id(declared: Filter, value: object) -> int:
    number = parse_id(value)
    if number is None:
        raise _fault(f"filters.{declared.column} must be an integer from 1 to {MAX_ID}")
    return number


def _read_text(declared: Filter, value: object) -> str:
    if not isinstance(value, str):
        raise _fault(f"filters.{declared.column} must be a string")
    if len(value) > MAX_TEXT:
        raise _fault(f"filters.{declared.column} must be at most {MAX_TEXT} characters")
    if not is_storable(value):
        raise _fault(f"filters.{declared.column} must not contain NUL or lone surrogates")
    return value.lower() if declared.lower_case else value


def _read_enum(declared: Filter, value: object) -> str:
    chosen = value.lower() if isinstance(value, str) else None
    if chosen not in declared.choices:
        raise _fault(f"filters.{declared.column} must be one of {', '.join(declared.choices)}")
    return chosen


def _read_boolean(declared: Filter, value: object) -> bool:
    if value in ("true", "false"):
        return value == "true"
    if not isinstance(value, bool):
        raise _fault(f"filters.{declared.column} must be true or false")
    return value


def _read_period(declared: Filter, value: object) -> FilterValue:
    if not isinstance(value, Mapping):
        return _read_instant(f"filters.{declared.column}", value)
    unknown = [str(bound) for bound in value if bound not in _BOUNDS]
    if unknown or not value:
        raise _fault(
            f"filters.{declared.column} must be an ISO 8601 date or date-time, or an object of {', '.join(_BOUNDS)}"
        )
    period = {bound: _read_instant(f"filters.{declared.column}.{bound}", moment) for bound, moment in value.items()}
    if _is_empty(period):
        raise _fault(f"filters.{declared.column} is an empty range")
    return period


def _read_instant(place: str, value: object) -> str:
    moment = parse_instant(value) if isinstance(value, str) else None
    if moment is None:
        raise _fault(f"{place} must be an ISO 8601 date or date-time")
    return format_instant(moment)


def _is_empty(period: Mapping[str, str]) -> bool:
    """Whether no instant satisfies all bounds."""
    for low in ("gt", "gte"):
        for high in ("lt", "lte"):
            if low in period and high in period:
                start, end = datetime.fromisoformat(period[low]), datetime.fromisoformat(period[high])
                if start > end or (start == end and (low, high) != ("gte", "lte")):
                    return True
    return False


def _at(column: str, instant: str) -> Iterator[Condition]:
    """Equality with an instant. One without microseconds matches its whole millisecond, which is what exports show."""
    moment = datetime.fromisoformat(instant)
    if moment.microsecond % 1000:
        yield Condition(column, "=", instant)
        return
    yield Condition(column, ">=", instant)
    try:
        yield Condition(column, "<", format_instant(moment + _MILLISECOND))
    except OverflowError:  # nothing comes after the last millisecond of the year 9999
        return


def format_instant(moment: datetime) -> str:
    """RFC 3339 in UTC, with all of the instant's digits, so that a filter is not rounded."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _fault(detail: str) -> Invalid:
    return Invalid(detail, field="filters")


_READERS: Mapping[FilterType, Callable[[Filter, object], FilterValue]] = MappingProxyType(
    {
        FilterType.ID: _read_id,
        FilterType.TEXT: _read_text,
        FilterType.ENUM: _read_enum,
        FilterType.BOOLEAN: _read_boolean,
        FilterType.PERIOD: _read_period,
    }
)
