"""Decides what each record of a batch does, with the same result as writing the records one after the other.

From the records and what the tables contain, `make_plan` makes a `Plan`: the rows to write, and the errors of every
record that cannot be written. Nothing here does I/O.

A record names a row if it has the values of one of the table's keys. If it names none, it creates one. Otherwise
`onConflict` decides: `error` reports a duplicate, `update` updates the row, `skip` leaves it as it is. A key that
`renews` updates its row in any case. If this import itself wrote the row, the record is a duplicate.

The rows of a segment are written by COPY, then UPDATE. PostgreSQL checks unique constraints row by row, so a key cannot
move from one row to another within a statement, and no row can be updated twice: such a record begins a new segment.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import contains

import msgspec
from msgspec import UNSET
from msgspec.structs import astuple

from wherry.accounts.authority import Authority
from wherry.errors import ErrorCode
from wherry.imports.copying import Copied
from wherry.imports.models import Batch, DecodedRecord, OnConflict, RecordError, clipped, report_value
from wherry.imports.own_references import OwnReferences, Turn
from wherry.imports.tokens import Token, entry_name, key_given, labels_of, token_reader, unknown_key, value_of
from wherry.tables.derivation import shape_of
from wherry.tables.model import Constraint, Reference, Table, Unique
from wherry.tables.shape import ImportShape, Row, State
from wherry.tables.values import Fault


class KnownRow(msgspec.Struct, gc=False, eq=False):
    """A row as it is at this point of the batch.

    Attributes:
        mine: whether this import wrote it.
        state: for the table's policy.
        in_table: whether it existed when the segment began.
        touched: whether the segment writes it.
        tokens: of its values, by the position of the unique index; those that no record of the batch has are left out.
    """

    mine: bool
    state: State = 0
    in_table: bool = True
    touched: bool = False
    tokens: dict[int, Token] = msgspec.field(default_factory=dict)


class Created(msgspec.Struct, gc=False, eq=False):
    """A new row, from the record of this entry."""

    entry: DecodedRecord
    row: Row


class Updated(msgspec.Struct, gc=False, eq=False):
    """What changes in a row, which is found by a unique index."""

    entry: DecodedRecord
    by: Unique
    row: Row


@dataclass(frozen=True)
class Rules:
    """What an import does if a record names a row that exists, and the rights that it has."""

    on_conflict: OnConflict
    authority: Authority


@dataclass(frozen=True)
class Known:
    """The contents of the tables that concern a batch.

    Attributes:
        rows: for each unique index of the table, the row that has the values of a token.
        classes: for each unique index whose values Python cannot compare, the token of a value.
        missing: for each foreign key, the values to which there is no row.
        keepers: the number of rows of which the table's policy keeps at least one; None if they were not counted.
    """

    rows: Sequence[Mapping[Token, KnownRow]]
    classes: Mapping[int, Mapping[Token, Token]] = field(default_factory=dict)
    missing: Sequence[Collection[Token]] = ()
    keepers: int | None = None

    def names_row(self, table: Table, entry: DecodedRecord) -> bool:
        """Whether a record names a row that exists."""
        return naming_unique(self, table, entry) is not None


def naming_unique(known: Known, table: Table, entry: DecodedRecord) -> Unique | None:
    """The first unique index by which a record names a row that exists."""
    if entry.record is None:
        return None
    values = astuple(entry.record)
    for place, unique in enumerate(table.uniques):
        if unique.names_row:
            token = token_reader(table, unique.fields)(values)
            token = known.classes[place].get(token) if place in known.classes else token
            if token is not None and token in known.rows[place]:
                return unique
    return None


@dataclass(slots=True)
class Segment:
    """Rows that can be written by one COPY, then one UPDATE, for each set of columns."""

    creates: list[Created] = field(default_factory=list)
    updates: list[Updated] = field(default_factory=list)


@dataclass(slots=True)
class Plan:
    """What to write for a batch, and its errors."""

    segments: list[Segment] = field(default_factory=lambda: [Segment()])
    errors: list[RecordError] = field(default_factory=list)
    postponed: list[DecodedRecord] = field(default_factory=list)
    """Those that refer to a row of the same table that does not exist yet."""
    encoded: Sequence[Copied] = ()
    """New rows that have been encoded already, and belong to no segment."""
    successes: int = 0
    failures: int = 0
    lacks_keepers: bool = False
    """Whether the plan has to be made again, with `Known.keepers`."""

    @property
    def created(self) -> int:
        """The number of new rows."""
        return sum(copied.count for copied in self.encoded) + sum(len(segment.creates) for segment in self.segments)

    @property
    def updates(self) -> Iterable[Updated]:
        """All updates."""
        return (update for segment in self.segments for update in segment.updates)

    @property
    def updated(self) -> int:
        """The number of updates."""
        return sum(len(segment.updates) for segment in self.segments)


def related_to(table: Table, batch: Batch, places: Collection[int]) -> Batch:
    """The records at some positions, and those that have values of unique indexes in common with them, in order."""
    chosen = set(places)
    pairs = []
    for unique in table.uniques:
        read = token_reader(table, unique.fields)
        records = [batch[place].record for place in places if batch[place].record is not None]
        wanted = {read(astuple(record)) for record in records} - {None}
        if wanted:
            pairs.append((read, wanted))
    for place, entry in enumerate(batch):
        if not entry.errors and any(read(astuple(entry.record)) in wanted for read, wanted in pairs):
            chosen.add(place)
    return [batch[place] for place in sorted(chosen)]


def have_keys_in_common(table: Table, batch: Batch) -> bool:
    """Whether two records have the same values of a unique index, so that the first one wins."""
    records = [astuple(entry.record) for entry in batch if entry.record is not None]
    for unique in table.uniques:
        tokens = [token for token in map(token_reader(table, unique.fields), records) if token is not None]
        if len(set(tokens)) < len(tokens):
            return True
    return False


def make_plan(table: Table, rules: Rules, known: Known, batch: Batch, *, is_last: bool = False) -> Plan:
    """Handle the records in order.

    Args:
        is_last: whether no later record can create the row that a record refers to; otherwise such a record is
            postponed.
    """
    failing: set[int] = set()
    while True:
        own = OwnReferences(table, known.missing, batch, failing)
        planner = _Planner(table, rules, known, own, is_last=is_last)
        unwritten = {place for place, entry in enumerate(batch) if not planner.take(place, entry)}
        if own.relied_on.isdisjoint(unwritten):
            return planner.finished()
        failing |= unwritten


class _Planner:
    def __init__(self, table: Table, rules: Rules, known: Known, own: OwnReferences, *, is_last: bool) -> None:
        self.plan = Plan()
        self._own = own
        self._is_last = is_last
        self._table = table
        self._shape: ImportShape = shape_of(table)
        self._uniques = table.uniques
        self._naming = [place for place, unique in enumerate(table.uniques) if unique.names_row]
        self._may_change = [
            not unique.given and all(column.is_settable for column in table.columns_of(unique.columns))
            for unique in table.uniques
        ]
        self._on_conflict = rules.on_conflict
        self._readers = [token_reader(table, unique.fields) for unique in table.uniques]
        self._classes = known.classes
        self._missing = [
            (reference, token_reader(table, reference.columns), missing)
            for reference, missing in zip(table.foreign_keys, known.missing, strict=False)
            if missing
        ]
        self._required = (
            []
            if table.has_own_rules or table.policy is not None
            else [
                column for column in table.columns.values() if column.is_required and column.name in self._shape.places
            ]
        )
        needed = [self._shape.required_for_new[0]] if self._shape.required_for_new else [c.name for c in self._required]
        self._needed = [self._shape.places[name] for name in needed]
        make_policy, by_admin = self._shape.policy, rules.authority.is_admin
        self._policy = None if make_policy is None else make_policy(by_admin=by_admin, keepers=known.keepers)
        copies: dict[int, KnownRow] = {}
        self._rows: list[dict[Token, KnownRow]] = [{} for _ in known.rows]
        for place, rows in enumerate(known.rows):
            for token, row in rows.items():
                copy = copies.setdefault(id(row), KnownRow(row.mine, row.state))
                self._rows[place][token] = copy
                copy.tokens[place] = token
        self._touched: list[KnownRow] = []
        self._segment = self.plan.segments[0]
        self._given_up: list[dict[Token, KnownRow]] = [{} for _ in self._uniques]

    def finished(self) -> Plan:
        """The plan, once all records have been handled."""
        self.plan.lacks_keepers = self._policy is not None and self._policy.lacks_keepers
        return self.plan

    def take(self, place: int, entry: DecodedRecord) -> bool:
        """Plan a record, report its errors, or postpone it. Returns whether nothing prevents it from being written."""
        turn = Turn.NOW if entry.record is None else self._own.turn(place)
        if turn is Turn.LATER and not self._is_last:
            self.plan.postponed.append(entry)
            return False
        errors = self._all_errors(entry, turn) if entry.errors else self._handle(entry, turn)
        self.plan.failures += bool(errors)
        self.plan.successes += not errors
        self.plan.errors.extend(errors)
        return not errors

    def _handle(self, entry: DecodedRecord, turn: Turn) -> list[RecordError]:
        """Plan a record without faults; return its errors if it cannot be written."""
        tokens = self._tokens_of(entry)
        if not self._missing and self._is_complete(entry) and not any(map(contains, self._rows, tokens)):
            self._create(entry, tokens)  # it has nothing in common with any row
            return []
        named = self._named(tokens)
        conflict = self._conflict(named)
        if conflict is not None and self._on_conflict is OnConflict.SKIP:
            return []
        errors = self._row_errors(entry, tokens, named, conflict)
        errors.extend(self._reference_errors(entry, turn))
        if errors:
            return errors
        if turn is Turn.NEXT_SEGMENT:
            self._begin_segment()
        if named:
            self._update(entry, named[0][0], named[0][1], tokens)
        else:
            self._create(entry, tokens)
        return []

    def _all_errors(self, entry: DecodedRecord, turn: Turn) -> list[RecordError]:
        """The errors of a faulty record, including those of its sound fields that depend on the tables."""
        errors = list(entry.errors)
        if entry.record is None:
            return errors
        faulty = {self._table.column_of(error.field) for error in errors}
        key_is_faulty = any(name in faulty for place in self._naming for name in self._uniques[place].fields)
        if not key_is_faulty or self._table.policy is None:
            tokens = self._tokens_of(entry)
            named = self._named(tokens)
            conflict = self._conflict(named)
            if conflict is not None and self._on_conflict is OnConflict.SKIP:
                # Whether the rows that it refers to exist does not matter then.
                return [error for error in errors if error.code is not ErrorCode.INVALID_REFERENCE]
            errors.extend(
                error
                for error in self._row_errors(entry, tokens, named, conflict)
                if error.field is None or self._table.column_of(error.field) not in faulty
            )
        errors.extend(self._reference_errors(entry, turn))
        return errors

    def _is_complete(self, entry: DecodedRecord) -> bool:
        """Whether a record has all that a new row needs."""
        values = astuple(entry.record)
        return all(values[place] is not None and values[place] is not UNSET for place in self._needed)

    def _tokens_of(self, entry: DecodedRecord) -> list[Token]:
        values = astuple(entry.record)
        tokens = [read(values) for read in self._readers]
        for place, classes in self._classes.items():
            if tokens[place] is not None:
                tokens[place] = classes[tokens[place]]
        return tokens

    def _named(self, tokens: Sequence[Token]) -> list[tuple[KnownRow, int]]:
        """The rows that a record names, and the unique index of each."""
        named = []
        for place in self._naming:
            row = self._rows[place].get(tokens[place])
            if row is not None and tokens[place] is not None:
                named.append((row, place))
        return named

    def _conflict(self, named: Sequence[tuple[KnownRow, int]]) -> tuple[KnownRow, int] | None:
        """The row to which `onConflict` applies, if there is one."""
        renewed = None
        for row, place in named:
            if self._uniques[place].renews and not (row.mine and len(self._naming) == 1):
                renewed = row
            elif row is not renewed:
                return row, place
        return None

    def _row_errors(
        self,
        entry: DecodedRecord,
        tokens: Sequence[Token],
        named: Sequence[tuple[KnownRow, int]],
        conflict: tuple[KnownRow, int] | None,
    ) -> list[RecordError]:
        row = named[0][0] if named else None
        errors = []
        if conflict is not None:
            is_one_row = all(other is row for other, _ in named)
            if not is_one_row or conflict[0].mine or self._on_conflict is not OnConflict.UPDATE:
                errors.append(self._duplicate(entry, conflict[1], tokens, mine=conflict[0].mine))
                if self._on_conflict is OnConflict.ERROR and self._table.policy is None:
                    errors.extend(self._missing_fields(entry))
        elif row is None:
            errors.extend(self._missing_fields(entry))
        errors.extend(self._taken(entry, tokens, row))
        if row is not None and self._policy is not None:
            errors.extend(self._against_policy(entry, fault) for fault in self._policy.faults(entry.record, row.state))
        return errors

    def _missing_fields(self, entry: DecodedRecord) -> list[RecordError]:
        """The fields without which a record cannot create a row."""
        if self._shape.required_for_new is not None:
            name, what = self._shape.required_for_new
            if value_of(self._table, entry, name) is not None:
                return []
            message = f"{self._label(name)} is required for a new {what}"
            return [self._error(entry, ErrorCode.MISSING_REQUIRED_FIELD, name, message, None)]
        values = astuple(entry.record)
        return [
            self._error(entry, ErrorCode.MISSING_REQUIRED_FIELD, column.name, f"{column.label} is required", None)
            for column in self._required
            if values[self._shape.places[column.name]] is UNSET
        ]

    def _taken(self, entry: DecodedRecord, tokens: Sequence[Token], row: KnownRow | None) -> list[RecordError]:
        """The values of other unique indexes that another row has."""
        errors = []
        for place, unique in enumerate(self._uniques):
            if unique.names_row or tokens[place] is None or (unique.given and row is not None):
                continue
            holder = self._rows[place].get(tokens[place])
            if holder is not None and holder is not row:
                errors.append(self._duplicate(entry, place, tokens, mine=holder.mine))
        return errors

    def _reference_errors(self, entry: DecodedRecord, turn: Turn) -> Iterable[RecordError]:
        for reference, read, missing in self._missing:
            if reference.target == self._table.relation and turn is not Turn.LATER:
                continue  # another record creates the row
            if (value := read(astuple(entry.record))) in missing:
                yield self._broken_reference(entry, reference, value)

    def _broken_reference(self, entry: DecodedRecord, reference: Reference, value: Token) -> RecordError:
        shown = (
            value
            if isinstance(value, (int, str))
            else ", ".join(map(str, value))
            if isinstance(value, tuple)
            else str(value)
        )
        given = key_given(self._table, entry, reference.columns[0]) if len(reference.columns) == 1 else None
        if given is None:
            label = labels_of(self._table, entry, reference.columns)
            message = f"{label} {clipped(str(shown))} does not exist in {reference.target_label}"
        else:
            message = unknown_key(self._table, *given)
        return self._against(entry, ErrorCode.INVALID_REFERENCE, reference, reference.columns, message)

    def _duplicate(self, entry: DecodedRecord, place: int, tokens: Sequence[Token], *, mine: bool) -> RecordError:
        unique = self._uniques[place]
        what = "is duplicated in this import" if mine else "is already in use"
        message = f"{labels_of(self._table, entry, unique.fields)} {what}"
        return self._against(entry, ErrorCode.DUPLICATE_VALUE, unique, unique.fields, message)

    def _against(
        self, entry: DecodedRecord, code: ErrorCode, constraint: Constraint, fields: Sequence[str], message: str
    ) -> RecordError:
        return against(self._table, entry, code, constraint, fields, message)

    def _against_policy(self, entry: DecodedRecord, found: tuple[str, Fault]) -> RecordError:
        name, fault = found
        value = value_of(self._table, entry, name)
        return self._error(entry, fault.code, name, f"{self._label(name)} {fault.text}", value)

    def _error(self, entry: DecodedRecord, code: ErrorCode, name: str, message: str, value: object) -> RecordError:
        return RecordError(entry.index, entry_name(self._table, entry), code, message, name, report_value(value))

    def _label(self, name: str) -> str:
        return self._table.columns[name].label

    def _create(self, entry: DecodedRecord, tokens: Sequence[Token]) -> None:
        if any(token in gone for token, gone in zip(tokens, self._given_up, strict=True)):
            self._begin_segment()
        row = KnownRow(mine=True, in_table=False, touched=True)
        if self._policy is not None:
            row.state = self._policy.after(entry.record, None)
        self._segment.creates.append(Created(entry, self._shape.new(entry.record)))
        self._touched.append(row)
        for place, token in enumerate(tokens):
            if token is not None:
                self._rows[place][token] = row
                row.tokens[place] = token

    def _update(self, entry: DecodedRecord, row: KnownRow, place: int, tokens: Sequence[Token]) -> None:
        if row.touched or any(
            gone.get(token, row) is not row for token, gone in zip(tokens, self._given_up, strict=True)
        ):
            self._begin_segment()
        row.touched = row.mine = True
        self._touched.append(row)
        self._segment.updates.append(Updated(entry, self._uniques[place], self._shape.changes(entry.record)))
        if self._policy is not None:
            row.state = self._policy.after(entry.record, row.state)
        for number, (unique, token) in enumerate(zip(self._uniques, tokens, strict=True)):
            if not self._may_change[number] or (token is None and not self._gives(entry, unique)):
                continue
            if token is None or self._rows[number].get(token) is not row:
                self._rename(row, number, token)

    def _rename(self, row: KnownRow, place: int, token: Token) -> None:
        """Give a row another value of a unique index; None if it has none any more, or an unknown one."""
        before = row.tokens.get(place)
        if before is not None:
            del self._rows[place][before]
            if row.in_table:
                self._given_up[place].setdefault(before, row)
        row.tokens.pop(place, None)
        if token is not None:
            row.tokens[place] = token
            self._rows[place][token] = row

    def _gives(self, entry: DecodedRecord, unique: Unique) -> bool:
        """Whether a record gives some of the values of a unique index, perhaps null."""
        values, places = astuple(entry.record), self._shape.places
        given = [values[places[name]] for name in unique.fields if name in places]
        return any(value is not UNSET and not (value is None and self._shape.null_is_absent) for value in given)

    def _begin_segment(self) -> None:
        """Begin a new segment: by the time it is written, all rows planned so far are in the table."""
        for row in self._touched:
            row.in_table, row.touched = True, False
        self._touched.clear()
        self._segment = Segment()
        self.plan.segments.append(self._segment)
        self._given_up = [{} for _ in self._uniques]


def against(
    table: Table,
    entry: DecodedRecord,
    code: ErrorCode,
    constraint: Constraint,
    fields: Sequence[str],
    message: str,
) -> RecordError:
    """The error of a record that breaks a constraint: of its field, or of the whole record if it has several."""
    name = fields[0] if len(fields) == 1 else None
    value = None if name is None else value_of(table, entry, name)
    if name is not None and (given := key_given(table, entry, name)) is not None:
        name, value = given[0].name, {}
    details = None if table.is_built_in or constraint.is_hidden else {"constraint": constraint.name}
    return RecordError(entry.index, entry_name(table, entry), code, message, name, report_value(value), details)
