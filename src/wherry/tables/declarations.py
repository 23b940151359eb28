"""Reads `tables.toml`: which tables of the user's own database are resources.

    builtin = true

    [tables]
    suppliers = "shop.supplier"
    prices = { table = "shop.price", key = ["tenant", "sku"], exclude = ["margin"] }

Every fault of the file is reported, with its place and, if a name is misspelled, the nearest known one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase
from typing import Any, Literal

import msgspec
import tomli

from wherry.database.schema import SCHEMA
from wherry.errors import Misconfigured
from wherry.tables.model import TableName

Role = Literal["admin", "user"]

DEFAULT_PATH = Path("tables.toml")

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+…?")
_RESOURCE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_NAME_PART = r'"(?:[^"\0]|"")+"|[^\W\d][\w$]*'
_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)
_SPACE = r"[ \t\n\r\f\v]*"  # to PostgreSQL, every other space is a letter
_TABLE_NAME = re.compile(rf"{_SPACE}({_NAME_PART}){_SPACE}\.{_SPACE}({_NAME_PART}){_SPACE}")

MAX_NAME_BYTES = 63
"""PostgreSQL has no longer names: it cuts those that SQL gives it."""

_MAX_COMPARED = 1000
_MAX_SHOWN = 80


class Declaration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is declared about one table. A column is named exactly as in the catalog.

    Attributes:
        table: schema and name, quoted as in SQL if necessary.
        key: the columns that identify a record; by default the primary key, else the only other key.
        exclude: columns that are never shown nor written.
        read_only: columns that are exported, but not imported.
        filters: columns that exports can select by; by default the key, and the leading columns of indexes.
        references: foreign keys' columns, and the column of the other table by which records may name a row.
        importable: whether the table can be imported into.
        exportable: whether it can be exported.
        import_roles: who may import.
        export_roles: who may export.
    """

    table: str
    key: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()
    filters: tuple[str, ...] | None = None
    references: Mapping[str, str] = {}
    importable: bool = msgspec.field(default=True, name="import")
    exportable: bool = msgspec.field(default=True, name="export")
    import_roles: tuple[Role, ...] = ("admin",)
    export_roles: tuple[Role, ...] = ("admin",)

    @property
    def relation(self) -> TableName:
        """The table in PostgreSQL."""
        return parse_table_name(self.table)


class Declarations(msgspec.Struct, frozen=True):
    """The content of a `tables.toml`."""

    builtin: bool = True
    """Whether users, articles and comments are resources, too."""
    tables: Mapping[str, Declaration] = {}


def find_declarations(path: Path | None) -> Declarations:
    """What the file declares or, if no path is given, what `tables.toml` in the working directory does, if it exists.

    Raises:
        Misconfigured: see `read_declarations`.
    """
    if path is None and not DEFAULT_PATH.exists():
        return Declarations()
    return read_declarations(path or DEFAULT_PATH)


def read_declarations(path: Path) -> Declarations:
    """The declarations of a file.

    Raises:
        Misconfigured: the file cannot be read or has faults; the message lists them all.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path} cannot be read: {error}") from error
    return parse_declarations(text, str(path))


def parse_declarations(text: str, source: str) -> Declarations:
    """The declarations in the text of a file; `source` names it in errors.

    Raises:
        Misconfigured: see `read_declarations`.
    """
    try:
        document = tomli.loads(text)
    except (tomli.TOMLDecodeError, RecursionError) as error:
        raise Misconfigured(f"{source} is not valid TOML: {error}") from error
    faults = list(_faults(document))
    if faults:
        raise Misconfigured("\n".join(f"{source}: {fault}" for fault in faults))
    tables = {name: msgspec.convert(_declared(value), Declaration) for name, value in _tables(document).items()}
    return Declarations(document.get("builtin", True), tables)


def parse_table_name(text: str) -> TableName:
    """The name of a table as SQL has it, such as `shop.price` or `shop."Price List"`.

    Raises:
        ValueError: it is not a schema and a name.
    """
    found = _TABLE_NAME.fullmatch(text)
    if found is None:
        raise ValueError("must be a schema and a name, such as shop.supplier, quoted as in SQL if necessary")
    return TableName(*map(_unquoted, found.groups()))


def owner_of(schema: str) -> str | None:
    """Who owns a schema whose tables cannot be declared; None for a schema of the user's own."""
    if schema == SCHEMA:
        return "wherry"
    return "PostgreSQL" if schema == "information_schema" or schema.startswith("pg_") else None


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?` if a known name is similar, otherwise nothing.

    Nothing, too, if so many are known that every fault of a long file would take a tenth of a second.
    """
    compared = list(known)
    found = get_close_matches(name, compared, n=1) if len(compared) <= _MAX_COMPARED else ()
    return f"; did you mean {found[0]}?" if found else ""


def _unquoted(part: str) -> str:
    """The name that PostgreSQL takes a part for: it folds only ASCII letters to lower case."""
    return part[1:-1].replace('""', '"') if part.startswith('"') else part.translate(_LOWER)


def _tables(document: Mapping[str, Any]) -> Mapping[str, Any]:
    tables = document.get("tables", {})
    return tables if isinstance(tables, dict) else {}


def _declared(value: object) -> object:
    return {"table": value} if isinstance(value, str) else value


def _faults(document: Mapping[str, Any]) -> Iterator[str]:
    known = Declarations.__struct_fields__
    yield from (f"{_shown(name)} is not a known key{nearest(name, known)}" for name in document if name not in known)
    if not isinstance(document.get("builtin", True), bool):
        yield "builtin must be true or false"
    if not isinstance(document.get("tables", {}), dict):
        yield "tables must be a section: [tables]"
    for name, value in _tables(document).items():
        yield from (f"tables.{_shown(name)}{fault}" for fault in _faults_of(name, _declared(value)))


def _faults_of(name: str, value: object) -> Iterator[str]:
    if not _RESOURCE_NAME.fullmatch(name):
        yield " must be named with a-z, 0-9, _ and -, beginning with a letter, in at most 63 characters"
    if not isinstance(value, dict):
        yield ' must be the name of a table, such as "shop.supplier", or a table with that name: { table = … }'
        return
    known = Declaration.__struct_encode_fields__
    yield from (f".{_shown(key)} is not a known key{nearest(key, known)}" for key in value if key not in known)
    try:
        declared = msgspec.convert({key: value[key] for key in value if key in known}, Declaration)
    except msgspec.ValidationError as error:
        yield f" is wrong: {error}"
        return
    yield from _faults_of_names(declared)
    for list_name in ("key", "exclude", "read_only", "filters"):
        names = getattr(declared, list_name) or ()
        if len(set(names)) < len(names):
            yield f".{list_name} has a column twice"


def _faults_of_names(declared: Declaration) -> Iterator[str]:
    try:
        relation = declared.relation
    except ValueError as error:
        yield f".table {error}"
        return
    if any(len(part.encode()) > MAX_NAME_BYTES for part in relation.parts):
        yield f".table has a name of more than {MAX_NAME_BYTES} bytes, which PostgreSQL does not have"
        return
    owner = owner_of(relation.schema)
    if owner is not None:
        yield f".table: {relation} belongs to {owner} itself; declare a table of your own"


def _shown(key: str) -> str:
    """A key as TOML has it, but not all of a long one."""
    short = key if len(key) <= _MAX_SHOWN else f"{key[:_MAX_SHOWN]}…"
    return short if _BARE_KEY.fullmatch(short) else json.dumps(short)
