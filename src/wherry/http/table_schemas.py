"""JSON Schemas of tables' records, for `/api/v1/resources/{name}/schema` and as components of the OpenAPI document."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from wherry.http.schemas import Schema
from wherry.tables.derivation import references_of
from wherry.tables.model import ReferenceField, Table
from wherry.tables.registry import TablesByName

JSON_SCHEMA = "https://json-schema.org/draft/2020-12/schema"
IMPORT, EXPORT = "Import", "Export"
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9]+")


def export_schema(table: Table) -> Schema:
    """The JSON Schema of a record that has every field."""
    schema = {
        "$schema": JSON_SCHEMA,
        "title": table.name,
        "type": "object",
        "properties": {name: _property(table, name) for name in table.fields},
        "required": list(table.fields),
        "additionalProperties": False,
    }
    return _with_references(schema, table.reference_fields, "With `references=key`")


def import_schema(table: Table) -> Schema:
    """The JSON Schema of a record that creates a row."""
    if table.policy is not None:
        schema = msgspec.json.schema(table.policy.record)
        for each in schema["$defs"].values():
            each |= _with_references(each, table.reference_fields, "May be given")
        return schema
    columns = [column for column in table.columns.values() if column.is_importable]
    schema = {
        "$schema": JSON_SCHEMA,
        "title": table.name,
        "type": "object",
        "properties": {column.name: _with_digits(_property(table, column.name)) for column in columns},
        "required": [column.name for column in columns if column.is_required],
    }
    return _with_references(schema, references_of(table), "May be given")


def _with_references(schema: Schema, references: Iterable[ReferenceField], when: str) -> Schema:
    """The schema of a record that may have these fields in place of their columns, which are not required then."""
    properties = dict(schema["properties"])
    for each in references:
        key = {each.key.name: _with_items(each.key.type.schema)}
        value = {**each.schema, "properties": key}
        if each.name == each.column:
            properties[each.name] = {"anyOf": [properties[each.name], value]}
        else:
            choices = {"anyOf": [value, {"type": "null"}]} if each.is_nullable else value
            properties[each.name] = {**choices, "description": f"{when}, in place of `{each.column}`."}
    replaced = {each.column for each in references if each.name != each.column}
    return {**schema, "properties": properties, "required": [n for n in schema["required"] if n not in replaced]}


def components_of(tables: TablesByName, taken: Collection[str]) -> dict[str, Schema]:
    """Both schemas of each table, by the names of the components that they become.

    `price_list` becomes `PriceListImport` and `PriceListExport`. If `taken` or an earlier table has such a name, in any
    case, it becomes `PriceList2Import` and so on. A direction that no role may use has no schema.
    """
    components = {}
    for (name, table), stem in zip(tables.items(), _stems(tables, taken), strict=True):
        if table.import_roles:
            about = f"A record of an import into `{name}` that creates a row."
            components[stem + IMPORT] = _component(import_schema, table, stem + IMPORT, about)
        if table.export_roles:
            about = f"A record of an export of `{name}` that has every field."
            components[stem + EXPORT] = _component(export_schema, table, stem + EXPORT, about)
    return components


def _stems(names: Collection[str], taken: Collection[str]) -> Iterator[str]:
    """Generators of clients make classes and files of the names, so those that differ only in case count as equal."""
    used = {name.lower() for name in taken}
    counts: Counter[str] = Counter()
    for name in names:
        words = "".join(map(str.capitalize, re.split("[_-]+", name)))
        stem = words
        while used & (both := {(stem + way).lower() for way in (IMPORT, EXPORT)}):
            counts[words] += 1
            stem = f"{words}{counts[words] + 1}"
        used |= both
        yield stem


def _component(schema_of: Callable[[Table], Schema], table: Table, name: str, about: str) -> Schema:
    schema = schema_of(table)
    if "$ref" in schema:  # to its own `$defs`, which a component cannot have
        [schema] = schema["$defs"].values()
    properties = {field: with_names(each) for field, each in schema["properties"].items()}
    return {**schema, "title": name, "description": about, "properties": properties}


def _property(table: Table, name: str) -> Schema:
    column = table.columns[name]
    described = {"description": column.comment} if column.comment else {}
    schema = _with_items(column.type.schema)
    if column.is_nullable and schema:
        schema = {"anyOf": [schema, {"type": "null"}]}
    return {**schema, **described}


def _with_digits(schema: Schema) -> Schema:
    """The schema of a value that may also be a string of digits, if it is an integer."""
    if "anyOf" in schema:
        return {**schema, "anyOf": [_with_digits(choice) for choice in schema["anyOf"]]}
    if schema.get("type") != "integer":
        return schema
    return {**schema, "type": ["integer", "string"], "pattern": r"^\s*[-+]?[0-9]{1,20}\s*$"}


def _with_items(node: Any) -> Any:
    """The same schema, in which every array has `items`, without which generators of clients refuse it."""
    if isinstance(node, list):
        return [_with_items(each) for each in node]
    if not isinstance(node, Mapping):
        return node
    missing: Schema = {"items": {}} if node.get("type") == "array" and "items" not in node else {}
    return {name: _with_items(each) for name, each in node.items()} | missing


def with_names(node: Any) -> Any:
    """The same schema, in which the values of enums have names if their own are too similar for generated clients."""
    if isinstance(node, list):
        return [with_names(each) for each in node]
    if not isinstance(node, dict):
        return node
    labels = node.get("enum", ())
    similar = len({_NOT_IN_A_NAME.sub("", label).lower() for label in labels}) < len(labels)
    names = {"x-enum-varnames": [f"VALUE_{number}" for number in range(len(labels))]} if similar else {}
    return {name: with_names(each) for name, each in node.items()} | names
