"""References by key: records that name rows of other tables, `"supplier": {"email": "a@x"}` in place of `supplier_id`.

The decoder puts the keys beside the record, and leaves the columns that they stand for absent. Before anything else is
done with a batch, one statement for each such column finds the rows of all keys, in the transaction of the batch.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import psycopg
from msgspec import UNSET
from msgspec.structs import astuple

from wherry.database.pools import Connection
from wherry.database.queries import load
from wherry.errors import ErrorCode
from wherry.imports import statements
from wherry.imports.json_values import read_value
from wherry.imports.lookup import encode, fetch
from wherry.imports.models import Batch, DecodedRecord, RecordError, clipped, report_value
from wherry.imports.tokens import entry_name, hashable, token_reader
from wherry.tables.derivation import references_of, shape_of
from wherry.tables.model import ReferenceField, Table
from wherry.tables.values import Fault, has_unparsed


class Resolver:
    """Finds the rows that records of one table name by their keys.

    Args:
        updates: whether records may change the keys of rows that exist.
    """

    def __init__(self, table: Table, *, updates: bool) -> None:
        self._table = table
        self._updates = updates
        self._shape = shape_of(table)
        self._references = references_of(table)
        self._attributes = [self._shape.attributes[each.column] for each in self._references]

    async def resolve(
        self, connection: Connection, batch: Batch, *, is_last: bool
    ) -> tuple[Batch, list[DecodedRecord]]:
        """The batch with values in place of keys, without those records that name a row that a later one may create.

        Args:
            connection: in the transaction that writes the records.
            batch: all records.
            is_last: whether no later record can create a row.
        """
        if not any(entry.keys for entry in batch):
            return batch, []
        found = [await self._find(connection, batch, number) for number in range(len(self._references))]
        touched = [_Touched(each, self._table, batch if self._updates else []) for each in self._references]
        resolved: Batch = []
        waiting: list[DecodedRecord] = []
        for entry in batch:
            if not entry.keys or entry.record is None:
                resolved.append(entry)
                continue
            given, missing = self._values(entry, found)
            if not is_last and any(map(partial(self._must_wait, entry), self._references, entry.keys, found, touched)):
                waiting.append(entry)
            elif missing:
                errors = [self._broken(entry, *each) for each in missing]
                faulty = msgspec.structs.replace(entry, errors=(*entry.errors, *errors))
                resolved.append(_with_values(faulty, given))
            else:
                resolved.append(_with_values(entry, given))
        return resolved, waiting

    def _must_wait(
        self,
        entry: DecodedRecord,
        reference: ReferenceField,
        key: Any,
        found: Mapping[Hashable, Any],
        touched: _Touched,
    ) -> bool:
        """Whether which row a key names may depend on this batch or on later records."""
        if reference.target != self._table.relation or key is UNSET or key is None:
            return False
        value = found.get(hashable(key), UNSET)
        if isinstance(value, Fault) or self._names_itself(entry, reference, key) is not UNSET:
            return False
        return value is UNSET or hashable(key) in touched.keys or hashable(value) in touched.values

    def _names_itself(self, entry: DecodedRecord, reference: ReferenceField, key: Any) -> Any:
        """The value of the record's own column if the record names itself, else UNSET."""
        place = self._shape.places.get(reference.referenced.name)
        if reference.target != self._table.relation or place is None:
            return UNSET
        values = astuple(entry.record)
        own = token_reader(self._table, (reference.key.name,))(values)
        return values[place] if own == hashable(key) and values[place] is not None else UNSET

    def _values(
        self, entry: DecodedRecord, found: Sequence[Mapping[Hashable, Any]]
    ) -> tuple[dict[str, Any], list[tuple[ReferenceField, Any, Any]]]:
        """The values of the record's attributes for its keys, and the references whose keys no row has.

        With each of these comes its key, and a `Fault` if the key cannot be read.
        """
        given: dict[str, Any] = {}
        missing = []
        for number, key in enumerate(entry.keys):
            if key is not UNSET:
                value = self._names_itself(entry, self._references[number], key)
                if value is UNSET:
                    value = found[number].get(hashable(key), UNSET)
                if value is UNSET or isinstance(value, Fault):
                    missing.append((self._references[number], key, value))
                else:
                    given[self._attributes[number]] = value
        return given, missing

    def _broken(self, entry: DecodedRecord, reference: ReferenceField, key: Any, fault: Any) -> RecordError:
        if isinstance(fault, Fault):
            code, text = fault.code, fault.text
        else:
            target = reference.target.name if self._table.is_built_in else reference.target
            code = ErrorCode.INVALID_REFERENCE
            text = f"with the {reference.key.name} {clipped(str(key))} does not exist in {target}"
        name = entry_name(self._table, entry)
        return RecordError(entry.index, name, code, f"{reference.label} {text}", reference.name, report_value({}))

    async def _find(self, connection: Connection, batch: Batch, number: int) -> Mapping[Hashable, Any]:
        """The values of the column for the keys of the batch."""
        reference = self._references[number]
        asked = [entry for entry in batch if entry.keys and entry.record is not None]
        keys = {hashable(entry.keys[number]): entry.keys[number] for entry in asked}
        keys.pop(None, None)
        if not keys:
            return {}
        tokens, to_json = list(keys), reference.key.type.to_json
        rows = [{"i": place, "k": key if to_json is None else to_json(key)} for place, key in enumerate(keys.values())]
        unreadable: dict[int, str] = {}
        try:
            async with connection.transaction():
                found = await fetch(connection, statements.resolve(reference), {"rows": encode(rows)})
        except (psycopg.DataError, psycopg.ProgrammingError):
            unreadable = await _unreadable(connection, reference, rows)
            if not unreadable:
                raise
            rows = [row for row in rows if row["i"] not in unreadable]
            found = await fetch(connection, statements.resolve(reference), {"rows": encode(rows)})
        values = self._as_imported(reference, [value for _, value in found])
        faults = {
            tokens[place]: Fault(ErrorCode.INVALID_FIELD_FORMAT, f"has a key that cannot be read: {message}")
            for place, message in unreadable.items()
        }
        return {tokens[place]: value for (place, _), value in zip(found, values, strict=True)} | faults

    def _as_imported(self, reference: ReferenceField, read: Sequence[Any]) -> list[Any]:
        """Values that were read, as the decoder returns those that a record gives."""
        column, is_json = self._table.columns[reference.column].type, reference.referenced.type.is_json
        decode = msgspec.json.Decoder(column.annotation).decode
        values = []
        for value in reference.referenced.type.finished(read):
            text = value.encode() if is_json else msgspec.json.encode(value)
            try:
                values.append(decode(text))
            except ValueError:
                ruled = column.rule(read_value(text))
                values.append(UNSET if isinstance(ruled, Fault) else ruled)
        return values


