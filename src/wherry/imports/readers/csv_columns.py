"""Decodes csv column by column, to the same records as the typed decoder, but without JSON in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import repeat
from typing import Any, TypeAlias

import msgspec
from msgspec import Raw

from wherry.imports.readers.csv_cells import Cells
from wherry.imports.readers.csv_values import BOOLEANS, decode_json, decoded_numbers
from wherry.tables.derivation import references_of, shape_of
from wherry.tables.model import Table
from wherry.tables.types import Form

Read: TypeAlias = Callable[[Cells], Iterable[object]]
"""Reads the values of a column; raises a ValueError or KeyError if it does not know one of them."""


class ColumnDecoder:
    """Decodes several records of a table at once.

    Args:
        make: makes a record of the values of its fields.
        columns: for each field, the position of its cells in a row and how to read them; None if it is absent.
        absent: the value of fields that are absent.
    """

    def __init__(self, make: Callable[..., Any], columns: Sequence[tuple[int, Read] | None], absent: object) -> None:
        self._make = make
        self._columns = columns
        self._absent = absent

    def records(self, cells: Sequence[Cells]) -> Sequence[Any] | None:
        """The records, given the cells column by column, or None if some cells have to be looked at one by one."""
        try:
            values = [repeat(self._absent) if each is None else each[1](cells[each[0]]) for each in self._columns]
        except (ValueError, KeyError, RecursionError):
            return None
        return list(map(self._make, *values))


def column_decoder(table: Table, places: Mapping[str, int]) -> ColumnDecoder | None:
    """The decoder for files with cells of these fields at these positions.

    None if these values are not enough for a record, if the typed decoder does not read some of them exactly, or if
    they may name rows of other tables by keys.
    """
    shape = shape_of(table)
    fields = dict(zip(shape.places, msgspec.structs.fields(shape.record), strict=True))
    if fields.keys().isdisjoint(places) or any(field.required for name, field in fields.items() if name not in places):
        return None
    if shape.has_signed_zero or not places.keys().isdisjoint(each.name for each in references_of(table)):
        return None
    columns = [
        (places[name], _reader(table.columns[name].type.form, field.type)) if name in places else None
        for name, field in fields.items()
    ]
    return ColumnDecoder(shape.of_values, columns, shape.absent)


def _reader(form: Form, annotation: Any) -> Read:
    """How to read the cells of a column as values of this type."""
    every: Any = list[annotation]
    if annotation == str | None:
        return lambda cells: cells
    if annotation is Raw:
        return lambda cells: [Raw(b"null") if cell is None else decode_json(cell) for cell in cells]
    if form is Form.NUMBER:
        return partial(decoded_numbers, decode=msgspec.json.Decoder(every).decode)
    if form is Form.BOOLEAN:
        return lambda cells: msgspec.convert([None if cell is None else BOOLEANS[cell] for cell in cells], every)
    if form is Form.JSON:
        decode = msgspec.json.Decoder(annotation).decode
        return lambda cells: [decode("null" if cell is None else cell) for cell in cells]
    return lambda cells: msgspec.convert(cells, every)
