"""Converts cells of csv to values that can be encoded as JSON, by the types of their columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, cast

import msgspec

from wherry.errors import ErrorCode
from wherry.imports.readers.model import Unread
from wherry.tables.model import Table
from wherry.tables.types import Form
from wherry.tables.values import Fault

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?")
"""A number as JSON has it."""
_NUMBER_CHARACTERS = re.compile(r"[-+.,0-9eE]*+")
_OTHER_NUMBER = re.compile(r"(?=[-+]?\.?[0-9])([-+]?)0*+([0-9]*+)(\.[0-9]*+)?([eE][-+]?[0-9]++)?")
_TRUE, _FALSE = ("true", "t", "yes", "1"), ("false", "f", "no", "0")
BOOLEANS = {
    spelled: value
    for words, value in ((_TRUE, True), (_FALSE, False))
    for word in words
    for spelled in (word, word.upper(), word.title())
}
"""The usual spellings."""
_NOT_JSON = Fault(ErrorCode.INVALID_FIELD_FORMAT, "must be JSON")

_encode = msgspec.json.Encoder().encode
decode_json = msgspec.json.Decoder(msgspec.Raw).decode
_decode_several = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Converter(NamedTuple):
    """Converts the cells of a column. Empty ones are left as they are.

    Attributes:
        cell: converts one that is not empty, to an `Unread` if it is invalid.
        column: converts all at once, which is faster, or returns None if one of them is unusual. Optional.
        is_sure: whether `cell` accepts everything.
    """

    cell: Callable[[str], object]
    column: Callable[[Sequence[str]], Sequence[object] | None] | None
    is_sure: bool

    def values(self, cells: Sequence[str | None]) -> Sequence[object]:
        """The values of a column."""
        found = None if self.column is None or None in cells else self.column(cast("Sequence[str]", cells))
        return [self.cell(cell) if cell else cell for cell in cells] if found is None else found


def converter_for(table: Table, name: str) -> Converter | None:
    """The converter of a field's cells, or None if they are text."""
    column = table.columns.get(name)
    found = None if column is None else _CONVERTERS.get(column.type.form)
    if not any(each.name == name for each in table.reference_fields):
        return found
    return _JSON if column is None else Converter(partial(_perhaps_object, found), None, is_sure=False)


def as_field(cell: str | None, converter: Converter | None) -> msgspec.Raw | Unread:
    """A single cell as JSON."""
    value = converter.cell(cell) if cell and converter is not None else cell
    return value if isinstance(value, (msgspec.Raw, Unread)) else msgspec.Raw(_encode(value))


def _number(cell: str) -> object:
    if _NUMBER.fullmatch(cell):
        return msgspec.Raw(cell)
    found = _OTHER_NUMBER.fullmatch(cell.strip())
    if found is None:
        return cell
    sign, whole, fraction, exponent = found.groups("")
    return msgspec.Raw(sign.strip("+") + (whole or "0") + (fraction if fraction != "." else "") + exponent)


def decoded_numbers(cells: Sequence[str | None], decode: Callable[[str], Sequence[object]]) -> Sequence[object]:
    """The values of a column of numbers, decoded as one JSON array.

    Raises:
        ValueError: some cells are no numbers, or not as JSON has them.
    """
    given = [cell for cell in cells if cell is not None] if None in cells else cells
    if _NUMBER_CHARACTERS.fullmatch(",".join(cast("Sequence[str]", given))) is None:
        raise ValueError("some cells have other characters than numbers")
    texts = cells if given is cells else ["null" if cell is None else cell for cell in cells]
    values = decode(f"[{','.join(cast('Sequence[str]', texts))}]")
    if len(values) != len(cells):
        raise ValueError("some cells have commas")
    return values


def _numbers(cells: Sequence[str]) -> Sequence[object] | None:
    try:
        return decoded_numbers(cells, _decode_several)
    except ValueError:
        return None


def _boolean(cell: str) -> object:
    return BOOLEANS.get(cell.strip().lower(), cell)


def _booleans(cells: Sequence[str]) -> Sequence[object] | None:
    found = [*map(BOOLEANS.get, cells)]
    return None if None in found else found


def _json(cell: str) -> object:
    try:
        decode_json(cell)
    except (ValueError, RecursionError):
        return Unread(msgspec.Raw(_encode(cell)), _NOT_JSON)
    return msgspec.Raw(cell)


def _jsons(cells: Sequence[str]) -> Sequence[object] | None:
    try:
        return [*map(decode_json, cells)]
    except (ValueError, RecursionError):
        return None


def _perhaps_object(converter: Converter | None, cell: str) -> object:
    """The value of a cell that has an object, or a value of a column."""
    found = _json(cell) if cell.lstrip().startswith("{") else None
    if isinstance(found, msgspec.Raw):
        return found
    return cell if converter is None else converter.cell(cell)


_JSON = Converter(_json, _jsons, is_sure=False)
_CONVERTERS = {
    Form.NUMBER: Converter(_number, _numbers, is_sure=True),
    Form.BOOLEAN: Converter(_boolean, _booleans, is_sure=True),
    Form.JSON: _JSON,
}
