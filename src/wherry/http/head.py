"""Answers HEAD wherever GET is answered (RFC 9110, sections 9.1 and 9.3.2).

In: a HEAD request for an address that declares only GET. Out: the status and the fields that GET would be answered
with, and no body: a stream is ended before it has begun. Routes that declare HEAD themselves are left alone.
"""

from __future__ import annotations

from copy import copy
from typing import cast

from litestar.enums import HttpMethod, ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.plugins import ReceiveRoutePlugin
from litestar.routes import BaseRoute, HTTPRoute
from litestar.types import ASGIApp, HTTPScope, Message, Receive, ReceiveMessage, Scope, Send


class HeadRoutes(ReceiveRoutePlugin):
    """Gives the handler of GET the method HEAD too, so that routing and `Allow` know it."""

    def receive_route(self, route: BaseRoute) -> None:
        """Called for every route before requests can find it."""
        if not isinstance(route, HTTPRoute) or "GET" not in route.methods or "HEAD" in route.methods:
            return
        handler, parameters = route.route_handler_map["GET"]
        undescribed = copy(handler)
        undescribed._resolved_include_in_schema = False  # it is resolved by now; the description names GET only
        route.route_handler_map["HEAD"] = (undescribed, parameters)
        route.methods.add("HEAD")


class HeadMiddleware(ASGIMiddleware):
    """Lets the handler answer a GET, and sends the head of its answer only."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Serve one request."""
        http_scope = cast(HTTPScope, scope)
        declared = cast(HTTPRouteHandler, scope["route_handler"]).http_methods
        if http_scope["method"] != "HEAD" or "HEAD" in declared:
            await next_app(scope, receive, send)
            return
        answered = False

        async def send_head(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        async def receive_until_answered() -> ReceiveMessage:
            # A stream stops as it does for a client that goes away.
            return {"type": "http.disconnect"} if answered else await receive()

        # A copy: the server reads its own to know that this answer has no body.
        as_get = http_scope.copy()
        as_get["method"] = HttpMethod.GET
        await next_app(as_get, receive_until_answered, send_head)
