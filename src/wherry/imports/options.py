"""Parses the options of an import, which come from form fields, queries or JSON members. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from wherry.errors import Invalid
from wherry.imports.models import ImportOptions, OnConflict, UnknownFields
from wherry.imports.readers import FORMATS
from wherry.tables.declarations import nearest
from wherry.tables.derivation import import_fields
from wherry.tables.model import Table
from wherry.texts import whole_number

MAX_COLUMNS = 5000
MAX_NAME = 1000

_WORDS = {"true": True, "false": False}

Choice = TypeVar("Choice", bound=StrEnum)


class _Faulty(Exception):
    """An option cannot be read; the argument is what it must be."""


def parse_options(fields: Mapping[str, object]) -> ImportOptions:
    """Parse the options, all of which may be missing.

    Raises:
        Invalid: on every invalid field.
    """
    readers = {
        "onConflict": lambda value: _choice(value, OnConflict),
        "dryRun": _flag,
        "atomic": _flag,
        "maxErrors": _count,
        "unknownFields": lambda value: _choice(value, UnknownFields),
        "columns": _columns,
        "recordsAt": _path,
        "webhookUrl": _text,
    }
    found: dict[str, Any] = {}
    faults: dict[str, list[str]] = {}
    for name, read in readers.items():
        value = fields.get(name)
        if value is not None and value != "":
            try:
                found[name] = read(value)
            except _Faulty as fault:
                faults[name] = [f"{name} {fault}"]
    if faults:
        raise Invalid(next(iter(faults.values()))[0], fields=faults)
    return msgspec.convert(found, ImportOptions)


def check_options(options: ImportOptions, format: str | None, table: Table) -> None:
    """Check the options that depend on others. `format` is None if it has to be detected.

    Raises:
        Invalid: on `columns` or `recordsAt`.
    """
    for name, value in msgspec.to_builtins(options).items():
        formats = [each.name for each in FORMATS.values() if name in each.own_options]
        if value is not None and formats and format not in formats:
            raise Invalid(f"{name} is only for {' and '.join(formats)} files", field=name)
    known = import_fields(table)
    for name in (options.columns or {}).values():
        if name is not None and name not in known:
            raise Invalid(
                f"columns: {table.name} has no field {name[:MAX_NAME]}{nearest(name, sorted(known))}", field="columns"
            )


def _choice(value: object, choices: type[Choice]) -> Choice:
    if value not in tuple(choices):
        raise _Faulty(f"must be one of {', '.join(choices)}")
    return choices(str(value))


def _flag(value: object) -> bool:
    found = value if isinstance(value, bool) else _WORDS.get(str(value).strip().lower())
    if found is None:
        raise _Faulty("must be true or false")
    return found


def _count(value: object) -> int:
    found = value if isinstance(value, int) and not isinstance(value, bool) else None
    if isinstance(value, str):
        found = whole_number(value.strip())
    if found is None or not 0 <= found < 1 << 63:
        raise _Faulty("must be a whole number from 0")
    return found


def _columns(value: object) -> dict[str, str | None]:
    try:
        text = value.encode() if isinstance(value, str) else msgspec.json.encode(value)
        found = msgspec.json.decode(text, type=dict[str, str | None])
    except (ValueError, TypeError, RecursionError):
        raise _Faulty('must be a JSON object of fields, or null, by header: {"E-Mail": "email"}') from None
    if len(found) > MAX_COLUMNS or any("\0" in f"{header}{name}" for header, name in found.items()):
        raise _Faulty(f"must have at most {MAX_COLUMNS} members, without the character U+0000")
    return found


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _Faulty("must be a string")
    return value


def _path(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_NAME or "\0" in value or not all(value.split(".")):
        raise _Faulty("must be the keys that lead to the records, joined by dots, such as entry.resource")
    return value
