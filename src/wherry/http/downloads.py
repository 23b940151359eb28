"""Downloads of stored files, whole or in ranges (RFC 9110, sections 13 and 14).

    plan_response()       decides about status, headers and ranges, without any I/O
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
"""Of a body: bytes as they are, or a part of the file from a first byte up to and without an end."""


@dataclass(frozen=True, kw_only=True)
class ArtifactFile:
    """A stored file: bytes, SHA-256 in hexadecimal, and what the client's copy is to be called."""

    key: str
    size: int
    sha256: str
    file_name: str
    content_type: str

    @classmethod
    def of(cls, artifact: Mapping[str, Any], content_type: str = "application/octet-stream") -> ArtifactFile:
        """The download of a job's artifact; `content_type` is for one that does not name its own."""
        return cls(
            key=artifact["key"],
            size=artifact["size"],
            sha256=artifact["sha256"],
            file_name=artifact["fileName"],
            content_type=artifact.get("contentType", content_type),
        )

    @property
    def etag(self) -> str:
        """A strong validator: two files with one digest are the same file."""
        return f'"{self.sha256}"'


@dataclass(frozen=True)
class PlannedResponse:
    """What to send: a status, headers, and the pieces of the body."""

    status: int
    headers: dict[str, str]
    pieces: Sequence[Piece] = field(default=())


async def download_response(
    request: Request[Any, Any, Any],
    store: Store,
    download: ArtifactFile,
    settings: Settings,
    *,
    gone: type[Gone] = DownloadExpired,
) -> Response[Any]:
    """Answer a GET or HEAD for a stored file.

    Args:
        request: its method and headers decide.
        store: where the file is.
        download: the file.
        settings: whether the storage may serve it itself.
        gone: raised if the file was deleted.

    Raises:
        Gone, PreconditionFailed, RangeNotSatisfiable: as RFC 9110 says.
    """
    names = ("if-match", "if-none-match", "if-range", "range")
    headers = {name: ", ".join(request.headers.getall(name, [])) for name in names if name in request.headers}
    decided = plan_response(request.method, headers, download)
    if await store.size(download.key) != download.size:
        raise gone("the file was deleted")
    if settings.download_redirect and decided.pieces:
        location = await store.signed_url(download.key, timedelta(seconds=REDIRECT_SECONDS))
        if location is not None:
            redirected = {"Location": location, "Cache-Control": "no-store"}
            return Response(b"", status_code=307, headers=redirected, media_type="text/plain")
    return Stream(_body(store, download.key, decided.pieces), status_code=decided.status, headers=decided.headers)


def plan_response(method: str, headers: Mapping[str, str], download: ArtifactFile) -> PlannedResponse:
    """Decide what a request gets.

    Args:
        method: GET or HEAD; only GET has ranges.
        headers: by lower-case name, repeated ones joined with commas.
        download: the file.

    Raises:
        PreconditionFailed: `If-Match` names another file.
        RangeNotSatisfiable: no byte of the file lies in any range.
    """
    if "if-match" in headers and not _matches(headers["if-match"], download.etag, weak=False):
        raise PreconditionFailed("the file is not the one that If-Match names")
    if "if-none-match" in headers and _matches(headers["if-none-match"], download.etag, weak=True):
        return PlannedResponse(304, _validators(download))
    spans = _asked_spans(method, headers, download)
    if spans is None:
        return _whole(method, download)
    return _single(download, *spans[0]) if len(spans) == 1 else _multiple(download, spans)


def content_disposition(file_name: str) -> str:
    """`attachment` with a file name that no header and no file system can misread (RFC 6266; RFC 8187)."""
    name = _CONTROLS.sub("_", file_name.encode(errors="replace").decode()) or "download"
    plain = _NOT_PLAIN.sub("_", name)
    extended = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'attachment; filename="{plain}"{extended}'


def _asked_spans(method: str, headers: Mapping[str, str], download: ArtifactFile) -> list[tuple[int, int]] | None:
    if method != "GET" or "range" not in headers:
        return None
    # A date in If-Range matches nothing, as no Last-Modified is ever sent.
    if "if-range" in headers and headers["if-range"].strip() != download.etag:
        return None
    spans = parse_ranges(headers["range"], download.size)
    if spans == [] and download.size == 0:
        return None
    if spans == []:
        raise RangeNotSatisfiable(
            f"the range is outside the file, which has {download.size} bytes",
            headers={"Content-Range": f"bytes */{download.size}", "Accept-Ranges": "bytes"},
        )
    return None if spans is None else coalesce(spans)


def _matches(value: str, etag: str, *, weak: bool) -> bool:
    if value.strip() == "*":
        return True
    return any(f'"{tag}"' == etag and (weak or not mark) for mark, tag in _ETAG.findall(value))


def _validators(download: ArtifactFile) -> dict[str, str]:
    return {"ETag": download.etag, "Cache-Control": "private, no-cache"}


def _headers(download: ArtifactFile, length: int, content_type: str) -> dict[str, str]:
    digest = base64.b64encode(bytes.fromhex(download.sha256)).decode()
    return {
        **_validators(download),
        "Content-Type": content_type,
        "Content-Length": str(length),
        "Content-Disposition": content_disposition(download.file_name),
        "Repr-Digest": f"sha-256=:{digest}:",
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
    }


def _whole(method: str, download: ArtifactFile) -> PlannedResponse:
    pieces = [(0, download.size)] if method == "GET" and download.size else []
    return PlannedResponse(200, _headers(download, download.size, download.content_type), pieces)


def _single(download: ArtifactFile, start: int, end: int) -> PlannedResponse:
    headers = _headers(download, end - start, download.content_type)
    return PlannedResponse(
        206, {**headers, "Content-Range": f"bytes {start}-{end - 1}/{download.size}"}, [(start, end)]
    )


def _multiple(download: ArtifactFile, spans: Sequence[tuple[int, int]]) -> PlannedResponse:
    """Several ranges as `multipart/byteranges` (RFC 9110, section 14.6)."""
    boundary = secrets.token_hex(16)
    pieces: list[Piece] = []
    for start, end in spans:
        head = (
            f"\r\n--{boundary}\r\nContent-Type: {download.content_type}\r\n"
            f"Content-Range: bytes {start}-{end - 1}/{download.size}\r\n\r\n"
        )
        pieces += [head.encode(), (start, end)]
    pieces.append(f"\r\n--{boundary}--\r\n".encode())
    length = sum(len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in pieces)
    return PlannedResponse(206, _headers(download, length, f"multipart/byteranges; boundary={boundary}"), pieces)


async def _body(store: Store, key: str, pieces: Sequence[Piece]) -> AsyncGenerator[bytes, None]:
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
        else:
            async with aclosing(store.read(key, *piece)) as chunks:  # type: ignore[type-var]  # it is a generator
                async for chunk in chunks:
                    yield chunk