class _Touched:
    """What the records of a batch may change in the rows that records of the same table name."""

    def __init__(self, reference: ReferenceField, table: Table, batch: Batch) -> None:
        self.keys: set[Hashable] = set()
        self.values: set[Hashable] = set()
        if reference.target != table.relation:
            return
        place = shape_of(table).places.get(reference.referenced.name)
        read = token_reader(table, (reference.key.name,))
        for entry in batch:
            if entry.record is not None:
                values = astuple(entry.record)
                self.keys.add(read(values))
                if place is not None:
                    self.values.add(hashable(values[place]))


async def _unreadable(
    connection: Connection, reference: ReferenceField, rows: Sequence[Mapping[str, Any]]
) -> dict[int, str]:
    """Why PostgreSQL cannot read some of the keys, by their number."""
    type_ = reference.key.type
    sent, expression = type_.sent or reference.key.base, type_.writes.replace("{}", "x")
    asked = [{"i": row["i"], "v": row["k"], "t": sent, "x": expression} for row in rows]
    found = await fetch(connection, load("imports")["input_faults"], {"rows": encode(asked)})
    return {place: message for place, _, message, _ in found}


def _with_values(entry: DecodedRecord, given: Mapping[str, Any]) -> DecodedRecord:
    record = msgspec.structs.replace(entry.record, **given)
    if any(map(has_unparsed, given.values())):
        return msgspec.structs.replace(entry, record=record, keys=(), is_unparsed=True)
    return msgspec.structs.replace(entry, record=record, keys=())
