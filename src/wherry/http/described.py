"""Adds to the OpenAPI document what cannot be derived from the types of a handler.

This concerns queries and bodies that the handler parses itself, files, header fields, and further statuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from litestar.openapi.spec import OpenAPIHeader, Parameter
from litestar.openapi.spec import Schema as FrameworkSchema
from litestar.openapi.spec.enums import OpenAPIType
from msgspec import Meta, Struct

from wherry.http.idempotency import MAX_CHARACTERS
from wherry.http.requests import JSON_CODINGS
from wherry.http.schemas import Binary, Schema, one_of, schemas_of, without_null

JSON = "application/json"
NDJSON = "application/x-ndjson"
OCTETS = "application/octet-stream"
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

_FIELDS_OF: Mapping[str, Sequence[str]] = {
    "401": ("WWW-Authenticate",),
    "415": ("Accept", "Accept-Encoding"),
    "429": ("Retry-After", "RateLimit", "RateLimit-Policy"),
    "503": ("Retry-After",),
}
"""Header fields, by status, that responses have on every route."""

LIMITS = ("RateLimit", "RateLimit-Policy")
QUEUED_FIELDS = {202: ("Location", *LIMITS), 200: ("Location", "Idempotent-Replayed")}
REPLAYED = {200: "The same request was received before: its job is returned, with `Idempotent-Replayed: true`."}
CANCELLING = {202: "The job is running, and will stop at its next checkpoint."}


@dataclass(frozen=True)
class Header:
    """A header field of requests."""

    name: str
    annotation: Any
    description: str
    required: bool = False


_KEY = Annotated[str, Meta(min_length=1, max_length=MAX_CHARACTERS)]
_REPEATABLE = "Makes the request safe to retry: a repeated request returns the same job."
IDEMPOTENCY_KEY = Header("Idempotency-Key", _KEY, _REPEATABLE)
REQUIRED_KEY = Header("Idempotency-Key", _KEY, _REPEATABLE, required=True)


def content_encoding(name: str, codings: Sequence[str]) -> Header:
    """The `Content-Encoding` header. Its values become a component with this name."""
    readable = Annotated[str, one_of(name, ("identity", *codings, "x-gzip"))]
    return Header("Content-Encoding", readable, "How the body is compressed.")


_JSON_ENCODING = content_encoding("JsonEncoding", JSON_CODINGS)


@dataclass(frozen=True, kw_only=True)
class Described:
    """What a handler's option `described` adds to its operation.

    Attributes:
        query: the query parameters.
        headers: the header fields of requests.
        body: the body, if the handler parses it itself; requests must have one.
        same: descriptions, by status, of further responses with the same contents as the handler's own.
        others: descriptions, by status, of further responses.
        answers: the contents of responses, by status, if they cannot be derived from the handler's type.
        fields: names of response header fields, by status; see `FIELDS`.
    """

    query: type[Struct] | None = None
    headers: Sequence[Header] = ()
    body: Media = field(default_factory=dict)
    same: Mapping[int, str] = field(default_factory=dict)
    others: Mapping[int, str] = field(default_factory=dict)
    answers: Mapping[int, Media] = field(default_factory=dict)
    fields: Mapping[int, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def file(cls, media: Media) -> Described:
        """What the route of a stored file adds, for files of these types."""
        others = {
            206: "Ranges of the file.",
            304: "The client's copy of the file is up to date.",
            307: "The storage serves the file itself, at `Location`.",
        }
        ranges = {**media, "multipart/byteranges": Binary}
        return cls(others=others, answers={200: media, 206: ranges}, fields={307: ("Location",)})

    def __deepcopy__(self, _memo: object) -> Described:
        return self  # litestar copies the routers that it registers, but types with a `Meta` cannot be copied

    def complete(self, operation: dict[str, Any], components: Components) -> None:
        """Complete what was derived from the handler. The schemas that it refers to are added to `components`."""
        body = operation.pop("requestBody", {})
        if self.body:
            body = {"content": _content(self.body, components), "required": True}
        parameters = [*operation.pop("parameters", ()), *self._parameters(components, JSON in body.get("content", ()))]
        self._add_responses(operation["responses"], components)
        # The new members come before the responses, as they do in operations that litestar derives completely.
        after = {name: operation.pop(name) for name in ("responses", "deprecated", "security") if name in operation}
        new = {"parameters": parameters, "requestBody": body}
        operation |= {name: value for name, value in new.items() if value} | after

    def _parameters(self, components: Components, reads_json: bool) -> list[Schema]:
        headers = {each.name: each for each in self.headers}
        if reads_json:
            headers.setdefault(_JSON_ENCODING.name, _JSON_ENCODING)
        found = []
        for header in headers.values():
            [schema] = _schemas(components, header.annotation)
            found.append(_parameter(header.name, "header", header.description, schema, header.required))
        if self.query is not None:
            _schemas(components, self.query)
            shape = components.pop(self.query.__name__)
            for name, schema in shape["properties"].items():
                plain = without_null(schema)
                description = plain.pop("description", None)
                found.append(_parameter(name, "query", description, plain, name in shape["required"]))
        return found

    def _add_responses(self, responses: dict[str, Any], components: Components) -> None:
        main = next(iter(responses.values()))
        for status, sentence in self.same.items():
            responses[str(status)] = {**main, "description": sentence, "headers": {}}
        for status, sentence in self.others.items():
            responses[str(status)] = {"description": sentence}
        for status, media in self.answers.items():
            responses[str(status)]["content"] = _content(media, components, union="anyOf")  # empty pages fit several
        for code, response in responses.items():
            names = (*self.fields.get(int(code), ()), *_FIELDS_OF.get(code, ()), "X-Request-Id")
            references = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
            response["headers"] = response.get("headers", {}) | references


def _parameter(name: str, place: Any, description: str | None, schema: Any, required: bool) -> Schema:
    return Parameter(name=name, param_in=place, description=description, schema=schema, required=required).to_schema()


def _content(media: Media, components: Components, *, union: str = "oneOf") -> Schema:
    content = {}
    for media_type, shapes in media.items():
        schemas = _schemas(components, *(shapes if isinstance(shapes, tuple) else (shapes,)))
        content[media_type] = {"schema": schemas[0] if len(schemas) == 1 else {union: schemas}}
    return content


def _schemas(components: Components, *annotations: Any) -> list[Schema]:
    schemas, found = schemas_of(*annotations)
    components |= found
    return schemas
