"""How a resource is declared: its records and keys, and how an import reads and writes it.

A new resource is one file like `articles.py`, one in `sql/resources/`, one line in `registry.py`, and a migration.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from wherry.resources.rules import Fault, Rule

Columns = dict[str, Any]
"""Values by column name."""


@dataclass(frozen=True)
class ImportField:
    """A field of an import record. A required one must not be absent or null."""

    name: str
    rule: Rule
    required: bool = False


State = int
"""What a policy knows about a row."""


class RowPolicy(ABC):
    """Rules about whole rows. Judges the records of one batch in order, and keeps count of those that it let pass.

    Args:
        by_admin: whether an admin imports.
        keepers: how many rows there are of which one must remain (the query `keepers`, which locks them); None if they
            have not been counted yet.
    """

    def __init__(self, *, by_admin: bool, keepers: int | None) -> None:
        self.by_admin = by_admin
        self.keepers = keepers
        self.lacks_keepers = False
        """Whether a record could not be judged, because the keepers have not been counted."""

    @abstractmethod
    def faults(self, record: Any, state: State) -> Iterator[tuple[str, Fault]]:
        """What is wrong with a record that would change an existing row, by field."""

    @abstractmethod
    def after(self, record: Any, state: State | None) -> State:
        """The row's state after a record was written to it; `state` is None if the row is new."""


@dataclass(frozen=True, kw_only=True)
class ImportShape:
    """How records of a resource are imported.

    Attributes:
        record: the type that the typed decoder reads, and that the JSON Schema comes from. Absent and null are None.
        fields: the authoritative rules, by field; `record` must not accept more than they do.
        is_clean: whether a record that the typed decoder accepted needs no change by the rules, and satisfies the rules
            between fields. If not, the rules are applied.
        check: the rules between fields: takes the valid values, and the names of all fields that are present; returns
            faults by field.
        admin_only: values that only an admin may import, by field.
        policy: rules about whole rows, if there are any. The `lookup` query returns the `state` of each row.
        columns: names and types of a new row's columns, in the order of the `copy` query.
        changes: the columns that a record sets on its row, whether new or not.
        clearable: columns that `changes` may set to null; absent ones stay as they are.
        create: a new row, without its id and import, from its record and the time of the transaction.
    """

    record: type[msgspec.Struct]
    fields: tuple[ImportField, ...]
    is_clean: Callable[[Any], bool]
    check: Callable[[Mapping[str, Any], frozenset[str]], Iterable[tuple[str, Fault]]]
    admin_only: Mapping[str, object] = field(default_factory=dict)
    policy: type[RowPolicy] | None = None
    columns: Mapping[str, str]
    changes: Callable[[Any], Columns]
    clearable: frozenset[str] = frozenset()
    create: Callable[[Any, datetime], Columns]


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A kind of record, stored in the table of the same name.

    Attributes:
        name: of the resource, its table and its route parameter.
        singular: what messages call one record.
        natural_key: the unique column other than `id` that identifies a record, or `id` if there is none.
        shape: how an import reads and writes it.
        keeps_first_key: whether the natural key that a row was created with stays taken after it has changed, because
            another unique column contains it too. The `lookup` query then also finds rows by their `first_key`.
        references: columns that refer to a row of another resource.
        constraints: the field to report when a constraint is violated, by the constraint's name.
    """

    name: str
    singular: str
    natural_key: str
    shape: ImportShape
    keeps_first_key: bool = False
    references: dict[str, str] = field(default_factory=dict)
    constraints: dict[str, str] = field(default_factory=dict)

    @property
    def has_own_key(self) -> bool:
        """Whether the natural key is not `id`."""
        return self.natural_key != "id"
