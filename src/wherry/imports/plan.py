"""Decides what each record of a batch does, with the same result as writing the records one after the other.

From the records and what the tables contain, `make_plan` makes a `Plan`: the columns of every row to write, each row
once, and the errors of every record that cannot be written. Nothing here does I/O.

If a row has the record's id, the record updates it. Otherwise, if a row has the record's natural key, `onConflict`
decides: `error` reports a duplicate, `update` updates that row, `skip` leaves it as it is. Otherwise a row is created.
If this import itself wrote the row with the key, the record is a duplicate unless `onConflict` is `skip`.

The rows of a segment are written by one UPDATE, then one COPY. PostgreSQL checks unique constraints row by row, so a
key cannot move from one row to another within a statement: a record that takes such a key begins a new segment.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from wherry.accounts.authority import Authority
from wherry.errors import ErrorCode
from wherry.imports.models import DecodedRecord, OnConflict, RecordError, clipped, label, report_value
from wherry.resources.model import Columns, Resource, State
from wherry.resources.rules import Fault

Key = int | str


class Write(msgspec.Struct, gc=False, eq=False):
    """The columns of a row to write: all of them if it is new. A new row without an id gets the sequence's next one."""

    id: int | None
    columns: Columns


class PlannedRow(msgspec.Struct, gc=False, eq=False):
    """A row as it is at this point of the batch.

    Attributes:
        id: None if the row is new and will get an id from the sequence, so that no record of the batch can refer to it.
        key: its natural key.
        mine: whether this import wrote it.
        first_key: the natural key that it was created with, if that key stays taken.
        state: for the resource's policy.
        in_table: whether it existed when the segment began.
        pending: the columns that the segment writes.
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
    """What an import does if another row has a record's natural key, and the rights that it has."""

    on_conflict: OnConflict
    authority: Authority


@dataclass(frozen=True)
class Known:
    """The contents of the tables that concern a batch.

    Attributes:
        rows: the resource's rows with the batch's ids or natural keys, all read at the same moment.
        references: the ids that exist, by resource.
        now: the time of the transaction.
        keepers: the number of rows of which the resource's policy keeps at least one; None if they were not counted.
    """

    rows: Iterable[PlannedRow]
    references: Mapping[str, Container[int]]
    now: datetime
    keepers: int | None = None


@dataclass(slots=True)
class Segment:
    """Rows that can be written by one UPDATE, then one COPY."""

    updates: list[Write] = field(default_factory=list)
    creates: list[Write] = field(default_factory=list)


@dataclass(slots=True)
class Plan:
    """What to write for a batch, and its errors."""

    segments: list[Segment] = field(default_factory=list)
    errors: list[RecordError] = field(default_factory=list)
    successes: int = 0
    failures: int = 0
    lacks_keepers: bool = False
    """Whether the plan has to be made again, with `Known.keepers`."""

    @property
    def created(self) -> int:
        """The number of new rows."""
        return sum(len(segment.creates) for segment in self.segments)


