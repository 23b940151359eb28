"""Decides what each record of a batch does, as if they were handled one after another.

In: the batch's records and what the tables hold of the ids, keys and references that they name. Out: a `Plan`: for
every row that is written, its columns, once; for every record that cannot be, its errors. Nothing here does I/O.

A record whose id names a row writes that row. Otherwise a row that holds its natural key decides: `error` reports it,
`update` writes that row, `skip` leaves it. Otherwise a row is created. A key held by a row that this very import wrote
is a duplicate in the import, which only `skip` forgives.

Rows of one segment are written by one UPDATE and one COPY, in this order. A key that one row gives up and another
takes must not pass within one statement, as unique constraints are checked row by row: such a record begins a new
segment.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from wherry.accounts.authority import Authority
from wherry.errors import ErrorCode
from wherry.imports.models import Entry, OnConflict, RecordError, clipped, label, shown
from wherry.resources.model import Columns, Resource, State
from wherry.resources.rules import Fault

Key = int | str


class Write(msgspec.Struct, gc=False, eq=False):
    """A row's columns to be written: all of them for a new row, which may leave its id to the table."""

    id: int | None
    columns: Columns


class Row(msgspec.Struct, gc=False, eq=False):
    """A row as it is at this point of the batch.

    Attributes:
        id: None for a new row whose id is left to the table; nothing can name it again in its batch.
        key: its natural key.
        mine: whether this import wrote it.
        first_key: the natural key that it was created with, where that stays taken.
        state: what the resource's policy knows of it.
        in_table: whether it was there when the segment began.
        pending: what the segment writes of it.
    """

    id: int | None
    key: Key
    mine: bool
    first_key: Key | None = None
    state: State = 0
    in_table: bool = True
    pending: Write | None = None


@dataclass(frozen=True)
class Rules:
    """What holds for every record of an import.

    Attributes:
        on_conflict: what a natural key that another row holds does.
        authority: on which it is run.
    """

    on_conflict: OnConflict
    authority: Authority


@dataclass(frozen=True)
class Known:
    """What the tables hold of what a batch names.

    Attributes:
        rows: of the resource, with one of the batch's ids or natural keys, as they were at one moment.
        references: ids that exist, by resource.
        now: the time of the transaction.
        keepers: how many rows there are of which the resource's policy keeps one; None if they were not counted.
    """

    rows: Iterable[Row]
    references: Mapping[str, Container[int]]
    now: datetime
    keepers: int | None = None


@dataclass(slots=True)
class Segment:
    """Rows that one UPDATE and then one COPY can write."""

    updates: list[Write] = field(default_factory=list)
    creates: list[Write] = field(default_factory=list)


@dataclass(slots=True)
class Plan:
    """What a batch comes to."""

    segments: list[Segment] = field(default_factory=list)
    errors: list[RecordError] = field(default_factory=list)
    successes: int = 0
    failures: int = 0
    lacks_keepers: bool = False
    """Whether it is to be made again, with `Known.keepers`."""

    @property
    def created(self) -> int:
        """How many rows are new."""
        return sum(len(segment.creates) for segment in self.segments)


def make_plan(resource: Resource, rules: Rules, known: Known, entries: Iterable[Entry]) -> Plan:
    """Handle the records in order."""
    planner = _Planner(resource, rules, known)
    for entry in entries:
        errors = planner.all_errors(entry) if entry.errors else planner.handle(entry)
        if errors:
            planner.plan.failures += 1
            planner.plan.errors.extend(errors)
        else:
            planner.plan.successes += 1
    return planner.finished()


