"""Asks PostgreSQL what is wrong with records: with all of them at once, before they are written.

A batch that was refused is judged by a few statements, whatever the number of faulty records is. What they cannot
foresee, such as the decision of a trigger, is left to the table: the caller narrows the batch down to the record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import psycopg
from msgspec import UNSET
from msgspec.structs import astuple

from wherry.database.pools import Connection
from wherry.database.queries import load
from wherry.errors import ErrorCode
from wherry.imports import statements
from wherry.imports.lookup import encode_fields, fetch, input_faults
from wherry.imports.models import Batch, DecodedRecord, RecordError, report_value
from wherry.imports.plan import Known, against, naming_unique
from wherry.imports.statements import Expressions
from wherry.imports.tokens import entry_name, labels_of, value_of
from wherry.tables.derivation import shape_of
from wherry.tables.model import Check, Table, Unique
from wherry.tables.values import has_unparsed, surely

REFUSALS = (
    psycopg.IntegrityError,
    psycopg.DataError,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
    psycopg.errors.RaiseException,
    psycopg.errors.WithCheckOptionViolation,
    psycopg.errors.InsufficientPrivilege,  # if the table is restricted; see `is_refusal`
)
"""Exceptions that the database raises because of the rows."""

RACES = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
"""Exceptions caused by other transactions: the batch may succeed if it is tried again."""

_REFUSED_AS: tuple[tuple[str, ErrorCode, str], ...] = (
    ("23505", ErrorCode.DUPLICATE_VALUE, "is already in use"),
    ("23P01", ErrorCode.DUPLICATE_VALUE, "conflicts with another row"),
    ("23503", ErrorCode.INVALID_REFERENCE, "does not exist"),
    ("23502", ErrorCode.MISSING_REQUIRED_FIELD, "is required"),
    ("22001", ErrorCode.FIELD_TOO_LONG, "is too long"),
    ("54", ErrorCode.FIELD_TOO_LONG, "is too long to be indexed"),
    ("23514", ErrorCode.INVALID_FIELD_FORMAT, "is not allowed"),
    ("22", ErrorCode.INVALID_FIELD_FORMAT, "is not valid"),
    ("44000", ErrorCode.INVALID_FIELD_FORMAT, "is not allowed"),
    ("42501", ErrorCode.FORBIDDEN, "is not allowed by the row-level security"),
    ("42", ErrorCode.INVALID_FIELD_FORMAT, "is not valid"),  # names of other things, such as regclass
)
"""By the beginning of the SQLSTATE (PostgreSQL manual, appendix A)."""


class Judge:
    """Finds the faults of records of one table that PostgreSQL knows and the decoder does not."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._expressions: Expressions | None = None
        self._shape = shape_of(table)
        # The rules of a policy accept nothing that PostgreSQL cannot read.
        self._unsure = [
            (name, self._shape.places[name], table.columns[name].type.accepts)
            for name in self._shape.columns
            if table.policy is None and table.columns[name].type.accepts is not surely
        ]
        self._checked = [name for name in self._shape.places if name in table.checked_columns]

    @property
    def may_doubt(self) -> bool:
        """Whether there are fields whose values only PostgreSQL can read."""
        return bool(self._unsure)

    async def check_inputs(self, connection: Connection, batch: Batch, which: Sequence[int]) -> Batch:
        """The batch with the faults of values of some records that PostgreSQL cannot read; they are then absent."""
        doubtful = [(number, name, value) for number in which for name, value in self._doubtful(batch[number])]
        columns = self._table.columns
        values = [(columns[name].type, columns[name].declared, value) for _, name, value in doubtful]
        faults: dict[int, dict[str, RecordError]] = defaultdict(dict)
        for place, state, message, constraint in await input_faults(connection, values):
            number, name, _ = doubtful[place]
            faults[number][name] = self._input_fault(batch[number], name, state, message, constraint)
        if not faults:
            return batch
        return [self._with_faults(entry, faults.get(number, {})) for number, entry in enumerate(batch)]

    async def check_rows(
        self, connection: Connection, batch: Batch, which: Sequence[int], existing: Known | None
    ) -> Batch:
        """The batch with the CHECK constraints that some of its records break.

        Args:
            connection: in a transaction.
            batch: all records.
            which: the positions of those to check.
            existing: the rows that they update; None if they can only create rows.
        """
        if not self._table.checks:
            return batch
        groups: dict[tuple[tuple[str, ...], frozenset[str], Unique | None], list[int]] = defaultdict(list)
        for number in which:
            if batch[number].record is not None:
                groups[self._group(batch[number], existing)].append(number)
        broken: dict[int, list[RecordError]] = {}
        if not groups:
            return batch
        expressions = await self._read_expressions(connection)
        for (given, unknown, by), numbers in groups.items():
            query = statements.judge(self._table, expressions, given, unknown, by)
            if query is None:
                continue
            fields = tuple(dict.fromkeys((*given, *(by.fields if by else ()))))
            rows = encode_fields(self._table, fields, [astuple(batch[number].record) for number in numbers])
            try:
                async with connection.transaction():
                    found = await fetch(connection, query, {"rows": rows})
            except (*REFUSALS, psycopg.ProgrammingError, psycopg.InternalError):
                continue  # an expression fails, or needs what we may not see: the table decides
            for place, checks in found:
                entry = batch[numbers[place]]
                broken[numbers[place]] = [self._check_error(entry, check) for check in checks]
        return [
            entry if number not in broken else msgspec.structs.replace(entry, errors=(*entry.errors, *broken[number]))
            for number, entry in enumerate(batch)
        ]

    async def _read_expressions(self, connection: Connection) -> Expressions:
        if self._expressions is None:
            async with connection.transaction(force_rollback=True):
                await connection.execute("set local search_path = pg_catalog")  # so that all names are qualified
                rows = await fetch(connection, load("catalog")["expressions"], {"table": str(self._table.relation)})
            columns, checks = ({name: sql for kind, name, sql in rows if kind == each} for each in ("column", "check"))
            self._expressions = Expressions(columns, checks)
        return self._expressions

    def _doubtful(self, entry: DecodedRecord) -> Iterator[tuple[str, Any]]:
        """The values of a record that PostgreSQL may be unable to read, by field."""
        if entry.record is None:
            return
        values = astuple(entry.record)
        for name, place, accepts in self._unsure:
            if values[place] is not None and values[place] is not UNSET and not accepts(values[place]):
                yield name, values[place]
        if entry.is_unparsed:
            known = {name for name, _, _ in self._unsure}
            for name, place in self._shape.places.items():
                if name not in known and has_unparsed(values[place]):
                    yield name, values[place]

    def _with_faults(self, entry: DecodedRecord, faults: Mapping[str, RecordError]) -> DecodedRecord:
        if not faults:
            return entry
        values = astuple(entry.record)
        sound = {
            name: values[place]
            for name, place in self._shape.places.items()
            if name not in faults and values[place] is not UNSET
        }
        errors = (*entry.errors, *faults.values())
        return msgspec.structs.replace(entry, record=self._shape.make(sound), errors=errors)

    def _input_fault(
        self, entry: DecodedRecord, name: str, state: str, message: str, constraint: str | None
    ) -> RecordError:
        column = self._table.columns[name]
        code, _ = _meaning(state)
        broken = column.domain_checks.get(constraint or "")
        text = f"{column.label}: {message if broken is None else broken}"
        details = None if broken is None else {"constraint": constraint}
        value = report_value(value_of(self._table, entry, name))
        return RecordError(entry.index, entry_name(self._table, entry), code, text[:1000], name, value, details)

    def _group(
        self, entry: DecodedRecord, known: Known | None
    ) -> tuple[tuple[str, ...], frozenset[str], Unique | None]:
        values = astuple(entry.record)
        places = self._shape.places
        given = tuple([name for name in self._checked if values[places[name]] is not UNSET])
        faulty = {self._table.column_of(error.field) for error in entry.errors}
        unknown = frozenset([name for name in places if name in faulty and values[places[name]] is UNSET])
        return given, unknown, None if known is None else naming_unique(known, self._table, entry)

    def _check_error(self, entry: DecodedRecord, number: int) -> RecordError:
        check = self._table.checks[number]
        label = labels_of(self._table, entry, check.columns)
        expression = "" if self._expressions is None else self._expressions.checks[check.name]
        message = f"{label or 'Record'}: {check.description or f'breaks {check.name}: {expression}'}"
        return against(self._table, entry, ErrorCode.INVALID_FIELD_FORMAT, check, check.columns, message[:1000])


