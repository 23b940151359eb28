"""Adds to the OpenAPI document what cannot be derived from the types of a handler.

This concerns queries and bodies that the handler parses itself, files, header fields, and further statuses with the
same response body.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Responses,
)
from litestar.openapi.spec import Schema as FrameworkSchema
from litestar.openapi.spec.enums import OpenAPIType
from msgspec import Meta, Struct

from wherry.http.idempotency import MAX_CHARACTERS
from wherry.http.requests import JSON_CODINGS
from wherry.http.schemas import Schema, one_of, schemas_of, without_null

JSON = "application/json"
NDJSON = "application/x-ndjson"
OCTETS = "application/octet-stream"
BYTE_RANGES = "multipart/byteranges"
Components = dict[str, Schema]
Media = Mapping[str, Any]
"""Maps a media type to the type of the body; a tuple means any one of its types."""

FIELDS = {
    name: OpenAPIHeader(schema=FrameworkSchema(type=OpenAPIType.STRING), description=description)
    for name, description in {
        "Accept": "The media types that the server accepts.",
        "Accept-Encoding": "The content codings that the server accepts.",
        "Idempotent-Replayed": "`true` if the same request was received before: its job is returned.",
        "Location": "The URL of the job, or the URL at which the storage serves its file.",
        "RateLimit": "The remaining quota of each limit, and the seconds until it is reset.",
        "RateLimit-Policy": "The limits that the request counted against.",
        "Retry-After": "Seconds to wait before trying again.",
        "WWW-Authenticate": "The authentication scheme to use.",
        "X-Request-Id": "The request's id in the server's log.",
    }.items()
}
"""Header fields of responses, as components of the document."""

QUEUED_FIELDS = {202: ("Location", "RateLimit", "RateLimit-Policy"), 200: ("Location", "Idempotent-Replayed")}
REPLAYED = {200: "The same request was received before: its job is returned, with `Idempotent-Replayed: true`."}
CANCELLING = {202: "The job is running, and will stop at its next checkpoint."}


@dataclass(frozen=True)
class Header:
    """A header field of requests."""

    name: str
    annotation: Any
    description: str
    required: bool = False

    def describe(self, components: Components) -> Parameter:
        """The OpenAPI parameter. The schemas that it refers to are added to `components`."""
        [schema], found = schemas_of(self.annotation)
        components |= found
        return _parameter(self.name, "header", self.description, schema, self.required)


_KEY = Annotated[str, Meta(min_length=1, max_length=MAX_CHARACTERS)]
_REPEATABLE = "Makes the request safe to retry: a repeated request returns the same job."
IDEMPOTENCY_KEY = Header("Idempotency-Key", _KEY, _REPEATABLE)
REQUIRED_KEY = Header("Idempotency-Key", _KEY, _REPEATABLE, required=True)


def content_encoding(name: str, codings: Sequence[str]) -> Header:
    """The `Content-Encoding` header. Its values become a component with this name."""
    readable = Annotated[str, one_of(name, ("identity", *codings, "x-gzip"))]
    return Header("Content-Encoding", readable, "How the body is compressed.")


JSON_ENCODING = content_encoding("JsonEncoding", JSON_CODINGS)
"""The `Content-Encoding` header of requests with a JSON body."""


def described(
    *,
    query: type[Struct] | None = None,
    headers: Sequence[Header] = (),
    body: Media | None = None,
    answers: Mapping[int, Media] | None = None,
    same: Mapping[int, str] | None = None,
    fields: Mapping[int, Sequence[str]] | None = None,
) -> type[Operation]:
    """The `operation_class` of a route.

    Args:
        query: the query parameters.
        headers: the header fields of requests.
        body: the body, if the handler parses it itself; requests must have one.
        answers: the contents of responses, by status, if they cannot be derived from the handler's type.
        same: descriptions, by status, of further responses with the same contents as the handler's own.
        fields: names of response header fields, by status; see `FIELDS`.
    """
    components: Components = {}
    extra = _Extra(
        components=components,
        parameters=_parameters(query, headers, components),
        json_encoding=JSON_ENCODING.describe(components),
        body=_content(body or {}, components),
        answers={status: _content(media, components) for status, media in (answers or {}).items()},
        same=same or {},
        fields=fields or {},
    )
    return type("Described", (_Described,), {"extra": extra})


@dataclass(frozen=True, kw_only=True)
class _Extra:
    """The arguments of `described`, converted to the framework's classes, and the schemas that they refer to."""

    components: Components
    parameters: list[Parameter]
    json_encoding: Parameter
    body: dict[str, OpenAPIMediaType]
    answers: Mapping[int, dict[str, OpenAPIMediaType]]
    same: Mapping[int, str]
    fields: Mapping[int, Sequence[str]]

    def complete(self, operation: Operation) -> None:
        """Complete an operation that the framework derived from the handler."""
        if self.body:
            operation.request_body = RequestBody(content=self.body, required=True)
        parameters = [*(operation.parameters or ()), *self.parameters]
        if _reads_json(operation) and not any(given.name == self.json_encoding.name for given in self.parameters):
            parameters.append(self.json_encoding)
        operation.parameters = parameters or None
        operation.responses = self._responses(operation.responses or {})

    def _responses(self, derived: Responses) -> Responses:
        found: dict[str, Any] = dict(derived)
        main: OpenAPIResponse = next(iter(found.values()))
        found |= {str(status): replace(main, description=sentence) for status, sentence in self.same.items()}
        for status, content in self.answers.items():
            found[str(status)].content = content
        for status, names in self.fields.items():
            found[str(status)].headers = {**(found[str(status)].headers or {}), **header_fields(*names)}
        return found


