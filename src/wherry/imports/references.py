"""References by key: records that name rows of other tables, `"supplier": {"email": "a@x"}` in place of `supplier_id`.

The decoder puts the keys beside the record, and leaves the columns that they stand for absent. Before anything else is
done with a batch, one statement for each such column finds the rows of all keys, in the transaction of the batch.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import msgspec
import psycopg
from msgspec import UNSET
from msgspec.structs import astuple

from wherry.database.pools import Connection
from wherry.errors import ErrorCode
from wherry.imports import statements
from wherry.imports.json_values import read_value
from wherry.imports.lookup import encode, fetch, input_faults
from wherry.imports.models import Batch, DecodedRecord, RecordError, report_value
from wherry.imports.tokens import entry_name, hashable, token_reader, unknown_key
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
        own = [self._own_rows(each, batch) for each in self._references]
        resolved: Batch = []
        waiting: list[DecodedRecord] = []
        for entry in batch:
            if not entry.keys or entry.record is None:
                resolved.append(entry)
                continue
            given, missing, may_change = self._values(entry, found, own)
            if may_change and not is_last:
                waiting.append(entry)
            else:
                resolved.append(_with_values(entry, given, [self._broken(entry, *each) for each in missing]))
        return resolved, waiting

    def _own_rows(self, reference: ReferenceField, batch: Batch) -> _OwnRows | None:
        """The rows of this table that a reference may name; None if it names rows of another one."""
        if reference.target != self._table.relation:
            return None
        return _OwnRows(reference, self._table, batch if self._updates else [])

    def _values(
        self, entry: DecodedRecord, found: Sequence[Mapping[Hashable, Any]], own: Sequence[_OwnRows | None]
    ) -> tuple[dict[str, Any], list[tuple[ReferenceField, Any, Any]], bool]:
        """What the keys of a record stand for.

        Returns:
            The values of its attributes; the references whose keys no row has, each with its key, and a `Fault` if the
            key cannot be read; and whether this batch or later records may change which rows the keys name.
        """
        given: dict[str, Any] = {}
        missing: list[tuple[ReferenceField, Any, Any]] = []
        may_change = False
        record = astuple(entry.record)
        for number, key in enumerate(entry.keys):
            if key is UNSET:
                continue
            rows, value = own[number], found[number].get(hashable(key), UNSET)
            if rows is not None and rows.may_change(key, value):
                itself = rows.named_by_itself(record, key)
                may_change = may_change or itself is UNSET
                value = value if itself is UNSET else itself
            if value is UNSET or isinstance(value, Fault):
                missing.append((self._references[number], key, value))
            else:
                given[self._attributes[number]] = value
        return given, missing, may_change

    def _broken(self, entry: DecodedRecord, reference: ReferenceField, key: Any, fault: Any) -> RecordError:
        if isinstance(fault, Fault):
            code, message = fault.code, f"{reference.label} {fault.text}"
        else:
            code, message = ErrorCode.INVALID_REFERENCE, unknown_key(self._table, reference, key)
        return RecordError(entry.index, entry_name(self._table, entry), code, message, reference.name, report_value({}))

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
            inputs = [(reference.key.type, reference.key.base, key) for key in keys.values()]
            unreadable = {place: message for place, _, message, _ in await input_faults(connection, inputs)}
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


class _OwnRows:
    """The rows that a reference of a table to itself may name.

    Args:
        batch: the records that may change rows that exist.
    """

    def __init__(self, reference: ReferenceField, table: Table, batch: Batch) -> None:
        self._read_key = token_reader(table, (reference.key.name,))
        self._place = shape_of(table).places.get(reference.referenced.name)
        self._keys: set[Hashable] = set()
        self._values: set[Hashable] = set()
        for entry in batch:
            if entry.record is not None:
                record = astuple(entry.record)
                self._keys.add(self._read_key(record))
                if self._place is not None:
                    self._values.add(hashable(record[self._place]))

    def named_by_itself(self, record: Sequence[Any], key: Any) -> Any:
        """The value that refers to the record's own row if that has the key, else UNSET."""
        if self._place is None or record[self._place] is None or self._read_key(record) != hashable(key):
            return UNSET
        return record[self._place]

    def may_change(self, key: Any, value: Any) -> bool:
        """Whether another row may have the key after this batch or later records. Now it stands for the value."""
        if isinstance(value, Fault):
            return False
        return value is UNSET or hashable(key) in self._keys or hashable(value) in self._values


def _with_values(entry: DecodedRecord, given: Mapping[str, Any], errors: Sequence[RecordError]) -> DecodedRecord:
    return msgspec.structs.replace(
        entry,
        record=msgspec.structs.replace(entry.record, **given),
        errors=(*entry.errors, *errors),
        is_unparsed=entry.is_unparsed or any(map(has_unparsed, given.values())),
    )
