"""Turns every error into a problem response (RFC 9457), with the members that older clients read.

Under `/api` a problem has `errors`, which maps request fields to messages, and a 401 also has `message`. Under `/v1` it
has `error`, with `code` and `message`. Errors that are not the client's fault are logged with a traceback, under the
request id of the response.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import KwargDefinition
from psycopg import OperationalError
from psycopg.errors import UndefinedColumn, UndefinedFunction, UndefinedTable

from wherry.errors import (
    CODES,
    DatabaseUnavailable,
    InternalError,
    Invalid,
    Malformed,
    MalformedJson,
    MigrationsPending,
    Refused,
    RequestError,
    TooLarge,
    Unavailable,
    UnsupportedMedia,
)
from wherry.http.faults import body_faults
from wherry.http.requests import is_under, request_id_of

MEDIA_TYPE = "application/problem+json"
UNAUTHENTICATED = "missing authorization credentials"  # clients of the older service match this text
DISCONNECTED = "client disconnected prematurely"  # Litestar's text

# Reason phrases of RFC 9110 that Python 3.11 has in an older form.
_PHRASES: Mapping[int, str] = {413: "Content Too Large", 416: "Range Not Satisfiable", 422: "Unprocessable Content"}
_BY_STATUS: Mapping[int, type[Refused]] = {kind.status: kind for kind in Refused.__subclasses__()}
ANY_ROUTE: tuple[type[RequestError], ...] = (Malformed, DatabaseUnavailable, MigrationsPending, Unavailable)
"""Errors that every route may raise."""

JSON_BODY: tuple[type[RequestError], ...] = (MalformedJson, TooLarge, UnsupportedMedia, Invalid)
"""Errors that any route with a JSON body may raise."""

logger = structlog.get_logger(__name__)


class ErrorMember(msgspec.Struct):
    """The part of an error that capsule clients read."""

    code: str
    message: str


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """An error. Under `/api` it has `errors`, and a 401 also `message`; under `/v1` it has `error`."""

    type: str
    title: str
    status: int
    detail: str
    code: Annotated[str, KwargDefinition(schema_extra={"enum": CODES})]
    errors: dict[str, list[str]] | None = None
    error: ErrorMember | None = None
    message: str | None = None
    request_id: str | None = None


def exception_handlers() -> dict[int | type[Exception], Callable[[Request[Any, Any, Any], Exception], Response[bytes]]]:
    """The `exception_handlers` of the application: one for all exceptions."""
    return {Exception: _respond, HTTPException: _respond}


def responses(*errors: type[RequestError]) -> dict[int, ResponseSpec]:
    """The `responses` of a route that may raise these errors, in addition to those of every route."""
    by_status: dict[int, list[str]] = {}
    for error in dict.fromkeys((*errors, *ANY_ROUTE)):
        by_status.setdefault(error.status, []).append(f"`{error.code}`: {error.__doc__}")
    return {
        status: ResponseSpec(
            Problem,
            generate_examples=False,
            description="\n\n".join([phrase(status), *sentences]),
            media_type=MEDIA_TYPE,
        )
        for status, sentences in sorted(by_status.items())
    }


def phrase(status: int) -> str:
    """The reason phrase of a status code (RFC 9110, section 15)."""
    return _PHRASES.get(status) or HTTPStatus(status).phrase


def _respond(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    answered = error_of(request, error)
    request_id = request_id_of(request.scope)
    if answered.status >= 500:
        _log(error, answered, request, request_id)
    return Response(
        msgspec.json.encode(problem_of(answered, request.scope["path"], request_id)),
        status_code=answered.status,
        headers=answered.headers,
        media_type=MEDIA_TYPE,
    )


def error_of(request: Request[Any, Any, Any], error: Exception) -> RequestError:
    """The error as the client sees it."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, (UndefinedTable, UndefinedColumn, UndefinedFunction)):
        return MigrationsPending("the database does not have this version's schema; run: wherry migrate")
    if isinstance(error, OperationalError):  # includes timeouts of the pool
        return DatabaseUnavailable("the database does not answer; try again")
    if isinstance(error, ValidationException):
        return _wrong_shape(request)
    if isinstance(error, HTTPException) and error.status_code < 500:
        return _refused_by_litestar(error)
    return InternalError("internal error; the server's log has the details under the requestId")


def _refused_by_litestar(error: HTTPException) -> Refused:
    headers = {name.title(): value for name, value in (error.headers or {}).items()}
    details = {
        404: "no such route",
        405: f"method not allowed: use {headers.get('Allow', 'another')}",
        413: "the body is too large for this route",
    }
    kind = _BY_STATUS.get(error.status_code, Malformed)
    return kind(details.get(error.status_code, error.detail), headers=headers)


def _wrong_shape(request: Request[Any, Any, Any]) -> Invalid:
    fields = body_faults(request)
    detail = "; ".join(f"{name} {text}" for name, texts in fields.items() for text in texts)
    return Invalid(detail or "the request has the wrong shape", fields=fields)


def problem_of(error: RequestError, path: str, request_id: str | None = None) -> Problem:
    """The body of the response to a request for a path."""
    problem = Problem(
        type="about:blank", title=phrase(error.status), status=error.status, detail=error.detail, code=error.code
    )
    if is_under(path, "/api"):
        problem.errors = {name: list(messages) for name, messages in error.fields.items()}
        if error.status == 401:
            problem.errors.setdefault("token", ["is invalid"])
            problem.message = UNAUTHENTICATED
    if is_under(path, "/v1"):
        problem.error = ErrorMember(error.code, error.detail)
    if error.status >= 500:
        problem.request_id = request_id
    return problem


def _log(error: Exception, answered: RequestError, request: Request[Any, Any, Any], request_id: str) -> None:
    entry = logger.bind(requestId=request_id, method=request.method, path=request.scope["path"], code=answered.code)
    if isinstance(error, HTTPException) and error.detail == DISCONNECTED:
        entry.info("the client disconnected")
    elif answered.status == 500:
        entry.error("request failed", exc_info=error)
    elif isinstance(error, Unavailable) and error.__cause__ is None:  # raised on purpose, so its message is enough
        entry.warning("request could not be served", reason=answered.detail)
    else:
        entry.warning("request could not be served", exc_info=error)