@dataclass
class _Described(Operation):
    extra: ClassVar[_Extra]

    def __post_init__(self) -> None:
        self.extra.complete(self)


def _reads_json(operation: Operation) -> bool:
    return isinstance(operation.request_body, RequestBody) and JSON in operation.request_body.content


def components_of(operation: type[Operation]) -> Components:
    """The schemas that an operation refers to, in addition to those of its handler's types."""
    return operation.extra.components if issubclass(operation, _Described) else {}


def _parameters(query: type[Struct] | None, headers: Sequence[Header], components: Components) -> list[Parameter]:
    parameters = [each.describe(components) for each in headers]
    if query is None:
        return parameters
    _, found = schemas_of(query)
    shape = found.pop(query.__name__)
    components |= found
    for name, schema in shape["properties"].items():
        plain = without_null(schema)
        parameters.append(_parameter(name, "query", plain.pop("description", None), plain, name in shape["required"]))
    return parameters


def _parameter(name: str, place: Any, description: str | None, schema: Any, required: bool) -> Parameter:
    return Parameter(name=name, param_in=place, description=description, schema=schema, required=required)


def _content(media: Media, components: Components) -> dict[str, OpenAPIMediaType]:
    content = {}
    for media_type, shapes in media.items():
        schemas, found = schemas_of(*(shapes if isinstance(shapes, tuple) else (shapes,)))
        components |= found
        schema: Any = schemas[0] if len(schemas) == 1 else {"oneOf": schemas}
        content[media_type] = OpenAPIMediaType(schema=schema)
    return content


def header_fields(*names: str) -> dict[str, OpenAPIHeader | Reference]:
    """References to header fields, for use in a response."""
    return {name: Reference(ref=f"#/components/headers/{name}") for name in names}


def empty(sentences: Mapping[int, str]) -> dict[int, ResponseSpec]:
    """The `responses` of a route that have no body: descriptions by status."""
    return {status: ResponseSpec(None, description=sentence) for status, sentence in sentences.items()}


FILE_ANSWERS = empty(
    {
        206: "Ranges of the file.",
        304: "The client's copy of the file is up to date.",
        307: "The storage serves the file itself, at `Location`.",
    }
)
