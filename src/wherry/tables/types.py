"""The types of columns: how their values are exported and imported, and what JSON has for them.

There is one `ValueType` for each family of PostgreSQL types. Types that are in no family are exchanged as PostgreSQL's
own text. PostgreSQL writes the values of most families as JSON faster than Python does (measured).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from decimal import Decimal
from enum import StrEnum
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from wherry.tables import values
from wherry.tables.values import Rule

JsonSchema = Mapping[str, Any]
Reformat = Callable[[Sequence[str]], Sequence[str]]


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
        reformat: changes the texts that this SQL returns, in less time than PostgreSQL would need (measured).
        is_json: whether the result is JSON as text.
        reads_array: the SQL that reads an array of them, as JSON text unless it is only `{}`.
        annotation: what the typed decoder of import records reads.
        rule: judges what the typed decoder refuses.
        copy: what binary COPY calls the type; None if its values can only be inserted.
        copy_array: the same for an array of them.
        to_json: converts a value to one whose JSON PostgreSQL reads as the type; None if no value needs it.
        sent: the type that PostgreSQL reads the JSON as, if it is not the column's own; `writes` converts it.
        writes: the SQL that converts a value that was sent, which is `{}` in it.
        is_exact: whether Python finds two values equal if and only if PostgreSQL does.
        accepts: whether PostgreSQL surely accepts a value that `annotation` or `rule` accepted.
        has_signed_zero: whether -0 is another value than 0.
    """

    form: Form
    schema: JsonSchema
    operators: str | None = "pg_catalog"
    reads: str = "{}::pg_catalog.text"
    reformat: Reformat | None = None
    is_json: bool = False
    reads_array: str = "pg_catalog.to_json({}::pg_catalog.text[])::pg_catalog.text"
    annotation: Any = str
    rule: Rule = values.unparsed
    copy: str | None = None
    copy_array: str | None = None
    to_json: Callable[[Any], object] | None = None
    sent: str | None = None
    writes: str = "{}"
    is_exact: bool = False
    accepts: Callable[[Any], bool] = values.perhaps
    has_signed_zero: bool = False

    def finished(self, values: Sequence[Any]) -> Sequence[Any]:
        """Values that were read, in their final form."""
        if self.reformat is None:
            return values
        if None not in values:
            return self.reformat(values)
        present = iter(self.reformat([value for value in values if value is not None]))
        return [None if value is None else next(present) for value in values]


def _integer(bits: int) -> ValueType:
    least, most = -(1 << bits - 1), (1 << bits - 1) - 1
    return ValueType(
        form=Form.NUMBER,
        schema={"type": "integer", "minimum": least, "maximum": most},
        reads="{}",
        reads_array="{}",
        annotation=Annotated[int, Meta(ge=least, le=most)],
        rule=values.integer(least, most),
        copy=f"int{bits // 8}",
        copy_array=f"int{bits // 8}[]",
        is_exact=True,
        accepts=values.surely,
    )


_TO_JSON = "pg_catalog.to_json({})::pg_catalog.text"


def _moment(
    format_: str,
    name: str,
    annotation: Any,
    *,
    reformat: Reformat | None = None,
    reads_array: str = _TO_JSON,
    rule: Rule = values.unparsed,
) -> ValueType:
    return ValueType(
        form=Form.TEXT,
        schema={"type": "string", "format": format_},
        reformat=reformat,
        reads_array=reads_array,
        annotation=annotation,
        rule=rule,
        copy=name,
        copy_array=f"{name}[]",
        accepts=values.surely,
    )


def _float(bits: int, most: float) -> ValueType:
    return replace(
        NUMERIC,
        annotation=Annotated[float, Meta(ge=-most, le=most)],
        rule=values.floating(most),
        copy=f"float{bits // 8}",
        copy_array=f"float{bits // 8}[]",
        to_json=_float_as_json,
        accepts=values.surely,
        has_signed_zero=True,
    )


def _moments(texts: Sequence[str]) -> Sequence[str]:
    """Moments of PostgreSQL in the form of RFC 3339; infinity stays as it is. All at once takes a third of the time."""
    joined = "\n".join(texts)
    if " BC" in joined:
        return [text.replace(" ", "T", 1).replace("+00", "Z") for text in texts]
    return joined.replace(" ", "T").replace("+00", "Z").split("\n")


def _numbers(texts: Sequence[str]) -> Sequence[str]:
    """Numbers as JSON, which has neither NaN nor infinity: these become strings."""
    joined = "".join(texts)
    if "N" not in joined and "I" not in joined:
        return texts
    return [text if text[-1] <= "9" else f'"{text}"' for text in texts]


def _float_as_json(value: float) -> object:
    return value if math.isfinite(value) else str(value)  # JSON has no other numbers


def _bytes_as_json(value: bytes) -> str:
    return f"\\x{value.hex()}"


