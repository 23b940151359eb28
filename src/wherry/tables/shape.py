"""How an import reads the records of a table, and which rows it makes of them.

The shape of a table is derived from its columns (`derivation.py`). A built-in table has a shape of its own instead,
with stricter rules: its policy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import msgspec

from wherry.tables.values import Fault, Rule

Row: TypeAlias = tuple[Any, ...]
"""The values of a row, in the order of `ImportShape.columns`; UNSET for those that the record does not give."""

State: TypeAlias = int
"""What a policy knows about a row."""


@dataclass(frozen=True)
class ImportField:
    """A field of an import record.

    Attributes:
        name: of the field.
        rule: judges a value that is not null.
        required: whether it must not be absent.
        nullable: whether null is a value.
        typed: what a value is first decoded as, before the rule is asked; None to ask the rule at once.
        has_signed_zero: whether `-0` is another number than `0`, which the decoder does not know.
    """

    name: str
    rule: Rule
    required: bool = False
    nullable: bool = False
    typed: Any = None
    has_signed_zero: bool = False


@dataclass(frozen=True)
class FieldRule:
    """The rule of a field.

    Attributes:
        typed: what the typed decoder reads. It must not accept more than the rule.
        rule: judges every value or, if `keeps` is None, those that the typed decoder refuses.
        keeps: whether the rule keeps a value that the typed decoder accepted as it is; None if it always does.
    """

    typed: Any
    rule: Rule
    keeps: Callable[[Any], bool] | None = None


class RowPolicy(ABC):
    """Rules about whole rows. Judges the records of one batch in order, and keeps count of those that it let pass.

    Args:
        by_admin: whether an admin imports.
        keepers: how many rows there are of which one must remain (`ImportShape.keepers`); None if they have not been
            counted yet.
    """

    state: str
    """The SQL of the state of a row of the table `target`."""

    keepers_where: str
    """The SQL of the condition that the rows meet of which one must remain."""

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


def nothing_wrong(values: Mapping[str, Any], given: frozenset[str]) -> Iterable[tuple[str, Fault]]:
    """No rules between fields."""
    return ()


@dataclass(frozen=True, kw_only=True)
class ImportShape:
    """How records of a table are imported.

    Attributes:
        record: the type that the typed decoder reads. Absent fields are UNSET, or None if `null_is_absent`.
        of_values: makes a record of the values of all its fields, in order.
        fields: the authoritative rules, by field; `record` must not accept more than they do.
        columns: the columns of a `Row`.
        new: the row that a record creates.
        changes: what a record changes in an existing row.
        null_is_absent: whether null means that a field is not given.
        is_clean: whether a record that the typed decoder accepted needs no change by the rules, and satisfies the rules
            between fields. If not, the rules are applied.
        check: the rules between fields: takes the valid values, and the names of all fields that are present; returns
            faults by field.
        required_for_new: the field that a record must have if it names no row, and what messages call the row.
        admin_only: values that only an admin may import, by field.
        policy: rules about whole rows, if there are any.
        marker: the column that has the id of the import that last wrote the row, if there is one.
        touched: the column that has the time of the last update, if an import sets it.
        order: the fields in the order of `record`, if it has other names.
    """

    record: type[msgspec.Struct]
    of_values: Callable[..., Any]
    fields: tuple[ImportField, ...]
    columns: tuple[str, ...]
    new: Callable[[Any], Row]
    changes: Callable[[Any], Row]
    null_is_absent: bool = False
    is_clean: Callable[[Any], bool] | None = None
    check: Callable[[Mapping[str, Any], frozenset[str]], Iterable[tuple[str, Fault]]] = nothing_wrong
    required_for_new: tuple[str, str] | None = None
    admin_only: Mapping[str, object] = field(default_factory=dict)
    policy: type[RowPolicy] | None = None
    marker: str | None = None
    touched: str | None = None
    order: tuple[str, ...] = ()

    @cached_property
    def has_signed_zero(self) -> bool:
        """Whether any field has."""
        return any(field.has_signed_zero for field in self.fields)

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The position of each field in a record as a tuple."""
        return {name: place for place, name in enumerate(self.order or self.record.__struct_fields__)}

    @cached_property
    def attributes(self) -> Mapping[str, str]:
        """The name of each field's attribute in `record`."""
        return dict(zip(self.places, self.record.__struct_fields__, strict=True))

    @property
    def absent(self) -> object:
        """The value of an absent field of a record."""
        return None if self.null_is_absent else msgspec.UNSET

    def make(self, values: Mapping[str, Any]) -> Any:
        """A record with these values by field; others are absent."""
        return self.of_values(*[values.get(name, self.absent) for name in self.places])
