"""Serves the description of every route as JSON, and nothing that loads scripts from elsewhere.

In: nothing. Out: the `openapi_config` of the application: `/openapi.json`, and no other address.
"""

from __future__ import annotations

from importlib.metadata import version

from litestar import Router
from litestar.handlers import BaseRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components
from litestar.routes import BaseRoute
from litestar.types import ControllerRouterHandler

from wherry.http.security import security_schemes

_CATCH_ALL = "/{path:str}"


class _Rendered(Router):
    """Takes the routes that plugins render, but not the framework's page for every other address.

    That page is HTML, and would answer for the whole first level of addresses, where a problem belongs.
    """

    def register(self, value: ControllerRouterHandler) -> list[BaseRoute]:
        if isinstance(value, BaseRouteHandler) and _CATCH_ALL in value.paths:
            return []
        return super().register(value)


def documentation() -> OpenAPIConfig:
    """What `/openapi.json` says of the whole, and how it is served."""
    config = OpenAPIConfig(
        title="wherry",
        version=version("wherry"),
        components=Components(security_schemes={**security_schemes()}),
        render_plugins=[JsonRenderPlugin()],
        openapi_router=_Rendered("/", route_handlers=[], include_in_schema=False),
    )
    config.default_plugin = None  # it would have "/" too
    return config