BOOLEAN = ValueType(
    form=Form.BOOLEAN,
    schema={"type": "boolean"},
    reads="{}",
    reads_array="{}",
    annotation=bool,
    rule=values.boolean,
    copy="bool",
    copy_array="bool[]",
    is_exact=True,
    accepts=values.surely,
)
NUMERIC = ValueType(
    form=Form.NUMBER,
    schema={"type": ["number", "string"], "pattern": "^(NaN|-?Infinity|[-+0-9.eE]+)$"},
    reformat=_numbers,
    is_json=True,
    reads_array=_TO_JSON,
    annotation=Decimal,
    rule=values.numeric,
    copy="numeric",
    copy_array="numeric[]",
    accepts=values.is_below(10**1000),
)
TEXT = ValueType(
    form=Form.TEXT,
    schema={"type": "string"},
    reads="{}",
    reads_array="{}",
    annotation=str,
    rule=values.text(),
    copy="text",
    copy_array="text[]",
    is_exact=True,
    accepts=values.surely,
)
OTHER = ValueType(form=Form.TEXT, schema={"type": "string"})
# Between the tokens of a value of type json there may be line ends, which ndjson cannot have.
_ONE_LINE = "pg_catalog.translate({}, E'\\n\\r', '  ')"
JSON_TEXT = ValueType(
    form=Form.JSON,
    schema={},
    reads=_ONE_LINE.format("{}::pg_catalog.text"),
    is_json=True,
    reads_array=_ONE_LINE.format(_TO_JSON),
    annotation=msgspec.Raw,
    rule=values.json,
    copy="json",
    accepts=values.is_plain_json,
)
INSTANT = _moment(
    "date-time",
    "timestamptz",
    Annotated[datetime, Meta(tz=True)],
    reformat=_moments,
    reads_array=f"pg_catalog.replace({_TO_JSON}, '+00:00', 'Z')",
)
# `to_char` cuts milliseconds off, and turns infinity into null.
INSTANT_IN_MILLISECONDS = replace(
    INSTANT, reads="""pg_catalog.to_char({}, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')""", reformat=None
)

FAMILIES: Mapping[str, ValueType] = MappingProxyType(
    {
        "bool": BOOLEAN,
        "int2": _integer(16),
        "int4": _integer(32),
        "int8": _integer(64),
        "numeric": NUMERIC,
        "float4": _float(32, 3.4028235677973362e38),  # whatever is nearer to the largest float4 than to infinity
        "float8": _float(64, sys.float_info.max),
        "money": replace(
            NUMERIC,
            reads="{}::pg_catalog.numeric::pg_catalog.text",
            reads_array="pg_catalog.to_json({}::pg_catalog.numeric[])::pg_catalog.text",
            copy=None,
            copy_array=None,
            accepts=values.is_below(Decimal(10) ** 16),
            sent="pg_catalog.numeric",
            writes="{}::pg_catalog.money",
        ),
        "text": TEXT,
        "varchar": replace(TEXT, copy_array="varchar[]"),
        "bpchar": replace(TEXT, copy_array=None, is_exact=False),  # PostgreSQL ignores spaces at the end
        "uuid": ValueType(
            form=Form.TEXT,
            schema={"type": "string", "format": "uuid"},
            annotation=UUID,
            rule=values.uuid,
            copy="uuid",
            copy_array="uuid[]",
            is_exact=True,
            accepts=values.surely,
        ),
        "bytea": ValueType(
            form=Form.BYTES,
            schema={"type": "string", "contentEncoding": "base64"},
            reads="{}",
            reads_array="{}",
            annotation=bytes,
            rule=values.base64,
            copy="bytea",
            copy_array="bytea[]",
            to_json=_bytes_as_json,
            is_exact=True,
            accepts=values.surely,
        ),
        "date": _moment("date", "date", date, rule=values.date),
        "time": _moment("time", "time", Annotated[time, Meta(tz=False)]),
        "timestamp": _moment(
            "date-time",
            "timestamp",
            Annotated[datetime, Meta(tz=False)],
            reformat=_moments,
            rule=values.local_moment,
        ),
        "timestamptz": INSTANT,
        "interval": ValueType(form=Form.TEXT, schema={"type": "string", "format": "duration"}),
        "json": JSON_TEXT,
        "jsonb": replace(
            JSON_TEXT,
            reads="{}::pg_catalog.text",
            reads_array=_TO_JSON,
            copy="jsonb",
        ),
    }
)
"""By the name of a type in `pg_catalog`."""


@dataclass(frozen=True)
class CatalogType:
    """A row of `pg_type`. `sql_name` is its name in SQL, always with a schema unless that is `pg_catalog`."""

    oid: int
    schema: str
    name: str
    sql_name: str
    base: int | None = None
    base_typmod: int = -1
    not_null: bool = False
    element: int | None = None
    operators: str | None = "pg_catalog"
    labels: Sequence[str] | None = None
    checks: Mapping[str, str] | None = None


