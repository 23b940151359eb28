"""The routes that say which tables there are, and what their records look like."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Router, get
from litestar.params import FromPath
from msgspec import Meta, Struct

from wherry.errors import UnsupportedResource
from wherry.http.problems import responses
from wherry.http.security import BY_TOKEN, AccountRequest
from wherry.http.services import Injected, Services
from wherry.resources.registry import RESOURCES
from wherry.tables.model import Table
from wherry.tables.registry import exportable_by, find_table

JSON_SCHEMA = "https://json-schema.org/draft/2020-12/schema"


class ResourceItem(Struct, rename="camel"):
    """A table that records can be moved to or from."""

    name: str
    table: Annotated[str, Meta(description="Schema and name in PostgreSQL.")]
    key: Annotated[list[str], Meta(description="The fields that identify a record; none if the table has no key.")]
    fields: list[str]
    filters: Annotated[list[str], Meta(description="The fields that an export can select by.")]
    can_import: bool
    can_export: bool


class ResourceList(Struct):
    """What the caller may use."""

    resources: list[ResourceItem]


class RecordSchemas(Struct, rename="camel"):
    """JSON Schemas (2020-12) of a table's records."""

    name: str
    exported: Annotated[dict[str, Any], Meta(description="A record of an export that has every field.")] = (
        msgspec.field(name="export")
    )
    imported: Annotated[
        dict[str, Any] | None, Meta(description="A record of an import; null if the table cannot be imported into.")
    ] = msgspec.field(name="import")


@get(
    "/resources",
    response_description="What the caller may use.",
    responses=responses(*BY_TOKEN),
)
async def list_resources(request: AccountRequest, services: Injected[Services]) -> ResourceList:
    """The tables. Lists those that the caller may import into or export from."""
    tables = exportable_by(await services.tables.current(), request.user.role)
    return ResourceList([_item(table) for table in tables.values()])


@get(
    "/resources/{name:str}/schema",
    response_description="The schemas.",
    responses=responses(*BY_TOKEN, UnsupportedResource),
)
async def get_record_schemas(
    request: AccountRequest, name: FromPath[str], services: Injected[Services]
) -> RecordSchemas:
    """What a table's records look like. Returns the JSON Schemas of its import and export records."""
    table = find_table(exportable_by(await services.tables.current(), request.user.role), name)
    imported = None
    if table.name in RESOURCES and table.is_built_in:
        imported = msgspec.json.schema(RESOURCES[table.name].shape.record)
    return RecordSchemas(table.name, export_schema(table), imported)


def export_schema(table: Table) -> dict[str, Any]:
    """The JSON Schema of a record that has every field."""
    return {
        "$schema": JSON_SCHEMA,
        "title": table.name,
        "type": "object",
        "properties": {name: _property(table, name) for name in table.fields},
        "required": list(table.fields),
        "additionalProperties": False,
    }


def _property(table: Table, name: str) -> dict[str, Any]:
    column = table.columns[name]
    described = {"description": column.comment} if column.comment else {}
    schema = dict(column.type.schema)
    if column.is_nullable and schema:
        schema = {"anyOf": [schema, {"type": "null"}]}
    return {**schema, **described}


def _item(table: Table) -> ResourceItem:
    return ResourceItem(
        name=table.name,
        table=str(table.relation),
        key=list(table.key),
        fields=list(table.fields),
        filters=[each.column for each in table.filters],
        can_import=table.is_built_in,
        can_export=True,
    )


resource_router = Router("/", route_handlers=[list_resources, get_record_schemas], tags=["resources"])
