"""What an export is of: a resource, some of its fields, some of its records.

In: filters and fields as a query string or a JSON body gives them. Out: a frozen `Selection`, which turns into JSON
for `jobs.options` and back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from wherry.errors import Invalid
from wherry.exports.filters import NOT_AN_OBJECT, Condition, FilterValue, conditions, parse_filters
from wherry.resources.model import Resource, find_column
from wherry.resources.registry import find_resource
from wherry.texts import SHOWN_CHARACTERS


@dataclass(frozen=True)
class Selection:
    """Fields in the order requested, and filters by column in one spelling; see `parse_filters`."""

    resource: Resource
    fields: tuple[str, ...]
    filters: Mapping[str, FilterValue] = field(default_factory=dict)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The tests that a record must pass."""
        return tuple(conditions(self.resource, self.filters))

    def including(self, fields: frozenset[str]) -> Selection:
        """The same with these fields too, before those that were requested."""
        missing = (name for name in self.resource.fields if name in fields and name not in self.fields)
        return replace(self, fields=(*missing, *self.fields))

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads. Equal selections give equal JSON, however they were spelled."""
        return {"fields": list(self.fields), "filters": {name: self.filters[name] for name in sorted(self.filters)}}

    @classmethod
    def from_json(cls, resource: str, value: Mapping[str, Any]) -> Selection:
        """The selection that `to_json` wrote down."""
        return parse_selection(resource, value["filters"], value["fields"])


def parse_selection(resource: object, filters: object, fields: object) -> Selection:
    """Read a request's selection, from JSON values or from a query string's.

    Args:
        resource: its name.
        filters: a JSON object, or its text; None for every record.
        fields: names, separated by commas or as a JSON array, or a list of these; None for every field. The records
            have the fields in this order.

    Raises:
        Invalid: on `resource`, `filters` or `fields`, naming the fault.
    """
    found = find_resource(resource)
    return Selection(found, _fields(found, fields), parse_filters(found, _json(filters)))


def _json(filters: object) -> object:
    if not isinstance(filters, str):
        return filters
    try:
        return msgspec.json.decode(filters)
    except (ValueError, RecursionError):
        raise Invalid(NOT_AN_OBJECT, field="filters") from None


def _fields(resource: Resource, given: object) -> tuple[str, ...]:
    if given is None:
        return resource.fields
    names = list(dict.fromkeys(_names(given)))
    found = {name: find_column(name, resource.fields) for name in names}
    unknown = next((name for name, column in found.items() if column is None), None)
    if unknown is not None or not names:
        what = "fields names nothing;" if unknown is None else f"fields names {unknown[:SHOWN_CHARACTERS]!r}, but"
        raise Invalid(f"{what} the fields of {resource.name} are {', '.join(resource.fields)}", field="fields")
    return tuple(dict.fromkeys(column for column in found.values() if column is not None))


def _names(given: object) -> Iterable[str]:
    """Every name in a string, or in an array of strings; each string is an array, or names with commas between."""
    for part in given if isinstance(given, list) else [given]:
        if not isinstance(part, str):
            raise Invalid("fields must be names, separated by commas or as an array of strings", field="fields")
        yield from _array(part) if part.lstrip().startswith("[") else _separated(part)


def _array(text: str) -> Iterable[str]:
    try:
        return msgspec.json.decode(text, type=list[str])
    except (ValueError, RecursionError):
        raise Invalid("fields must be a JSON array of strings, or names separated by commas", field="fields") from None


def _separated(text: str) -> Iterable[str]:
    return (name for name in (part.strip() for part in text.split(",")) if name)
