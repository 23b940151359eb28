"""Which records and fields an export contains. A `Selection` can be stored as JSON in `jobs.options`."""

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
    """The fields in the requested order, and the filters as `parse_filters` returns them."""

    resource: Resource
    fields: tuple[str, ...]
    filters: Mapping[str, FilterValue] = field(default_factory=dict)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions that a record must satisfy."""
        return tuple(conditions(self.resource, self.filters))

    def including(self, fields: frozenset[str]) -> Selection:
        """A copy that also has these fields, in front of the requested ones."""
        missing = (name for name in self.resource.fields if name in fields and name not in self.fields)
        return replace(self, fields=(*missing, *self.fields))

    def to_json(self) -> dict[str, Any]:
        """The selection as JSON. Equal selections have equal JSON, however they were spelled."""
        return {"fields": list(self.fields), "filters": {name: self.filters[name] for name in sorted(self.filters)}}

    @classmethod
    def from_json(cls, resource: str, value: Mapping[str, Any]) -> Selection:
        """The selection that `to_json` returned."""
        return parse_selection(resource, value["filters"], value["fields"])


def parse_selection(resource: object, filters: object, fields: object) -> Selection:
    """Validate the selection of a request.

    Args:
        resource: its name.
        filters: a JSON object or its text; None selects every record.
        fields: the field names in order: a string with commas or with a JSON array, or a list of such strings; None for
            every field.

    Raises:
        Invalid: on `resource`, `filters` or `fields`.
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
        fault = "fields is empty" if unknown is None else f"fields contains the unknown {unknown[:SHOWN_CHARACTERS]!r}"
        raise Invalid(f"{fault}; the fields of {resource.name} are {', '.join(resource.fields)}", field="fields")
    return tuple(dict.fromkeys(column for column in found.values() if column is not None))


def _names(given: object) -> Iterable[str]:
    """All names in a string or a list of strings, each of which is a JSON array or names separated by commas."""
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
