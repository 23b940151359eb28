"""The declaration that a resource is: its records, its keys, its filters.

A new resource is one file like `articles.py`, one line in `registry.py`, one migration.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class FilterType(StrEnum):
    """What values a filter takes."""

    ID = "id"  # an integer from 1 to 2147483647, or a string of its digits
    TEXT = "text"
    ENUM = "enum"  # one of `choices`, in any case
    BOOLEAN = "boolean"  # true, false, "true", "false"
    PERIOD = "period"  # an instant, or an object of gt, gte, lt, lte


@dataclass(frozen=True)
class Filter:
    """A column that records can be selected by; all filters of a request combine with AND."""

    column: str
    type: FilterType
    choices: tuple[str, ...] = ()
    nullable: bool = False
    lower_case: bool = False


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One kind of record, and the table of the same name that holds it.

    Attributes:
        name: of the resource, its table and its route parameter.
        singular: what messages call one record.
        fields: the export record's fields, in order; each is a column.
        natural_key: the unique column that names a record besides `id`; `id` itself where there is no other.
        references: columns that name a row of another resource.
        filters: what can be selected by.
        constraints: which field a violated constraint speaks of, by the constraint's name.
    """

    name: str
    singular: str
    fields: tuple[str, ...]
    natural_key: str
    references: dict[str, str] = field(default_factory=dict)
    filters: tuple[Filter, ...] = ()
    constraints: dict[str, str] = field(default_factory=dict)
