"""Turns every error into the one shape that clients read: problem details (RFC 9457), with two older members.

In: whatever a handler or the framework raised. Out: `application/problem+json`; under `/api` always with `errors`, a
map of request fields to messages (a 401 also with `message`); under `/v1` always with `error`, an object of code and
message. What is not the caller's fault is logged with its traceback, and the answer tells only the request id that it
is logged under.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from types import MappingProxyType
from typing import Annotated, Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import KwargDefinition
from psycopg import OperationalError
from psycopg.errors import UndefinedColumn, UndefinedFunction, UndefinedTable

from wherry.codes import ALL_CODES
from wherry.errors import Refused, Unavailable
from wherry.http.faults import body_faults, parameter_faults
from wherry.http.requests import is_under, request_id_of

MEDIA_TYPE = "application/problem+json"
DATABASE_RETRY_SECONDS = 5
UNAUTHENTICATED = "missing authorization credentials"  # word for word what clients of the older service match
DISCONNECTED = "client disconnected prematurely"  # how the framework tells it

# Where Python 3.11 still has the phrases of RFC 7231.
_PHRASES: Mapping[int, str] = MappingProxyType(
    {413: "Content Too Large", 416: "Range Not Satisfiable", 422: "Unprocessable Content"}
)
_CODES: Mapping[int, str] = MappingProxyType(
    {
        400: "BAD_REQUEST",
        401: "UNAUTHORIZED",
        403: "FORBIDDEN",
        404: "NOT_FOUND",
        405: "METHOD_NOT_ALLOWED",
        413: "FILE_TOO_LARGE",
        415: "UNSUPPORTED_MEDIA_TYPE",
        422: "VALIDATION_FAILED",
        429: "RATE_LIMITED",
        503: "UNAVAILABLE",
    }
)
_DETAILS: Mapping[int, str] = MappingProxyType(
    {
        404: "there is nothing at this address",
        405: "this address does not take this method",
        413: "the body is larger than this address takes",
    }
)

logger = structlog.get_logger(__name__)


class ErrorMember(msgspec.Struct):
    """What capsule clients read of an error."""

    code: str
    message: str


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """A refused request, or a failed one. Under `/api` with `errors`, a 401 also with `message`; under `/v1` with
    `error`."""

    type: str
    title: str
    status: int
    detail: str
    code: Annotated[str, KwargDefinition(schema_extra={"enum": ALL_CODES})]
    errors: dict[str, list[str]] | None = None
    error: ErrorMember | None = None
    message: str | None = None
    request_id: str | None = None


@dataclass(frozen=True)
class Fault:
    """An error on its way to the client."""

    status: int
    code: str
    detail: str
    fields: Mapping[str, Sequence[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def exception_handlers() -> dict[int | type[Exception], Callable[[Request[Any, Any, Any], Exception], Response[bytes]]]:
    """The `exception_handlers` of the application: one for everything."""
    return {Exception: _answer, HTTPException: _answer}


def responses(*statuses: int) -> dict[int, ResponseSpec]:
    """The `responses` of a route that may answer with these problems, and as any may with 400 and 503."""
    return {
        status: ResponseSpec(Problem, generate_examples=False, description=phrase(status), media_type=MEDIA_TYPE)
        for status in (400, *statuses, 503)
    }


def phrase(status: int) -> str:
    """The reason phrase of a status code (RFC 9110, section 15)."""
    return _PHRASES.get(status) or HTTPStatus(status).phrase


def _answer(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    fault = fault_of(request, error)
    request_id = request_id_of(request.scope)
    if fault.status >= 500:
        _log(error, fault, request, request_id)
    headers = dict(fault.headers)
    if fault.status == 401:
        headers.setdefault("WWW-Authenticate", "Bearer")
    if fault.status in (429, 503):
        headers.setdefault("Retry-After", str(DATABASE_RETRY_SECONDS))
    return Response(
        msgspec.json.encode(problem_of(fault, request.scope["path"], request_id)),
        status_code=fault.status,
        headers=headers,
        media_type=MEDIA_TYPE,
    )


def fault_of(request: Request[Any, Any, Any], error: Exception) -> Fault:
    """What a client is told of an error."""
    if isinstance(error, Refused):
        return Fault(error.status, error.code, error.detail, error.fields, error.headers)
    if isinstance(error, Unavailable):
        return Fault(error.status, error.code, error.detail, headers=error.headers)
    if isinstance(error, (UndefinedTable, UndefinedColumn, UndefinedFunction)):
        return Fault(503, "MIGRATIONS_PENDING", "the database is not at this version's schema; run: wherry migrate")
    if isinstance(error, OperationalError):  # the pool's time-outs are among these
        return Fault(503, "DATABASE_ERROR", "the database does not answer; try again")
    if isinstance(error, ValidationException):
        return _wrong_shape(request, error)
    if isinstance(error, HTTPException) and error.status_code < 500:
        return _refused_by_framework(error)
    return Fault(500, "INTERNAL_ERROR", "something went wrong here; the log has it under the request id")


def _refused_by_framework(error: HTTPException) -> Fault:
    detail = _DETAILS.get(error.status_code, error.detail)
    headers = {name.title(): value for name, value in (error.headers or {}).items()}
    return Fault(error.status_code, _CODES.get(error.status_code, "BAD_REQUEST"), detail, headers=headers)


def _wrong_shape(request: Request[Any, Any, Any], error: ValidationException) -> Fault:
    fields = parameter_faults(request, error) or body_faults(request)
    detail = "; ".join(f"{name} {text}" for name, texts in fields.items() for text in texts)
    return Fault(422, "VALIDATION_FAILED", detail or "the request has the wrong shape", fields)


def problem_of(fault: Fault, path: str, request_id: str | None = None) -> Problem:
    """An error as the client of a path sees it."""
    problem = Problem(
        type="about:blank", title=phrase(fault.status), status=fault.status, detail=fault.detail, code=fault.code
    )
    if is_under(path, "/api"):
        problem.errors = {name: list(messages) for name, messages in fault.fields.items()}
        if fault.status == 401:
            problem.errors.setdefault("token", ["is invalid"])
            problem.message = UNAUTHENTICATED
    if is_under(path, "/v1"):
        problem.error = ErrorMember(fault.code, fault.detail)
    if fault.status >= 500:
        problem.request_id = request_id
    return problem


def _log(error: Exception, fault: Fault, request: Request[Any, Any, Any], request_id: str) -> None:
    entry = logger.bind(requestId=request_id, method=request.method, path=request.scope["path"], code=fault.code)
    if isinstance(error, HTTPException) and error.detail == DISCONNECTED:
        entry.info("the client went away")
    elif fault.status == 500:
        entry.error("request failed", exc_info=error)
    elif isinstance(error, Unavailable) and error.__cause__ is None:  # raised on purpose: it says everything itself
        entry.warning("request could not be served", reason=fault.detail)
    else:
        entry.warning("request could not be served", exc_info=error)
