"""JSON Schemas of types, as the OpenAPI document shows them.

msgspec derives them. Two things are added to what it knows: properties that are read more loosely than they are
documented, and names for enumerations that are no classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from wherry.resources.registry import RESOURCES

Schema = dict[str, Any]
REFERENCE = "#/components/schemas/{name}"
NULL = {"type": "null"}
NOT_NULL = "x-not-null"
"""Marks a property that is read if it is null, so that the fault can be reported with the others, but then refused."""

Binary: TypeAlias = Annotated[str, Meta(extra_json_schema={"format": "binary"})]
"""The bytes of a file."""


def one_of(name: str, values: Iterable[str]) -> Meta:
    """One of these words. The OpenAPI document lists them once, under this name."""
    return Meta(extra_json_schema={"title": name, "enum": sorted(values)})


ResourceName: TypeAlias = Annotated[str, one_of("ResourceName", RESOURCES)]


def schemas_of(*annotations: Any) -> tuple[list[Schema], dict[str, Schema]]:
    """The schemas of these types, and by name those that they refer to."""
    schemas, components = msgspec.json.schema_components(annotations, ref_template=REFERENCE)
    named: dict[str, Schema] = {}
    for name, component in components.items():
        named[name] = _tidied(component)
        if properties := component.get("properties"):
            component["properties"] = {member: _named(schema, named) for member, schema in properties.items()}
    return [_named(schema, named) for schema in schemas], named


def without_null(schema: Schema) -> Schema:
    """The same, but for null."""
    kept = [choice for choice in schema.get("anyOf", ()) if choice != NULL]
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    if rest.get("default", NULL) is None:
        del rest["default"]
    return rest | (kept[0] if len(kept) == 1 else {"anyOf": kept} if kept else {})


def _tidied(component: Schema) -> Schema:
    if "enum" in component:
        component["type"] = "string"
    for name, schema in component.get("properties", {}).items():
        optional = schema.get("default", NULL) is not None
        if schema.pop(NOT_NULL, False):
            component["properties"][name] = without_null(schema)
            component["required"] += [] if optional else [name]
        elif not optional:
            del schema["default"]
    return component


def _named(node: Any, named: dict[str, Schema]) -> Any:
    """The same with a reference in place of each enumeration that has a name."""
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
