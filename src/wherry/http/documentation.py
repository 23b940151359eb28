"""Serves the OpenAPI document at `/openapi.json`, but no HTML viewer, because viewers load scripts from other hosts.

litestar derives the operations from the types of their handlers. A handler's name becomes the operation's id, and the
first sentence of its docstring becomes the summary. msgspec derives the schemas of the Structs that the
operations refer to, with their docstrings as descriptions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

import msgspec
from litestar import Litestar, Request, Router
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components
from litestar.routes import BaseRoute, HTTPRoute
from litestar.types import ControllerRouterHandler, Method

from wherry.http.described import FIELDS, JSON, components_of, header_fields
from wherry.http.examples import BODIES, RESPONSES
from wherry.http.schemas import Schema, schemas_of
from wherry.http.security import security_schemes

_SENTENCE_END = re.compile(r"\.(?=\s|$)")
_CATCH_ALL = "/{path:str}"
_FIELDS_OF: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "401": ("WWW-Authenticate",),
        "415": ("Accept", "Accept-Encoding"),
        "429": ("Retry-After", "RateLimit", "RateLimit-Policy"),
        "503": ("Retry-After",),
    }
)
"""Header fields, by status, that responses have on every route."""


class _Rendered(Router):
    """Registers the routes of the plugins, but not the framework's HTML page for unknown routes.

    Without that page, unknown routes get a problem document.
    """

    def register(self, value: ControllerRouterHandler) -> list[BaseRoute]:
        if isinstance(value, BaseRouteHandler) and _CATCH_ALL in value.paths:
            return []
        return super().register(value)


class _Completed(JsonRenderPlugin):
    """Completes the document that litestar derives, the first time that it is requested."""

    def __init__(self) -> None:
        super().__init__()
        self._rendered = b""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        if not self._rendered:
            schemas = openapi_schema["components"]["schemas"] | _schemas(request.app)
            openapi_schema["components"]["schemas"] = dict(sorted(schemas.items()))
            for operations in openapi_schema["paths"].values():
                for operation in operations.values():
                    operation["summary"] = _SENTENCE_END.split(operation.pop("description"))[0]
                    _add_fields(operation)
                    _add_examples(operation)
            self._rendered = super().render(request, openapi_schema)
        return self._rendered


def _schemas(app: Litestar) -> dict[str, Schema]:
    """The components that the routes refer to."""
    _, found = schemas_of(*_structs(app))
    for handler in _handlers(app):
        found |= components_of(handler.operation_class)
    return found


def _add_fields(operation: dict[str, Any]) -> None:
    for status, response in operation["responses"].items():
        fields = header_fields(*_FIELDS_OF.get(status, ()), "X-Request-Id")
        response.setdefault("headers", {}).update({name: each.to_schema() for name, each in fields.items()})


def _add_examples(operation: dict[str, Any]) -> None:
    name = operation["operationId"]
    if name in BODIES:
        operation["requestBody"]["content"][JSON]["example"] = BODIES[name]
    for status, response in operation["responses"].items():
        if status < "300" and name in RESPONSES and JSON in response.get("content", ()):
            response["content"][JSON]["example"] = msgspec.to_builtins(RESPONSES[name])


def _handlers(app: Litestar) -> Iterator[HTTPRouteHandler]:
    routes = (route for route in app.routes if isinstance(route, HTTPRoute))
    return (handler for route in routes for handler, _ in route.route_handler_map.values())


def _structs(app: Litestar) -> Iterator[type[msgspec.Struct]]:
    """The Structs that handlers take and return."""
    for handler in _handlers(app):
        returned = handler.parsed_fn_signature.return_type
        fields = (returned, *returned.inner_types, handler.parsed_data_field)
        yield from (field.annotation for field in fields if field and field.is_subclass_of(msgspec.Struct))


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
        components=Components(security_schemes={**security_schemes()}, headers={**FIELDS}),
        render_plugins=[_Completed()],
        openapi_router=_Rendered("/", route_handlers=[], include_in_schema=False),
    )
    config.default_plugin = None  # it would also be served at "/"
    return config