def find_type(oid: int, typmod: int, types: Mapping[int, CatalogType], *, is_deterministic: bool = True) -> ValueType:
    """The family of a column's type.

    Args:
        oid: of the type.
        typmod: its modifier, such as a length, or -1.
        types: by oid: this type and those that it is made of.
        is_deterministic: whether only equal texts are equal, by the column's collation.
    """
    found = types[oid]
    if found.base is not None:
        base = find_type(found.base, found.base_typmod, types, is_deterministic=is_deterministic)
        return replace(base, accepts=values.perhaps)
    family = _family(found, typmod, types)
    return replace(family, operators=found.operators, is_exact=family.is_exact and is_deterministic)


def base_of(oid: int, types: Mapping[int, CatalogType]) -> CatalogType:
    """The type itself or, if it is a domain, the type that it restricts."""
    found = types[oid]
    return found if found.base is None else base_of(found.base, types)


def domain_checks(oid: int, types: Mapping[int, CatalogType]) -> dict[str, str]:
    """The constraints of a domain, by name: their comments or, if they have none, their SQL."""
    found = types[oid]
    inherited = {} if found.base is None else domain_checks(found.base, types)
    return {**inherited, **(found.checks or {})}


def is_not_null(oid: int, types: Mapping[int, CatalogType]) -> bool:
    """Whether the type is a domain that has no null."""
    found = types[oid]
    return found.not_null or (found.base is not None and is_not_null(found.base, types))


def _family(found: CatalogType, typmod: int, types: Mapping[int, CatalogType]) -> ValueType:
    if found.element is not None:
        element = find_type(found.element, typmod, types)
        is_domain = types[found.element].base is not None
        if is_domain:  # the driver does not know the domains of arrays, and COPY checks the type of elements
            element = replace(
                element, reads_array=_TO_JSON if element.reads_array == "{}" else element.reads_array, copy_array=None
            )
        return _array_of(element, base_of(found.element, types).sql_name)
    if found.labels is not None:
        return ValueType(
            form=Form.TEXT,
            schema={"enum": list(found.labels)},
            annotation=Literal[tuple(found.labels)] if found.labels else str,
            rule=values.one_of(found.labels),
            copy="text",
            is_exact=True,
            accepts=values.surely,
        )
    family = FAMILIES.get(found.name, OTHER) if found.schema == "pg_catalog" else OTHER
    if family is NUMERIC and typmod >= 4:
        # The modifier has the precision and the scale (PostgreSQL's numeric.c).
        precision, scale = typmod - 4 >> 16 & 0xFFFF, ((typmod - 4 & 0x7FF) ^ 1024) - 1024
        return replace(family, accepts=values.is_below(Decimal(10) ** (precision - scale) - 1))
    if found.name in ("varchar", "bpchar") and family is not OTHER and typmod > 4:
        most = typmod - 4
        return replace(
            family,
            schema={**family.schema, "maxLength": most},
            annotation=Annotated[str, Meta(max_length=most)],
            rule=values.text(most),
        )
    return family


def _array_of(element: ValueType, name: str) -> ValueType:
    array = ValueType(
        form=Form.JSON,
        schema={"type": "array", "items": {"anyOf": [element.schema, {"type": "null"}, {"type": "array"}]}},
        reads=element.reads_array,
        is_json=element.reads_array != "{}",
        reads_array=element.reads_array,
        annotation=_list_of(element.annotation),
        rule=values.array(element.rule, partial(msgspec.convert, type=element.annotation)),
        copy=element.copy_array,
        to_json=None if element.to_json is None else partial(_each_as_json, element.to_json),
        sent=None if element.sent is None else f"{element.sent}[]",
        writes=element.writes if element.sent is None else f"{element.writes}[]",
        accepts=element.accepts if element.accepts is values.surely else values.perhaps,
        has_signed_zero=element.has_signed_zero,
    )
    if element.annotation is not msgspec.Raw:
        return array
    # PostgreSQL would take an element that is a JSON array for another dimension.
    return replace(array, to_json=_texts_of_json, sent="pg_catalog.text[]", writes=f"{{}}::{name}[]")


def _texts_of_json(value: list[msgspec.Raw]) -> list[str | None]:
    return [None if bytes(each) == b"null" else bytes(each).decode() for each in value]


def _list_of(annotation: Any) -> Any:
    return list[msgspec.Raw] if annotation is msgspec.Raw else list[annotation | None]


def _each_as_json(to_json: Callable[[Any], object], value: list[Any]) -> list[object]:
    return [
        _each_as_json(to_json, each) if isinstance(each, list) else None if each is None else to_json(each)
        for each in value
    ]
