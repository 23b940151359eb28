"""Derives JSON Schemas from types, for the OpenAPI document.

msgspec does most of the work. Two things are changed: properties that are parsed leniently (`NOT_NULL`) are documented
strictly, and enumerations that are not classes get names (`one_of`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from wherry.accounts.models import NOT_NULL

Schema = dict[str, Any]
REFERENCE = "#/components/schemas/{name}"
NULL = {"type": "null"}
RESOURCE_NAME = "ResourceName"
Binary: TypeAlias = Annotated[str, Meta(extra_json_schema={"format": "binary"})]
"""The bytes of a file."""


def one_of(name: str, values: Iterable[str]) -> Meta:
    """One of these values; the enumeration becomes a component with this name."""
    return Meta(extra_json_schema={"title": name, "enum": sorted(values)})


TableName: TypeAlias = Annotated[
    str,
    one_of(RESOURCE_NAME, ()),
    Meta(
        description=(
            "A table. If it is `price_list`, the schemas `PriceListImport` and `PriceListExport` describe its records; "
            "`GET /api/v1/resources` lists the tables that the caller may use."
        )
    ),
]
"""The OpenAPI document lists the tables in the component `RESOURCE_NAME`, once it knows them."""


def schemas_of(*annotations: Any) -> tuple[list[Schema], dict[str, Schema]]:
    """The schemas of these types, and the components that they refer to, by name."""
    schemas, components = msgspec.json.schema_components(annotations, ref_template=REFERENCE)
    named: dict[str, Schema] = {}
    for name, component in components.items():
        named[name] = _tidied(component)
        if properties := component.get("properties"):
            component["properties"] = {member: _named(schema, named) for member, schema in properties.items()}
    return [_named(schema, named) for schema in schemas], named


def without_null(schema: Schema) -> Schema:
    """The schema of the same values except null."""
    kept = [choice for choice in schema.get("anyOf", ()) if choice != NULL]
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    return rest | (kept[0] if len(kept) == 1 else {"anyOf": kept} if kept else {})


def _tidied(component: Schema) -> Schema:
    if "enum" in component:
        component["type"] = "string"
    for name, schema in component.get("properties", {}).items():
        is_null_by_default = schema.get("default", NULL) is None
        if is_null_by_default:
            del schema["default"]
        if schema.pop(NOT_NULL, False):
            component["properties"][name] = without_null(schema)
            component["required"] += [name] if is_null_by_default else []
    return component


def _named(node: Any, named: dict[str, Schema]) -> Any:
    """The node with every named enumeration moved to `named` and replaced by a reference."""
    if isinstance(node, list):
        return [_named(item, named) for item in node]
    if not isinstance(node, dict):
        return node
    if "title" in node and "enum" in node:
        rest = dict(node)
        name = rest.pop("title")
        named[name] = {"title": name, "type": "string", "enum": rest.pop("enum")}
        rest.pop("type", None)
        return {"$ref": REFERENCE.format(name=name), **rest}
    return {name: _named(item, named) for name, item in node.items()}
