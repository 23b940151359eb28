"""Describes, for `/openapi.json`, what a handler's signature cannot: bodies read by hand, and answers of several kinds.

In: parameters, bodies and answers, as data. Out: an `operation_class` for a route, and `responses` beside its problems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, Operation, Parameter, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

from wherry.resources.registry import RESOURCES

JSON = "application/json"
NDJSON = "application/x-ndjson"
DOWNLOAD_TYPES = (NDJSON, JSON, "text/csv", "application/octet-stream", "application/gzip", "application/zstd")
BINARY = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
TEXT = Schema(type=OpenAPIType.STRING)
FLAG = Schema(type=OpenAPIType.BOOLEAN)
OBJECT = Schema(type=OpenAPIType.OBJECT)
RESOURCE = Schema(type=OpenAPIType.STRING, enum=sorted(RESOURCES))


def one_of(*values: str) -> Schema:
    """One of these words."""
    return Schema(type=OpenAPIType.STRING, enum=list(values))


def whole(least: int, most: int | None = None) -> Schema:
    """An integer within bounds, both included."""
    return Schema(type=OpenAPIType.INTEGER, minimum=least, maximum=most)


def members(required: Sequence[str], **properties: Schema) -> Schema:
    """An object with these members."""
    return Schema(type=OpenAPIType.OBJECT, properties=dict(properties), required=list(required))


def query(name: str, schema: Schema, description: str, *, required: bool = False) -> Parameter:
    """A parameter of the query."""
    return Parameter(name=name, param_in="query", schema=schema, description=description, required=required)


def idempotency(*, required: bool) -> Parameter:
    """The field that makes a request safe to repeat."""
    key = Schema(type=OpenAPIType.STRING, pattern=r"^[!-~]{1,255}$")
    description = "Makes the request safe to repeat: the same one again is answered with the same job."
    return Parameter(name="Idempotency-Key", param_in="header", schema=key, description=description, required=required)


def described(
    *,
    parameters: Sequence[Parameter] = (),
    body: Mapping[str, Schema] | None = None,
    answers: Mapping[int, Sequence[str]] | None = None,
) -> type[Operation]:
    """An operation with more to it than its handler's signature says.

    Args:
        parameters: beside those of the signature.
        body: by media type, what it holds; it is required.
        answers: by status, the media types of which the answer may be one.
    """

    @dataclass
    class Described(Operation):
        def __post_init__(self) -> None:
            self.parameters = [*(self.parameters or ()), *parameters] or None
            if body is not None:
                content = {media_type: OpenAPIMediaType(schema=schema) for media_type, schema in body.items()}
                self.request_body = RequestBody(content=content, required=True)
            for status, media_types in (answers or {}).items():
                response: Any = (self.responses or {})[str(status)]
                response.content = {
                    media_type: OpenAPIMediaType(schema=Schema() if media_type == JSON else BINARY)
                    for media_type in media_types
                }

    return Described


def also(answers: Mapping[int, str]) -> dict[int, ResponseSpec]:
    """Answers beside the usual one: by status, what each says. Those with a body hold the usual JSON."""
    return {
        status: ResponseSpec(
            dict[str, Any] if status in (200, 202) else None, description=description, generate_examples=False
        )
        for status, description in answers.items()
    }


REPLAYED = also({200: "The same request was answered before: the same job, with `Idempotent-Replayed: true`."})
CANCELLING = also({202: "It runs: it stops at its next checkpoint."})
FILE_ANSWERS = also(
    {206: "Ranges of the file.", 304: "The client has the file.", 307: "The storage serves it itself, at `Location`."}
)
