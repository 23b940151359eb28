"""Describes, for `/openapi.json`, what a handler's signature cannot: bodies read by hand, and answers of several kinds.

In: parameters, bodies and answers, as data. Out: an `operation_class` for a route, and `responses` beside its problems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    OpenAPIHeader,
    OpenAPIMediaType,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Schema,
)
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

from wherry.http.keys import MAX_CHARACTERS
from wherry.http.requests import JSON_CODINGS
from wherry.resources.registry import RESOURCES

JSON = "application/json"
NDJSON = "application/x-ndjson"
DOWNLOAD_TYPES = (NDJSON, JSON, "text/csv", "application/octet-stream", "application/gzip", "application/zstd")
BYTE_RANGES = "multipart/byteranges"
BINARY = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
TEXT = Schema(type=OpenAPIType.STRING)
WORDS = Schema(type=OpenAPIType.STRING, min_length=1)
UUID_TEXT = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.UUID)
FLAG = Schema(type=OpenAPIType.BOOLEAN)
OBJECT = Schema(type=OpenAPIType.OBJECT)
NULL = Schema(type=OpenAPIType.NULL)
RESOURCE = Schema(type=OpenAPIType.STRING, enum=sorted(RESOURCES))

FIELDS = {
    name: OpenAPIHeader(schema=TEXT, description=description)
    for name, description in {
        "Accept": "The media types that are read.",
        "Accept-Encoding": "The content codings that are read.",
        "Idempotent-Replayed": "`true`: the same request was answered before.",
        "Location": "The job's own address, or where the storage serves its file.",
        "RateLimit": "What is left of each limit, and in how many seconds it begins anew.",
        "RateLimit-Policy": "The limits that were counted.",
        "Retry-After": "Seconds after which to try again.",
        "WWW-Authenticate": "The scheme that a credential is sent with.",
        "X-Request-Id": "What the log knows the request by.",
    }.items()
}
"""Header fields of answers, as the description's components."""


def one_of(*values: str) -> Schema:
    """One of these words."""
    return Schema(type=OpenAPIType.STRING, enum=list(values))


def whole(least: int, most: int | None = None) -> Schema:
    """An integer within bounds, both included."""
    return Schema(type=OpenAPIType.INTEGER, minimum=least, maximum=most)


def members(required: Sequence[str], **properties: Schema) -> Schema:
    """An object with these members."""
    return Schema(type=OpenAPIType.OBJECT, properties=dict(properties), required=list(required))


def some(items: Schema) -> Schema:
    """An array with at least one item."""
    return Schema(type=OpenAPIType.ARRAY, items=items, min_items=1)


def either(*schemas: Schema) -> Schema:
    """Exactly one of these."""
    return Schema(one_of=list(schemas))


def nullable(schema: Schema) -> Schema:
    """This, or null, which counts as absent."""
    return either(schema, NULL)


def wrapped_or_bare(wrapper: str, fields: Schema) -> Schema:
    """An object with these members, or one that holds it as its only member that counts."""
    return either(fields, members([wrapper], **{wrapper: fields}))


def query(name: str, schema: Schema, description: str, *, required: bool = False) -> Parameter:
    """A parameter of the query."""
    return Parameter(name=name, param_in="query", schema=schema, description=description, required=required)


def idempotency(*, required: bool) -> Parameter:
    """The field that makes a request safe to repeat."""
    key = Schema(type=OpenAPIType.STRING, min_length=1, max_length=MAX_CHARACTERS)
    description = "Makes the request safe to repeat: the same one again is answered with the same job."
    return Parameter(name="Idempotency-Key", param_in="header", schema=key, description=description, required=required)


def content_encoding(*codings: str) -> Parameter:
    """The field that tells how the body is packed."""
    schema = one_of("identity", *codings, "x-gzip")
    return Parameter(name="Content-Encoding", param_in="header", schema=schema, description="How the body is packed.")


def described(
    *,
    parameters: Sequence[Parameter] = (),
    body: Mapping[str, Schema] | None = None,
    answers: Mapping[int, Sequence[str]] | None = None,
    same: Mapping[int, str] | None = None,
    fields: Mapping[int, Sequence[str]] | None = None,
) -> type[Operation]:
    """An operation with more to it than its handler's signature says.

    Args:
        parameters: beside those of the signature.
        body: by media type, what it holds; it is required.
        answers: by status, the media types of which the answer may be one.
        same: by status, a description of a response with the same body as the one that the handler is typed for.
        fields: by status, the header fields of its own that the answer may have, out of `FIELDS`.
    """

    @dataclass
    class Described(Operation):
        def __post_init__(self) -> None:
            self.parameters = [*(self.parameters or ()), *parameters] or None
            if body is not None:
                content = {media_type: OpenAPIMediaType(schema=schema) for media_type, schema in body.items()}
                self.request_body = RequestBody(content=content, required=True)
            _add_content_encoding(self)
            for status, media_types in (answers or {}).items():
                response: Any = (self.responses or {})[str(status)]
                response.content = {
                    media_type: OpenAPIMediaType(schema=Schema() if media_type == JSON else BINARY)
                    for media_type in media_types
                }
            for status, sentence in (same or {}).items():
                main = next(iter((self.responses or {}).values()))
                self.responses = {**(self.responses or {}), str(status): replace(main, description=sentence)}
            for status, names in (fields or {}).items():
                response = (self.responses or {})[str(status)]
                response.headers = {**(response.headers or {}), **{name: field_of_answers(name) for name in names}}

    return Described


def _add_content_encoding(operation: Operation) -> None:
    """Every JSON body may be gzip; a route that reads other codings, too, describes the field itself."""
    given = operation.parameters or []
    has_field = any(isinstance(each, Parameter) and each.name == "Content-Encoding" for each in given)
    if isinstance(operation.request_body, RequestBody) and JSON in operation.request_body.content and not has_field:
        operation.parameters = [*given, content_encoding(*JSON_CODINGS)]


def field_of_answers(name: str) -> Reference:
    """A header field as answers refer to it."""
    assert name in FIELDS, name
    return Reference(ref=f"#/components/headers/{name}")


QUEUED_FIELDS = {202: ("Location", "RateLimit", "RateLimit-Policy"), 200: ("Location", "Idempotent-Replayed")}
REPLAYED = {200: "The same request was answered before: the same job, with `Idempotent-Replayed: true`."}
CANCELLING = {202: "The job is running: it stops at its next checkpoint."}


def empty(sentences: Mapping[int, str]) -> dict[int, ResponseSpec]:
    """The `responses` of a route that have no body, by status."""
    return {status: ResponseSpec(None, description=sentence) for status, sentence in sentences.items()}


FILE_ANSWERS = empty(
    {
        206: "Ranges of the file.",
        304: "The client has the file.",
        307: "The storage serves the file itself, at `Location`.",
    }
)
