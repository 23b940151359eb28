"""Which records and fields an export contains. A `Selection` can be stored as JSON in `jobs.options`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from wherry.errors import Forbidden, Invalid
from wherry.exports.filters import NOT_AN_OBJECT, Condition, FilterValue, conditions, parse_filters
from wherry.tables.model import Column, ReferenceField, Table, find_column
from wherry.texts import SHOWN_CHARACTERS

BY_KEY = "key"
"""The value of `references`."""


@dataclass(frozen=True)
class Selection:
    """The fields in the requested order, and the filters as `parse_filters` returns them.

    `references` are those that are exported in place of their columns, whether or not the fields include them.
    """

    table: Table
    fields: tuple[str, ...]
    filters: Mapping[str, FilterValue] = field(default_factory=dict)
    references: tuple[ReferenceField, ...] = ()

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the fields."""
        return self.table.columns_of(self.fields, self.references)

    @property
    def shown_references(self) -> tuple[ReferenceField, ...]:
        """The references among the fields."""
        return tuple(each for each in self.references if each.name in self.fields)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions that a record must satisfy."""
        return tuple(conditions(self.table, self.filters))

    def including_key(self) -> Selection:
        """A copy that also has the fields of the key, in front of the requested ones."""
        missing = (name for name in self.table.key if name not in self.fields)
        return replace(self, fields=(*missing, *self.fields))

    def to_json(self) -> dict[str, Any]:
        """The selection as JSON. Equal selections have equal JSON, however they were spelled."""
        references = {"references": BY_KEY} if self.references else {}
        filters = {name: self.filters[name] for name in sorted(self.filters)}
        return {"fields": list(self.fields), "filters": filters, **references}

    @classmethod
    def from_json(cls, table: Table, value: Mapping[str, Any]) -> Selection:
        """The selection that `to_json` returned, whose names are exact.

        Raises:
            Invalid: the table no longer has a field or a filter.
        """
        filters = {each.column for each in table.filters}
        references = _references(table, value.get("references"))
        known = {*table.fields, *(each.name for each in references)}
        gone = [*(set(value["fields"]) - known), *(value["filters"].keys() - filters)]
        if gone:
            raise Invalid(f"{table.name} no longer has {', '.join(sorted(gone))}", field="fields")
        return cls(table, _replaced(value["fields"], references), value["filters"], references)


def parse_selection(table: Table, filters: object, fields: object, references: object = None) -> Selection:
    """Validate the selection of a request.

    Args:
        table: the table of the records.
        filters: a JSON object or its text; None selects every record.
        fields: the field names in order: a string with commas or with a JSON array, or a list of such strings; None for
            every field.
        references: `key` to export references by key; None for the values of their columns.

    Raises:
        Invalid: on `filters`, `fields` or `references`.
    """
    replaced = _references(table, references)
    return Selection(table, _fields(table, fields, replaced), parse_filters(table, _json(filters)), replaced)


def require_targets(selection: Selection, exportable: Iterable[Table]) -> None:
    """Check that whoever exports a selection may export the keys of the rows that its records refer to.

    Raises:
        Forbidden: some of them are not among the columns of the tables that may be exported.
    """
    allowed = {(table.relation, name) for table in exportable for name in table.fields}
    for each in selection.shown_references:
        if (each.target, each.key.name) not in allowed:
            raise Forbidden(
                f"references=key needs the right to export {each.key.name} of {each.target}, "
                f"to which {each.column} refers; leave {each.name} out of fields, or export without references=key",
                field="references",
            )


def _references(table: Table, given: object) -> tuple[ReferenceField, ...]:
    if given is None or given == "":
        return ()
    if given != BY_KEY:
        raise Invalid(f"references must be {BY_KEY} (got {str(given)[:SHOWN_CHARACTERS]!r})", field="references")
    return tuple(each for each in table.reference_fields if _can_replace(table, each))


def _can_replace(table: Table, reference: ReferenceField) -> bool:
    """Whether a reference may stand for its column. A row without a key needs the column, as a field of its own."""
    return not reference.may_lack_key or reference.column not in (reference.name, *table.key)


def _json(filters: object) -> object:
    if not isinstance(filters, str):
        return filters
    try:
        return msgspec.json.decode(filters)
    except (ValueError, RecursionError):
        raise Invalid(NOT_AN_OBJECT, field="filters") from None


def _fields(table: Table, given: object, references: Iterable[ReferenceField]) -> tuple[str, ...]:
    every = _replaced(table.fields, references)
    if given is None:
        return every
    known = (*every, *(each.column for each in references))
    names = list(dict.fromkeys(_names(given, known)))
    found = {name: find_column(name, known) for name in names}
    unknown = next((name for name, column in found.items() if column is None), None)
    if unknown is not None or not names:
        fault = "fields is empty" if unknown is None else f"fields contains the unknown {unknown[:SHOWN_CHARACTERS]!r}"
        raise Invalid(f"{fault}; the fields of {table.name} are {', '.join(every)}", field="fields")
    return _replaced((name for name in found.values() if name is not None), references)


def _replaced(fields: Iterable[str], references: Iterable[ReferenceField]) -> tuple[str, ...]:
    """The fields, each once, with references in place of their columns."""
    replaced = {name: each.fields for each in references for name in (each.column, each.name)}
    return tuple(dict.fromkeys(each for name in fields for each in replaced.get(name, (name,))))


def _names(given: object, fields: Collection[str]) -> Iterable[str]:
    """All names in a string or a list of strings, each of which is a field, a JSON array, or names and commas."""
    for part in given if isinstance(given, list) else [given]:
        if not isinstance(part, str):
            raise Invalid("fields must be names, separated by commas or as an array of strings", field="fields")
        if part in fields:
            yield part
            continue
        yield from _array(part) if part.lstrip().startswith("[") else _separated(part)


def _array(text: str) -> Iterable[str]:
    try:
        return msgspec.json.decode(text, type=list[str])
    except (ValueError, RecursionError):
        raise Invalid("fields must be a JSON array of strings, or names separated by commas", field="fields") from None


def _separated(text: str) -> Iterable[str]:
    return (name for name in (part.strip() for part in text.split(",")) if name)
