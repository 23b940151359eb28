"""Sets up Litestar: options that apply to every route, and HEAD and OPTIONS as RFC 9110 requires them."""

from __future__ import annotations

from copy import copy
from typing import Any, cast

from litestar.datastructures import MutableScopeHeaders
from litestar.di import Provide
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler
from litestar.plugins import ReceiveRoutePlugin
from litestar.routes import BaseRoute, HTTPRoute
from litestar.types import ASGIApp, HTTPScope, Message, Receive, ReceiveMessage, Scope, Send

from wherry.http.problems import exception_handlers
from wherry.http.requests import JSONRequest, RequestIdMiddleware, send_request_id
from wherry.http.services import services_of


def litestar_options() -> dict[str, Any]:
    """Arguments for `Litestar`, without routes and state. The exception handler logs errors, so Litestar logs none."""
    return {
        "exception_handlers": exception_handlers(),
        "dependencies": {"services": Provide(services_of, sync_to_thread=False)},
        "request_class": JSONRequest,
        "middleware": [RequestIdMiddleware, HeadMiddleware],
        "plugins": [HeadRoutes()],
        "before_send": [send_request_id, send_allowed_methods],
        "logging_config": None,
    }


class HeadRoutes(ReceiveRoutePlugin):
    """Adds HEAD to routes that have only GET (RFC 9110, section 9.1), for routing and for the header `Allow`."""

    def receive_route(self, route: BaseRoute) -> None:
        """Called for every route when it is registered."""
        if not isinstance(route, HTTPRoute) or "GET" not in route.methods or "HEAD" in route.methods:
            return
        handler, parameters = route.route_handler_map["GET"]
        undocumented = copy(handler)
        undocumented._resolved_include_in_schema = False  # already resolved; the OpenAPI document has only GET
        route.route_handler_map["HEAD"] = (undocumented, parameters)
        route.methods.add("HEAD")


class HeadMiddleware:
    """Responds to HEAD with the status and headers of GET (RFC 9110, section 9.3.2), unless a route has its own HEAD.

    The handler runs as for GET. A stream ends before its first byte.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        http_scope = cast(HTTPScope, scope)
        declared = cast(HTTPRouteHandler, scope["route_handler"]).http_methods
        if http_scope["method"] != "HEAD" or "HEAD" in declared:
            await self._app(scope, receive, send)
            return
        sent = False

        async def send_head(message: Message) -> None:
            nonlocal sent
            if message["type"] == "http.response.start":
                sent = True
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        async def receive_until_sent() -> ReceiveMessage:
            # Once the headers are sent, pretend that the client has disconnected, which ends a stream.
            return {"type": "http.disconnect"} if sent else await receive()

        # A copy, because the server reads the original's method to know that the response has no body.
        as_get = http_scope.copy()
        as_get["method"] = HttpMethod.GET
        await self._app(as_get, receive_until_sent, send_head)


async def send_allowed_methods(message: Message, scope: Scope) -> None:
    """A `before_send` hook: `Allow` in a response to OPTIONS lists every method of the path.

    Litestar itself lists only the methods of the handler that was registered first.
    """
    if message["type"] != "http.response.start" or scope.get("method") != "OPTIONS" or message["status"] != 204:
        return
    if "path_template" not in scope:  # a preflight request, which never reaches a route
        return
    routes = (route for route in scope["litestar_app"].routes if route.path_format == scope["path_template"])
    methods = {method for route in routes for method in getattr(route, "methods", ())}
    MutableScopeHeaders.from_message(message)["Allow"] = ", ".join(sorted(methods))