def refusal(table: Table, entry: DecodedRecord, error: psycopg.Error) -> RecordError:
    """The database's exception about a single record as an error of that record."""
    code, text = _meaning(error.sqlstate or "")
    constraint = table.constraints.get(error.diag.constraint_name or "")
    if constraint is not None:
        fields = next((unique.fields for unique in table.uniques if unique.name == constraint.name), constraint.columns)
        label = labels_of(table, entry, fields) or "Record"
        described = constraint.description if isinstance(constraint, Check) else None
        return against(table, entry, code, constraint, fields, described or f"{label} {text}")
    name = error.diag.column_name if error.diag.column_name in table.columns else None
    primary = error.diag.message_primary or str(error)
    if error.sqlstate is None:  # the driver's own
        code, text = ErrorCode.INVALID_FIELD_FORMAT, "is not valid"
    elif error.sqlstate.startswith("54") and not primary.startswith("index row"):
        text = "is too complex"
    elif name is None and isinstance(error, psycopg.errors.ProgramLimitExceeded):
        keys = [unique.fields[0] for unique in table.uniques if unique.names_row and len(unique.fields) == 1]
        name = keys[-1] if keys else None
    if name is None:
        # Nothing but the message says why: a trigger's, for example. That of NOT NULL would name a hidden column.
        is_hidden = isinstance(error, psycopg.errors.NotNullViolation)
        message = "Record lacks a value that the table needs" if is_hidden else f"Record {text}: {primary}"
        return RecordError(entry.index, entry_name(table, entry), code, message[:1000])
    value = report_value(value_of(table, entry, name))
    message = f"{table.columns[name].label} {text}"
    return RecordError(entry.index, entry_name(table, entry), code, message, name, value)


def is_refusal(table: Table, error: psycopg.Error) -> bool:
    """Whether an exception is due to the rows. Row-level security refuses them as if a right were missing."""
    return table.is_restricted or not isinstance(error, psycopg.errors.InsufficientPrivilege)


def _meaning(state: str) -> tuple[ErrorCode, str]:
    for prefix, code, text in _REFUSED_AS:
        if state.startswith(prefix):
            return code, text
    return ErrorCode.DATABASE_ERROR, "was refused by the database"
