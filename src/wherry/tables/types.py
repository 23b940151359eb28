"""The types of columns: how an export reads and writes their values, and what JSON has for them.

There is one `ValueType` for each family of PostgreSQL types. Types that are in no family are exchanged as PostgreSQL's
own text. PostgreSQL writes the values of most families as JSON faster than Python does (measured).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

JsonSchema = Mapping[str, Any]


class Form(StrEnum):
    """What a value is in JSON, which decides how other formats write it."""

    BOOLEAN = "boolean"
    NUMBER = "number"
    TEXT = "text"
    BYTES = "bytes"  # base64
    JSON = "json"  # any JSON, such as an array


@dataclass(frozen=True, kw_only=True)
class ValueType:
    """A family of PostgreSQL types.

    Attributes:
        form: what its values are in JSON.
        schema: their JSON Schema.
        operators: the schema of the operators that compare values; None if they cannot be compared.
        reads: the SQL that reads a column, which is `{}` in it.
        is_json: whether that SQL returns JSON as text.
        reads_array: the SQL that reads an array of them, as JSON text unless it is only `{}`.
    """

    form: Form
    schema: JsonSchema
    operators: str | None = "pg_catalog"
    reads: str = "{}::pg_catalog.text"
    is_json: bool = False
    reads_array: str = "pg_catalog.to_json({}::pg_catalog.text[])::pg_catalog.text"


def _integer(bits: int) -> ValueType:
    least, most = -(1 << bits - 1), (1 << bits - 1) - 1
    return ValueType(
        form=Form.NUMBER,
        schema={"type": "integer", "minimum": least, "maximum": most},
        reads="{}",
        reads_array="{}",
    )


_TO_JSON = "pg_catalog.to_json({})::pg_catalog.text"


def _moment(format_: str, reads: str, reads_array: str = _TO_JSON) -> ValueType:
    return ValueType(form=Form.TEXT, schema={"type": "string", "format": format_}, reads=reads, reads_array=reads_array)


# `to_json` writes instants with a "T", unlike PostgreSQL's text. Both write infinity and years before Christ as words.
_ISO = f"pg_catalog.btrim({_TO_JSON}, '\"')"

BOOLEAN = ValueType(form=Form.BOOLEAN, schema={"type": "boolean"}, reads="{}", reads_array="{}")
NUMERIC = ValueType(
    form=Form.NUMBER,
    schema={"type": ["number", "string"], "pattern": "^(NaN|-?Infinity|[-+0-9.eE]+)$"},
    reads=_TO_JSON,
    is_json=True,
    reads_array=_TO_JSON,
)
TEXT = ValueType(form=Form.TEXT, schema={"type": "string"}, reads="{}", reads_array="{}")
OTHER = ValueType(form=Form.TEXT, schema={"type": "string"})
# Between the tokens of a value of type json there may be line ends, which ndjson cannot have.
_ONE_LINE = "pg_catalog.translate({}, E'\\n\\r', '  ')"
JSON_TEXT = ValueType(
    form=Form.JSON,
    schema={},
    reads=_ONE_LINE.format("{}::pg_catalog.text"),
    is_json=True,
    reads_array=_ONE_LINE.format(_TO_JSON),
)
INSTANT = _moment(
    "date-time", f"pg_catalog.replace({_ISO}, '+00:00', 'Z')", f"pg_catalog.replace({_TO_JSON}, '+00:00', 'Z')"
)
# `to_char` cuts milliseconds off, and turns infinity into null.
INSTANT_IN_MILLISECONDS = replace(INSTANT, reads="""pg_catalog.to_char({}, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')""")

FAMILIES: Mapping[str, ValueType] = MappingProxyType(
    {
        "bool": BOOLEAN,
        "int2": _integer(16),
        "int4": _integer(32),
        "int8": _integer(64),
        "numeric": NUMERIC,
        "float4": NUMERIC,
        "float8": NUMERIC,
        "money": replace(
            NUMERIC,
            reads="{}::pg_catalog.numeric::pg_catalog.text",
            reads_array="pg_catalog.to_json({}::pg_catalog.numeric[])::pg_catalog.text",
        ),
        "text": TEXT,
        "varchar": TEXT,
        "bpchar": TEXT,
        "uuid": ValueType(form=Form.TEXT, schema={"type": "string", "format": "uuid"}),
        "bytea": ValueType(
            form=Form.BYTES, schema={"type": "string", "contentEncoding": "base64"}, reads="{}", reads_array="{}"
        ),
        "date": _moment("date", "{}::pg_catalog.text"),
        "time": _moment("time", "{}::pg_catalog.text"),
        "timestamp": _moment("date-time", _ISO),
        "timestamptz": INSTANT,
        "interval": ValueType(form=Form.TEXT, schema={"type": "string", "format": "duration"}),
        "json": JSON_TEXT,
        "jsonb": replace(JSON_TEXT, reads="{}::pg_catalog.text", reads_array=_TO_JSON),
    }
)
"""By the name of a type in `pg_catalog`."""


@dataclass(frozen=True)
class CatalogType:
    """A row of `pg_type`."""

    oid: int
    schema: str
    name: str
    base: int | None = None
    base_typmod: int = -1
    element: int | None = None
    operators: str | None = "pg_catalog"
    labels: Sequence[str] | None = None


def find_type(oid: int, typmod: int, types: Mapping[int, CatalogType]) -> ValueType:
    """The family of a column's type.

    Args:
        oid: of the type.
        typmod: its modifier, such as a length, or -1.
        types: by oid: this type and those that it is made of.
    """
    found = types[oid]
    if found.base is not None:
        return find_type(found.base, found.base_typmod, types)
    return replace(_family(found, typmod, types), operators=found.operators)


def _family(found: CatalogType, typmod: int, types: Mapping[int, CatalogType]) -> ValueType:
    if found.element is not None:
        element = find_type(found.element, typmod, types)
        is_domain = types[found.element].base is not None
        # The driver does not know the domains of arrays.
        return _array_of(
            replace(element, reads_array=_TO_JSON) if is_domain and element.reads_array == "{}" else element
        )
    if found.labels is not None:
        return ValueType(form=Form.TEXT, schema={"enum": list(found.labels)})
    family = FAMILIES.get(found.name, OTHER) if found.schema == "pg_catalog" else OTHER
    if family is TEXT and typmod > 4:
        return replace(family, schema={**family.schema, "maxLength": typmod - 4})
    return family


def _array_of(element: ValueType) -> ValueType:
    return ValueType(
        form=Form.JSON,
        schema={"type": "array", "items": {"anyOf": [element.schema, {"type": "null"}, {"type": "array"}]}},
        reads=element.reads_array,
        is_json=element.reads_array != "{}",
        reads_array=element.reads_array,
    )
