"""References by key: records that name rows of other tables, `"supplier": {"email": "a@x"}` in place of `supplier_id`.

The decoder puts the keys beside the record, and leaves the columns that they stand for absent. Before anything else is
done with a batch, one statement for each such column finds the rows of all keys, in the transaction of the batch.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.structs import astuple
from psycopg.rows import tuple_row

from wherry.database.pools import Connection
from wherry.errors import ErrorCode
from wherry.imports import statements
from wherry.imports.json_values import read_value
from wherry.imports.lookup import encode
from wherry.imports.models import Batch, DecodedRecord, RecordError, clipped, report_value
from wherry.imports.referring import Keys
from wherry.imports.tokens import entry_name, hashable, token_reader
from wherry.tables.derivation import references_of, shape_of
from wherry.tables.model import ReferenceField, Table
from wherry.tables.values import Fault, has_unparsed


class Resolver:
    """Finds the rows that records of one table name by their keys."""

    def __init__(self, table: Table) -> None:
        self._table = table
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
        resolved: Batch = []
        waiting: list[DecodedRecord] = []
        for entry in batch:
            if not entry.keys or entry.record is None:
                resolved.append(entry)
                continue
            given, missing = self._values(entry.keys, found)
            if not missing:
                resolved.append(_with_values(entry, given))
            elif is_last or all(reference.target != self._table.relation for reference, _ in missing):
                errors = [self._broken(entry, reference, key) for reference, key in missing]
                faulty = msgspec.structs.replace(entry, errors=(*entry.errors, *errors))
                resolved.append(_with_values(faulty, given))
            else:
                waiting.append(entry)
        return resolved, waiting

    def _values(
        self, keys: Keys, found: Sequence[Mapping[Hashable, Any]]
    ) -> tuple[dict[str, Any], list[tuple[ReferenceField, Any]]]:
        """The values of the record's attributes for its keys, and those references that no row has the key of."""
        given: dict[str, Any] = {}
        missing = []
        for number, key in enumerate(keys):
            if key is not UNSET:
                value = found[number].get(hashable(key), UNSET)
                if value is UNSET:
                    missing.append((self._references[number], key))
                else:
                    given[self._attributes[number]] = value
        return given, missing

    def _broken(self, entry: DecodedRecord, reference: ReferenceField, key: Any) -> RecordError:
        shown = f"with the {reference.key.name} {clipped(str(key))}"
        target = reference.target.name if self._table.is_built_in else reference.target
        message = f"{reference.label} {shown} does not exist in {target}"
        name = entry_name(self._table, entry)
        return RecordError(entry.index, name, ErrorCode.INVALID_REFERENCE, message, reference.name, report_value({}))

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
        async with connection.cursor(row_factory=tuple_row) as cursor:
            # Not prepared, for the reason that `Lookup` has.
            await cursor.execute(statements.resolve(reference).encode(), {"rows": encode(rows)}, prepare=False)
            found = await cursor.fetchall()
        values = self._as_imported(reference, [value for _, value in found])
        known = {tokens[place]: value for (place, _), value in zip(found, values, strict=True)}
        return known if reference.target != self._table.relation else {**self._created(reference, batch), **known}

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

    def _created(self, reference: ReferenceField, batch: Batch) -> dict[Hashable, Any]:
        """The values that sound records of the batch give to rows of the table itself, as far as they say."""
        place = self._shape.places.get(reference.referenced.name)
        if place is None:
            return {}
        read = token_reader(self._table, (reference.key.name,))
        records = [astuple(entry.record) for entry in reversed(batch) if not entry.errors]
        return {
            read(values): values[place]
            for values in records
            if values[place] is not UNSET and values[place] is not None and read(values) is not None
        }


def _with_values(entry: DecodedRecord, given: Mapping[str, Any]) -> DecodedRecord:
    record = msgspec.structs.replace(entry.record, **given)
    if any(map(has_unparsed, given.values())):
        return msgspec.structs.replace(entry, record=record, keys=(), is_unparsed=True)
    return msgspec.structs.replace(entry, record=record, keys=())
