"""Downloads of stored files, whole or in ranges (RFC 9110, sections 13 and 14).

    plan_response()       decides on status, headers and ranges, without any I/O
    download_response()   checks that the file exists, and sends what was planned

Responses have a strong `ETag` and `Repr-Digest`. They stream from storage, so that memory stays flat, or redirect to
storage if it can serve clients itself. Files are never sent with a `Content-Encoding`: clients would decompress them,
and the digest would not match.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from litestar import Request, Response
from litestar.response import Stream

from wherry.errors import DownloadExpired, Gone, PreconditionFailed, RangeNotSatisfiable
from wherry.http.ranges import coalesce, parse_ranges
from wherry.settings import Settings
from wherry.storage.store import Store

REDIRECT_SECONDS = 300

_ETAG = re.compile(r'(W/)?"([^"]*)"')
_NOT_PLAIN = re.compile(r'[^ -~]|["\\%/]')
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f/\\]")

Piece = bytes | tuple[int, int]
"""A part of a body: bytes, or a span of the file from a first byte to an end, which is excluded."""


@dataclass(frozen=True, kw_only=True)
class ArtifactFile:
    """A stored file: its storage key, size, SHA-256 in hexadecimal, and the file name for clients."""

    key: str
    size: int
    sha256: str
    file_name: str
    content_type: str

    @classmethod
    def of(cls, artifact: Mapping[str, Any]) -> ArtifactFile:
        """The file of a job's artifact."""
        return cls(
            key=artifact["key"],
            size=artifact["size"],
            sha256=artifact["sha256"],
            file_name=artifact["fileName"],
            content_type=artifact.get("contentType", "application/octet-stream"),
        )

    @property
    def etag(self) -> str:
        """A strong validator, because files with the same digest are identical."""
        return f'"{self.sha256}"'


@dataclass(frozen=True)
class PlannedResponse:
    """The status, the headers and the pieces of the body to send."""

    status: int
    headers: dict[str, str]
    pieces: Sequence[Piece] = field(default=())


async def download_response(
    request: Request[Any, Any, Any],
    store: Store,
    file: ArtifactFile,
    settings: Settings,
    *,
    gone: type[Gone] = DownloadExpired,
) -> Response[Any]:
    """The response to a GET or HEAD for a stored file.

    Raises:
        Gone: the file was deleted; `gone` is the class.
        PreconditionFailed, RangeNotSatisfiable: as in `plan_response`.
    """
    names = ("if-match", "if-none-match", "if-range", "range")
    headers = {name: ", ".join(request.headers.getall(name, [])) for name in names if name in request.headers}
    planned = plan_response(request.method, headers, file)
    if await store.size(file.key) != file.size:
        raise gone("the file was deleted")
    if settings.download_redirect and planned.pieces:
        location = await store.signed_url(file.key, timedelta(seconds=REDIRECT_SECONDS))
        if location is not None:
            redirected = {"Location": location, "Cache-Control": "no-store"}
            return Response(b"", status_code=307, headers=redirected, media_type="text/plain")
    return Stream(_body(store, file.key, planned.pieces), status_code=planned.status, headers=planned.headers)


def plan_response(method: str, headers: Mapping[str, str], file: ArtifactFile) -> PlannedResponse:
    """Decide what to send: evaluates preconditions first, then ranges (RFC 9110, section 13.2.2).

    The names of the headers are in lower case; the values of repeated ones are joined with commas.

    Raises:
        PreconditionFailed: `If-Match` does not match the file.
        RangeNotSatisfiable: no range is within the file.
    """
    if "if-match" in headers and not _matches(headers["if-match"], file.etag, weak=False):
        raise PreconditionFailed("the file does not match If-Match")
    if "if-none-match" in headers and _matches(headers["if-none-match"], file.etag, weak=True):
        return PlannedResponse(304, _validators(file))
    spans = _requested_spans(method, headers, file)
    if spans is None:
        return _whole(method, file)
    return _single(file, *spans[0]) if len(spans) == 1 else _multiple(file, spans)


def content_disposition(file_name: str) -> str:
    """`attachment` with a file name that is safe in headers and in file systems (RFC 6266; RFC 8187)."""
    name = _CONTROLS.sub("_", file_name.encode(errors="replace").decode()) or "download"
    plain = _NOT_PLAIN.sub("_", name)
    extended = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'attachment; filename="{plain}"{extended}'


def _requested_spans(method: str, headers: Mapping[str, str], file: ArtifactFile) -> list[tuple[int, int]] | None:
    if method != "GET" or "range" not in headers:
        return None
    # A date in If-Range never matches, because we do not send Last-Modified.
    if "if-range" in headers and headers["if-range"].strip() != file.etag:
        return None
    spans = parse_ranges(headers["range"], file.size)
    if spans == [] and file.size == 0:
        return None
    if spans == []:
        raise RangeNotSatisfiable(
            f"the range is outside the file, which has {file.size} bytes",
            headers={"Content-Range": f"bytes */{file.size}", "Accept-Ranges": "bytes"},
        )
    return None if spans is None else coalesce(spans)


def _matches(value: str, etag: str, *, weak: bool) -> bool:
    if value.strip() == "*":
        return True
    return any(f'"{tag}"' == etag and (weak or not mark) for mark, tag in _ETAG.findall(value))


def _validators(file: ArtifactFile) -> dict[str, str]:
    return {"ETag": file.etag, "Cache-Control": "private, no-cache"}


def _headers(file: ArtifactFile, length: int, content_type: str) -> dict[str, str]:
    digest = base64.b64encode(bytes.fromhex(file.sha256)).decode()
    return {
        **_validators(file),
        "Content-Type": content_type,
        "Content-Length": str(length),
        "Content-Disposition": content_disposition(file.file_name),
        "Repr-Digest": f"sha-256=:{digest}:",
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
    }


def _whole(method: str, file: ArtifactFile) -> PlannedResponse:
    pieces = [(0, file.size)] if method == "GET" and file.size else []
    return PlannedResponse(200, _headers(file, file.size, file.content_type), pieces)


def _single(file: ArtifactFile, start: int, end: int) -> PlannedResponse:
    headers = _headers(file, end - start, file.content_type)
    return PlannedResponse(206, {**headers, "Content-Range": f"bytes {start}-{end - 1}/{file.size}"}, [(start, end)])


def _multiple(file: ArtifactFile, spans: Sequence[tuple[int, int]]) -> PlannedResponse:
    """Several ranges as `multipart/byteranges` (RFC 9110, section 14.6)."""
    boundary = secrets.token_hex(16)
    pieces: list[Piece] = []
    for start, end in spans:
        head = (
            f"\r\n--{boundary}\r\nContent-Type: {file.content_type}\r\n"
            f"Content-Range: bytes {start}-{end - 1}/{file.size}\r\n\r\n"
        )
        pieces += [head.encode(), (start, end)]
    pieces.append(f"\r\n--{boundary}--\r\n".encode())
    length = sum(len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in pieces)
    return PlannedResponse(206, _headers(file, length, f"multipart/byteranges; boundary={boundary}"), pieces)


async def _body(store: Store, key: str, pieces: Sequence[Piece]) -> AsyncGenerator[bytes, None]:
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
        else:
            async with aclosing(store.read(key, *piece)) as chunks:  # type: ignore[type-var]  # it is a generator
                async for chunk in chunks:
                    yield chunk
