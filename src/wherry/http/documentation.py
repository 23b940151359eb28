"""Serves the OpenAPI document at `/openapi.json`, but no HTML viewer, because viewers load scripts from other hosts.

litestar derives the operations from the types of their handlers. A handler's name becomes the operation's id, and the
first sentence of its docstring becomes the summary. msgspec derives the schemas of the Structs that the
operations refer to, with their docstrings as descriptions. The schemas of tables' records are derived from the tables,
which can change while the service runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any

import msgspec
import psycopg
from litestar import Litestar, Request, Router
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.openapi import spec
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.routes import BaseRoute
from litestar.types import ControllerRouterHandler, Method

from wherry.http.described import FIELDS, JSON, Components, Described
from wherry.http.examples import BODIES, RESPONSES
from wherry.http.schemas import RESOURCE_NAME, schemas_of
from wherry.http.security import SECURITY_SCHEMES
from wherry.http.services import services_of
from wherry.http.table_schemas import components_of, with_names
from wherry.tables.registry import TablesByName

_SENTENCE_END = re.compile(r"\.(?=\s|$)")
_CATCH_ALL = "/{path:str}"
_UNKNOWN: TablesByName = {}


class _Rendered(Router):
    """Registers the routes of the plugins, but not the framework's HTML page for unknown routes.

    Without that page, unknown routes get a problem document.
    """

    def register(self, value: ControllerRouterHandler) -> list[BaseRoute]:
        if isinstance(value, BaseRouteHandler) and _CATCH_ALL in value.paths:
            return []
        return super().register(value)


class _Completed(JsonRenderPlugin):
    """Completes the document that litestar derives, the first time that it is requested, and whenever tables change."""

    def __init__(self) -> None:
        super().__init__()
        self._is_complete = False
        self._tables: TablesByName | None = None
        self._rendered = b""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        if not self._is_complete:
            _complete(request.app, openapi_schema)
            self._is_complete = True
        tables: TablesByName = request.state.tables
        if self._tables is not tables:
            names = services_of(request).tables.names
            self._rendered = super().render(request, _with_tables(openapi_schema, tables, names))
            self._tables = tables
        return self._rendered


async def _read_tables(request: Request[Any, Any, Any]) -> None:
    """Before the document is rendered. If the tables cannot be read, the rest of the document is still served."""
    try:
        request.state.tables = await services_of(request).tables.current()
    except psycopg.OperationalError:
        request.state.tables = _UNKNOWN


def _with_tables(document: dict[str, Any], tables: TablesByName, names: Iterable[str]) -> dict[str, Any]:
    """The document with the schemas of the tables' records.

    Everybody may read them, whatever role the tables require: tools that generate clients have no token, and only
    tables that somebody chose to declare are shown. They have names, types and comments of columns, and labels of
    enums, but no data and no excluded column.
    """
    schemas: Components = document["components"]["schemas"]
    resource_name = with_names({**schemas[RESOURCE_NAME], "enum": list(names)})
    every = schemas | {RESOURCE_NAME: resource_name} | components_of(tables, schemas)
    return {**document, "components": {**document["components"], "schemas": dict(sorted(every.items()))}}


def _complete(app: Litestar, document: dict[str, Any]) -> None:
    schemas: Components = document["components"]["schemas"]
    for handler, operation in _operations(app, document["paths"]):
        schemas |= schemas_of(*_structs(handler))[1]
        operation["summary"] = _SENTENCE_END.split(operation.pop("description"))[0]
        handler.opt.get("described", Described()).complete(operation, schemas)
        _add_examples(operation)


def _operations(app: Litestar, paths: dict[str, Any]) -> Iterator[tuple[HTTPRouteHandler, dict[str, Any]]]:
    """The documented handlers, with their operations."""
    for route in app.routes:
        for method, (handler, _) in getattr(route, "route_handler_map", {}).items():
            operation = paths.get(route.path_format, {}).get(method.lower())
            if operation is not None:
                yield handler, operation


def _structs(handler: HTTPRouteHandler) -> Iterator[type[msgspec.Struct]]:
    """The Structs that a handler takes and returns; not a union of them, but its members."""
    returned = handler.parsed_fn_signature.return_type
    fields = (returned, *returned.inner_types, handler.parsed_data_field)
    return (
        field.annotation for field in fields if field and not field.is_union and field.is_subclass_of(msgspec.Struct)
    )


def _add_examples(operation: dict[str, Any]) -> None:
    name = operation["operationId"]
    if name in BODIES:
        operation["requestBody"]["content"][JSON]["example"] = BODIES[name]
    for status, response in operation["responses"].items():
        if status < "300" and name in RESPONSES and JSON in response.get("content", ()):
            response["content"][JSON]["example"] = msgspec.to_builtins(RESPONSES[name])


def _operation_id(handler: HTTPRouteHandler, method: Method, _path: object) -> str:
    """The handler's name in camel case; for HEAD, the first word is `head`."""
    verb, *words = handler.handler_name.split("_")
    return "".join(["head" if method == "HEAD" else verb, *map(str.capitalize, words)])


def documentation() -> OpenAPIConfig:
    """The metadata of the OpenAPI document, and how it is served."""
    config = OpenAPIConfig(
        title="wherry",
        version=version("wherry"),
        use_handler_docstrings=True,
        operation_id_creator=_operation_id,
        components=spec.Components(security_schemes={**SECURITY_SCHEMES}, headers={**FIELDS}),
        render_plugins=[_Completed()],
        openapi_router=_Rendered("/", route_handlers=[], include_in_schema=False, before_request=_read_tables),
    )
    config.default_plugin = None  # it would also be served at "/"
    return config
