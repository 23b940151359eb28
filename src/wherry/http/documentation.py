"""Serves the description of every route as JSON, and nothing that loads scripts from elsewhere.

In: nothing. Out: the `openapi_config` of the application: `/openapi.json`, and no other address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

from litestar import Request, Router
from litestar.handlers import BaseRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components
from litestar.routes import BaseRoute
from litestar.types import ControllerRouterHandler

from wherry.http.described import FIELDS, field_of_answers
from wherry.http.security import security_schemes

_CATCH_ALL = "/{path:str}"
_FIELDS_OF: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "401": ("WWW-Authenticate",),
        "415": ("Accept", "Accept-Encoding"),
        "429": ("Retry-After", "RateLimit", "RateLimit-Policy"),
        "503": ("Retry-After",),
    }
)


class _Rendered(Router):
    """Takes the routes that plugins render, but not the framework's page for every other address.

    That page is HTML, and would answer for the whole first level of addresses, where a problem belongs.
    """

    def register(self, value: ControllerRouterHandler) -> list[BaseRoute]:
        if isinstance(value, BaseRouteHandler) and _CATCH_ALL in value.paths:
            return []
        return super().register(value)


class _WithFields(JsonRenderPlugin):
    """Adds to every answer the header fields that its status has on every route.

    The description is kept from one request to the next; adding them again changes nothing.
    """

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        for operations in openapi_schema["paths"].values():
            for operation in operations.values():
                for status, answer in operation["responses"].items():
                    fields = answer.setdefault("headers", {})
                    fields |= {name: field_of_answers(name).to_schema() for name in _FIELDS_OF.get(status, ())}
                    fields["X-Request-Id"] = field_of_answers("X-Request-Id").to_schema()
        return super().render(request, openapi_schema)


def documentation() -> OpenAPIConfig:
    """What `/openapi.json` says of the whole, and how it is served."""
    config = OpenAPIConfig(
        title="wherry",
        version=version("wherry"),
        components=Components(security_schemes={**security_schemes()}, headers={**FIELDS}),
        render_plugins=[_WithFields()],
        openapi_router=_Rendered("/", route_handlers=[], include_in_schema=False),
    )
    config.default_plugin = None  # it would have "/" too
    return config
