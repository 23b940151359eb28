"""Keeps web pages from reaching the API as if they were its own, or without the browser's asking first.

DNS rebinding: a page of `attacker.example` whose name suddenly resolves to this machine is of the same origin as the
API to a browser, but its requests still name that host. So a request must name a host that nobody on the internet can
have: an address, a name that public DNS does not have, or the one that PUBLIC_URL says. Only a server that others can
reach anyway, and that has no PUBLIC_URL, takes every name: people may have given it one.

A body without a type is one that a page may send to any host without a preflight request (Fetch Standard, "CORS-
safelisted request-header"). So only a page of this server may leave the type out.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec
from litestar.datastructures import Headers, MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from wherry.errors import Malformed, Misdirected, Refused, UnsupportedMedia
from wherry.http.problems import MEDIA_TYPE, problem_of
from wherry.http.requests import REQUEST_ID_HEADER, has_body, request_id_of
from wherry.networks import parse_address

PRIVATE_SUFFIXES = (".localhost", ".local", ".internal")
"""Ends of names that public DNS does not have (RFC 6761, RFC 6762, ICANN's resolution of 2024-07-29)."""

_SHOWN = 100  # characters of a client's own text that an error message repeats
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]@/?#\s]+)(:[0-9]{0,5})?", re.IGNORECASE)
_DEFAULT_PORT = re.compile(r":(80|443)?$")


class OwnHost:
    """Refuses requests that are meant for another host, and bodies without a type from pages of other origins.

    Args:
        app: the application.
        public_url: where people reach it, or None.
        listens_on: the hosts that it listens on.
    """

    def __init__(self, app: ASGIApp, public_url: str | None, listens_on: Sequence[str]) -> None:
        self._app = app
        self._takes_every_name = public_url is None and not all(map(_is_loopback, listens_on))
        self._public = _DEFAULT_PORT.sub("", urlsplit(public_url or "").netloc.rpartition("@")[2].lower())
        self._names = {_name(self._public), socket.gethostname().lower()} - {None}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self._judge(scope) if scope["type"] == ScopeType.HTTP else None
        if refused is None:
            await self._app(scope, receive, send)
        else:
            await _refuse(scope, send, refused)

    def _judge(self, scope: Scope) -> Refused | None:
        headers = Headers.from_scope(scope)
        hosts = headers.getall("Host", [])
        if len(hosts) > 1:
            return Malformed("the request must have one Host field")
        host = hosts[0].strip().lower() if hosts else ""
        if hosts and not self._takes_every_name and not self._is_own_name(_name(host)):
            return Misdirected(f"this server does not serve the host {host[:_SHOWN]!r}: set PUBLIC_URL to allow it")
        if self._is_untyped(headers) and self._is_foreign(headers.get("Origin"), host):
            accept = {"Accept": "application/json"}
            detail = "a body from a page of another origin needs a Content-Type, such as application/json"
            return UnsupportedMedia(detail, headers=accept)
        return None

    def _is_own_name(self, name: str | None) -> bool:
        if name is None:
            return False
        return (
            name in self._names or parse_address(name) is not None or "." not in name or name.endswith(PRIVATE_SUFFIXES)
        )

    def _is_foreign(self, origin: str | None, host: str) -> bool:
        if origin is None:
            return False
        scheme, _, place = origin.lower().partition("://")
        own = {_DEFAULT_PORT.sub("", host), self._public} - {""}
        return scheme not in ("http", "https") or _DEFAULT_PORT.sub("", place) not in own

    @staticmethod
    def _is_untyped(headers: Headers) -> bool:
        return has_body(headers) and not headers.get("Content-Type", "").strip()


def _is_loopback(host: str) -> bool:
    address = parse_address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def _name(host: str) -> str | None:
    """The name or address in a `Host` field (RFC 9110, section 7.2), without the root's dot; None if it has none."""
    found = _HOST.fullmatch(host)
    return None if found is None else found[1].strip("[]").removesuffix(".")


async def _refuse(scope: Scope, send: Send, refused: Refused) -> None:
    body = msgspec.json.encode(problem_of(refused, scope["path"]))
    fields = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), REQUEST_ID_HEADER: request_id_of(scope)}
    start: Message = {"type": "http.response.start", "status": refused.status, "headers": []}
    MutableScopeHeaders.from_message(start).update({**fields, **refused.headers})
    await send(start)
    await send({"type": "http.response.body", "body": body, "more_body": False})