class _Planner:
    def __init__(self, resource: Resource, rules: Rules, known: Known) -> None:
        self.plan = Plan()
        self._resource = resource
        self._key_field = resource.natural_key
        self._has_own_key = resource.has_own_key
        self._on_conflict = rules.on_conflict
        self._known = known
        make_policy, by_admin = resource.shape.policy, rules.authority.is_admin
        self._policy = None if make_policy is None else make_policy(by_admin=by_admin, keepers=known.keepers)
        self._references = [
            (name, resource_name, known.references[resource_name])
            for name, resource_name in resource.references.items()
        ]
        self._by_id: dict[int | None, Row] = {row.id: row for row in known.rows}
        self._by_key: dict[Key | None, Row] = {row.key: row for row in known.rows}
        # By key: whether this import took it.
        self._taken = {row.first_key: row.mine for row in known.rows if row.first_key is not None}
        self._touched: list[Row] = []
        self._begin_segment()

    def finished(self) -> Plan:
        """What the records came to."""
        self.plan.lacks_keepers = self._policy is not None and self._policy.lacks_keepers
        return self.plan

    def handle(self, entry: Entry) -> list[RecordError]:
        """Do what the record says, or say why not."""
        record = entry.record
        key: Key | None = getattr(record, self._key_field)
        target, holder = self._by_id.get(record.id), self._by_key.get(key)
        held = self._holder_in_the_way(target, holder)
        if held is not None and self._on_conflict is OnConflict.SKIP:
            return []
        row = target or holder
        errors = self._row_errors(entry, key, row, held)
        self._add_reference_errors(entry, errors)
        if errors:
            return errors
        if row is None:
            self._create(record, key)
        else:
            self._update(row, record, key)
        return []

    def all_errors(self, entry: Entry) -> list[RecordError]:
        """The errors of a faulty record, with those that its sound fields have in view of the tables."""
        errors, record = list(entry.errors), entry.record
        if record is None:
            return errors
        if not {"id", self._key_field} & {error.field for error in errors}:
            key: Key | None = getattr(record, self._key_field)
            target, holder = self._by_id.get(record.id), self._by_key.get(key)
            held = self._holder_in_the_way(target, holder)
            if held is not None and self._on_conflict is OnConflict.SKIP:
                return errors
            errors.extend(self._row_errors(entry, key, target or holder, held))
        self._add_reference_errors(entry, errors)
        return errors

    def _holder_in_the_way(self, target: Row | None, holder: Row | None) -> Row | None:
        """The row whose hold on the natural key has to be decided about."""
        if not self._has_own_key:
            return target if target is not None and target.mine else None
        return None if holder is target else holder

    def _row_errors(self, entry: Entry, key: Key | None, row: Row | None, held: Row | None) -> list[RecordError]:
        errors = self._key_errors(entry, key, row, held)
        if row is not None and self._policy is not None:
            errors.extend(self._against_policy(entry, fault) for fault in self._policy.faults(entry.record, row.state))
        return errors

    def _add_reference_errors(self, entry: Entry, errors: list[RecordError]) -> None:
        for name, resource, ids in self._references:
            value = getattr(entry.record, name)
            if value not in ids and value is not None:
                errors.append(self._missing(entry, name, resource, value))

    def _key_errors(self, entry: Entry, key: Key | None, row: Row | None, held: Row | None) -> list[RecordError]:
        if held is not None:
            # Only a row that the record would merge into, and that this import has not written, may be updated.
            mergeable = row is held and self._on_conflict is OnConflict.UPDATE and not held.mine
            return [] if mergeable else [self._duplicate(entry, key, held.mine)]
        if row is not None:
            return []
        if key is None:
            message = f"{label(self._key_field)} is required for a new {self._resource.singular}"
            return [self._error(entry, ErrorCode.MISSING_REQUIRED_FIELD, self._key_field, message, None)]
        if key in self._taken:
            return [self._duplicate(entry, key, self._taken[key])]
        return []

    def _duplicate(self, entry: Entry, key: Key | None, mine: bool) -> RecordError:
        what = "is duplicated in this import" if mine else "is already in use"
        message = f"{label(self._key_field)} {what}"
        return self._error(entry, ErrorCode.DUPLICATE_VALUE, self._key_field, message, key)

    def _against_policy(self, entry: Entry, found: tuple[str, Fault]) -> RecordError:
        name, fault = found
        value = getattr(entry.record, name)
        return self._error(entry, fault.code, name, f"{label(name)} {fault.text}", value)

    def _missing(self, entry: Entry, name: str, resource: str, value: object) -> RecordError:
        message = f"{label(name)} {value} does not exist in {resource}"
        return self._error(entry, ErrorCode.INVALID_REFERENCE, name, message, value)

    def _error(self, entry: Entry, code: ErrorCode, name: str, message: str, value: object) -> RecordError:
        # All errors of a record call it by the name that it was given, not by what the rules made of that.
        record_id = entry.errors[0].record_id if entry.errors else name_of(self._resource, entry.record)
        return RecordError(entry.index, record_id, code, message, name, shown(value))

    def _create(self, record: Any, key: Key | None) -> None:
        assert key is not None, "a new row has a natural key"
        if key in self._given_up:
            self._begin_segment()
        write = Write(record.id, self._resource.shape.create(record, self._known.now))
        row = Row(record.id, key, mine=True, in_table=False, pending=write)
        if self._policy is not None:
            row.state = self._policy.after(record, None)
        self._segment.creates.append(write)
        self._touched.append(row)
        self._by_key[key] = row
        if self._resource.keeps_first_key:
            self._taken[key] = True
        if record.id is not None:
            self._by_id[record.id] = row

    def _update(self, row: Row, record: Any, key: Key | None) -> None:
        if key is not None and self._given_up.get(key, row) is not row:
            self._begin_segment()
        if row.pending is None:
            row.pending = Write(row.id, {})
            self._segment.updates.append(row.pending)
            self._touched.append(row)
        row.pending.columns.update(self._resource.shape.changes(record))
        row.mine = True
        if self._policy is not None:
            row.state = self._policy.after(record, row.state)
        if key is not None and key != row.key:
            self._rename(row, key)

    def _rename(self, row: Row, key: Key) -> None:
        del self._by_key[row.key]
        if row.in_table:
            self._given_up.setdefault(row.key, row)
        row.key = key
        self._by_key[key] = row

    def _begin_segment(self) -> None:
        """What was decided so far is written before what follows: every row is in the table then."""
        for row in self._touched:
            row.in_table, row.pending = True, None
        self._touched.clear()
        self._segment = Segment()
        self.plan.segments.append(self._segment)
        self._given_up: dict[Key, Row] = {}


def name_of(resource: Resource, record: Any) -> str | None:
    """What the report calls a record: its id, else its natural key."""
    name = record.id if record.id is not None else getattr(record, resource.natural_key)
    return None if name is None else clipped(str(name))