def make_plan(resource: Resource, rules: Rules, known: Known, entries: Iterable[DecodedRecord]) -> Plan:
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
        self._by_id: dict[int | None, PlannedRow] = {row.id: row for row in known.rows}
        self._by_key: dict[Key | None, PlannedRow] = {row.key: row for row in known.rows}
        # By natural key, whether this import took it.
        self._taken = {row.first_key: row.mine for row in known.rows if row.first_key is not None}
        self._touched: list[PlannedRow] = []
        self._begin_segment()

    def finished(self) -> Plan:
        """The plan, once all records have been handled."""
        self.plan.lacks_keepers = self._policy is not None and self._policy.lacks_keepers
        return self.plan

    def handle(self, entry: DecodedRecord) -> list[RecordError]:
        """Plan a record without faults; return its errors if it cannot be written."""
        record = entry.record
        key: Key | None = getattr(record, self._key_field)
        with_id, with_key = self._by_id.get(record.id), self._by_key.get(key)
        conflict = self._conflicting_row(with_id, with_key)
        if conflict is not None and self._on_conflict is OnConflict.SKIP:
            return []
        row = with_id or with_key
        errors = self._row_errors(entry, key, row, conflict)
        self._add_reference_errors(entry, errors)
        if errors:
            return errors
        if row is None:
            self._create(record, key)
        else:
            self._update(row, record, key)
        return []

    def all_errors(self, entry: DecodedRecord) -> list[RecordError]:
        """The errors of a faulty record, including those of its sound fields that depend on the tables."""
        errors, record = list(entry.errors), entry.record
        if record is None:
            return errors
        if not {"id", self._key_field} & {error.field for error in errors}:
            key: Key | None = getattr(record, self._key_field)
            with_id, with_key = self._by_id.get(record.id), self._by_key.get(key)
            conflict = self._conflicting_row(with_id, with_key)
            if conflict is not None and self._on_conflict is OnConflict.SKIP:
                return errors
            errors.extend(self._row_errors(entry, key, with_id or with_key, conflict))
        self._add_reference_errors(entry, errors)
        return errors

    def _conflicting_row(self, with_id: PlannedRow | None, with_key: PlannedRow | None) -> PlannedRow | None:
        """The row to which `onConflict` applies, if there is one."""
        if not self._has_own_key:
            return with_id if with_id is not None and with_id.mine else None
        return None if with_key is with_id else with_key

    def _row_errors(
        self, entry: DecodedRecord, key: Key | None, row: PlannedRow | None, conflict: PlannedRow | None
    ) -> list[RecordError]:
        errors = self._key_errors(entry, key, row, conflict)
        if row is not None and self._policy is not None:
            errors.extend(self._against_policy(entry, fault) for fault in self._policy.faults(entry.record, row.state))
        return errors

    def _add_reference_errors(self, entry: DecodedRecord, errors: list[RecordError]) -> None:
        for name, resource, ids in self._references:
            value = getattr(entry.record, name)
            if value not in ids and value is not None:
                errors.append(self._missing(entry, name, resource, value))

    def _key_errors(
        self, entry: DecodedRecord, key: Key | None, row: PlannedRow | None, conflict: PlannedRow | None
    ) -> list[RecordError]:
        if conflict is not None:
            # A record whose id names no row may update the row with its key, unless this import wrote that row.
            mergeable = row is conflict and self._on_conflict is OnConflict.UPDATE and not conflict.mine
            return [] if mergeable else [self._duplicate(entry, key, conflict.mine)]
        if row is not None:
            return []
        if key is None:
            message = f"{label(self._key_field)} is required for a new {self._resource.singular}"
            return [self._error(entry, ErrorCode.MISSING_REQUIRED_FIELD, self._key_field, message, None)]
        if key in self._taken:
            return [self._duplicate(entry, key, self._taken[key])]
        return []

    def _duplicate(self, entry: DecodedRecord, key: Key | None, mine: bool) -> RecordError:
        what = "is duplicated in this import" if mine else "is already in use"
        message = f"{label(self._key_field)} {what}"
        return self._error(entry, ErrorCode.DUPLICATE_VALUE, self._key_field, message, key)

    def _against_policy(self, entry: DecodedRecord, found: tuple[str, Fault]) -> RecordError:
        name, fault = found
        value = getattr(entry.record, name)
        return self._error(entry, fault.code, name, f"{label(name)} {fault.text}", value)

    def _missing(self, entry: DecodedRecord, name: str, resource: str, value: object) -> RecordError:
        message = f"{label(name)} {value} does not exist in {resource}"
        return self._error(entry, ErrorCode.INVALID_REFERENCE, name, message, value)

    def _error(self, entry: DecodedRecord, code: ErrorCode, name: str, message: str, value: object) -> RecordError:
        # All errors of a record name it in the same way: as sent, not as normalised.
        record_id = entry.errors[0].record_id if entry.errors else name_of(self._resource, entry.record)
        return RecordError(entry.index, record_id, code, message, name, report_value(value))

    def _create(self, record: Any, key: Key | None) -> None:
        assert key is not None, "a new row has a natural key"
        if key in self._given_up:
            self._begin_segment()
        write = Write(record.id, self._resource.shape.create(record, self._known.now))
        row = PlannedRow(record.id, key, mine=True, in_table=False, pending=write)
        if self._policy is not None:
            row.state = self._policy.after(record, None)
        self._segment.creates.append(write)
        self._touched.append(row)
        self._by_key[key] = row
        if self._resource.keeps_first_key:
            self._taken[key] = True
        if record.id is not None:
            self._by_id[record.id] = row

    def _update(self, row: PlannedRow, record: Any, key: Key | None) -> None:
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

    def _rename(self, row: PlannedRow, key: Key) -> None:
        del self._by_key[row.key]
        if row.in_table:
            self._given_up.setdefault(row.key, row)
        row.key = key
        self._by_key[key] = row

    def _begin_segment(self) -> None:
        """Begin a new segment: by the time it is written, all rows planned so far are in the table."""
        for row in self._touched:
            row.in_table, row.pending = True, None
        self._touched.clear()
        self._segment = Segment()
        self.plan.segments.append(self._segment)
        self._given_up: dict[Key, PlannedRow] = {}


def name_of(resource: Resource, record: Any) -> str | None:
    """A record's name in the report: its id, else its natural key."""
    name = record.id if record.id is not None else getattr(record, resource.natural_key)
    return None if name is None else clipped(str(name))
