"""What every route of the application shares: errors, request ids, how JSON is read, what HEAD and OPTIONS tell.

In: nothing. Out: arguments for `Litestar`, to which the composition root adds its routes and its state.
"""

from __future__ import annotations

from typing import Any

from litestar.datastructures import MutableScopeHeaders
from litestar.types import Message, Scope

from wherry.http.head import HeadMiddleware, HeadRoutes
from wherry.http.problems import exception_handlers
from wherry.http.requests import JSONRequest, RequestIdMiddleware, send_request_id
from wherry.http.security import provide_caller
from wherry.http.services import provide_services


def frame() -> dict[str, Any]:
    """Keyword arguments of the application. Errors are logged by their handler, so the framework logs none."""
    return {
        "exception_handlers": exception_handlers(),
        "dependencies": {**provide_services(), **provide_caller()},
        "request_class": JSONRequest,
        "middleware": [RequestIdMiddleware(), HeadMiddleware()],
        "plugins": [HeadRoutes()],
        "before_send": [send_request_id, send_every_method],
        "logging_config": None,
    }


async def send_every_method(message: Message, scope: Scope) -> None:
    """A `before_send` hook: the `Allow` of an answer to OPTIONS names every method of the address.

    The framework's own names those of the handler that was registered first.
    """
    if message["type"] != "http.response.start" or scope.get("method") != "OPTIONS" or message["status"] != 204:
        return
    if "path_template" not in scope:  # a preflight request, which is answered before routing
        return
    routes = (route for route in scope["litestar_app"].routes if route.path_format == scope["path_template"])
    methods = {method for route in routes for method in getattr(route, "methods", ())}
    MutableScopeHeaders.from_message(message)["Allow"] = ", ".join(sorted(methods))
