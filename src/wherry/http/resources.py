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
from wherry.http.table_schemas import export_schema, import_schema
from wherry.tables.model import Table
from wherry.tables.registry import TablesByName, exportable_by, find_table, importable_by


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
    exported: Annotated[
        dict[str, Any] | None,
        Meta(description="A record of an export that has every field; null if the caller may not export the table."),
    ] = msgspec.field(name="export")
    imported: Annotated[
        dict[str, Any] | None,
        Meta(description="A record of an import; null if the caller may not import into the table."),
    ] = msgspec.field(name="import")


@get(
    "/resources",
    response_description="What the caller may use.",
    responses=responses(*BY_TOKEN),
)
async def list_resources(request: AccountRequest, services: Injected[Services]) -> ResourceList:
    """The tables. Lists those that the caller may import into or export from."""
    tables, role = await services.tables.current(), request.user.role
    return ResourceList([_item(table, role) for table in _usable_by(tables, role).values()])


@get(
    "/resources/{name:str}/schema",
    response_description="The schemas.",
    responses=responses(*BY_TOKEN, UnsupportedResource),
)
async def get_record_schemas(
    request: AccountRequest, name: FromPath[str], services: Injected[Services]
) -> RecordSchemas:
    """What a table's records look like. Returns the JSON Schemas of its import and export records."""
    role = request.user.role
    table = find_table(_usable_by(await services.tables.current(), role), name)
    return RecordSchemas(
        table.name,
        export_schema(table) if role in table.export_roles else None,
        import_schema(table) if role in table.import_roles else None,
    )


def _usable_by(tables: TablesByName, role: str) -> TablesByName:
    return {**exportable_by(tables, role), **importable_by(tables, role)}


def _item(table: Table, role: str) -> ResourceItem:
    return ResourceItem(
        name=table.name,
        table=str(table.relation),
        key=list(table.key),
        fields=list(table.fields),
        filters=[each.column for each in table.filters],
        can_import=role in table.import_roles,
        can_export=role in table.export_roles,
    )


resource_router = Router("/", route_handlers=[list_resources, get_record_schemas], tags=["resources"])
