"""What every route of the application shares: errors, request ids, how JSON is read.

In: nothing. Out: arguments for `Litestar`, to which the composition root adds its routes and its state.
"""

from __future__ import annotations

from typing import Any

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
        "middleware": [RequestIdMiddleware()],
        "before_send": [send_request_id],
        "logging_config": None,
    }
