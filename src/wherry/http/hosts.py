"""Refuses requests for hosts that are not this server's, and untyped bodies from web pages of other origins.

DNS rebinding: an attacker makes `attacker.example` resolve to this machine. To the browser, a page from that host then
has the same origin as the API, but its requests still contain the attacker's host name. So `Host` must be one that no
attacker can own: an IP address, a name that does not exist in public DNS, or the host of PUBLIC_URL. A server that has
no PUBLIC_URL and listens for other machines accepts every host, because it may have been given any name.

If a body has no Content-Type, browsers send it to other origins without a preflight request (Fetch Standard,
"CORS-safelisted request-header"). So only this server's own pages may omit the Content-Type.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec
from litestar.datastructures import Headers
from litestar.enums import ScopeType
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, Receive, Scope, Send

from wherry.errors import Malformed, Misdirected, Refused, UnsupportedMedia
from wherry.http.problems import MEDIA_TYPE, problem_of
from wherry.http.requests import REQUEST_ID_HEADER, has_body, request_id_of
from wherry.networks import parse_address

PRIVATE_SUFFIXES = (".localhost", ".local", ".internal")
"""Suffixes that do not exist in public DNS (RFC 6761, RFC 6762, ICANN's resolution of 2024-07-29)."""

DEFAULT_PORTS = {"http": 80, "https": 443}

_SHOWN = 100  # characters of client input that an error message repeats
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]@/?#\s]+)(:[0-9]{0,5})?", re.IGNORECASE)
_DEFAULT_PORT = re.compile(r":(80|443)?$")


class OwnAddress:
    """The hosts and origins of this server.

    Args:
        public_url: the URL that people use, or None.
        listens_on: the hosts that it listens on.
    """

    def __init__(self, public_url: str | None, listens_on: Sequence[str]) -> None:
        self._public_url = public_url
        self._public_host = urlsplit(public_url or "").netloc.rpartition("@")[2].lower()
        self._listens_on = {"localhost", *map(str.lower, listens_on)}
        self._accepts_any_host = public_url is None and not all(map(_is_loopback, listens_on))
        self._names = {_name(self._public_host), socket.gethostname().lower()} - {None}

    def has_host(self, host: str) -> bool:
        """Whether the `Host` header of a request may have this value."""
        if self._accepts_any_host:
            return True
        name = _name(host)
        return name is not None and (
            name in self._names or parse_address(name) is not None or "." not in name or name.endswith(PRIVATE_SUFFIXES)
        )

    def has_page(self, origin: str, host: str) -> bool:
        """Whether a page of this origin, which sent a request to `host`, belongs to this server."""
        given = _origin(origin)
        return given is not None and given in _origins_at(host) | _origins_at(self._public_host)

    def certainly_has_page(self, origin: str, host: str) -> bool:
        """Like `has_page`, but safe from DNS rebinding even if every host is accepted.

        With a PUBLIC_URL, only its pages count. Otherwise `host` must be an IP address, `localhost`, or a name that the
        server listens on.
        """
        given = _origin(origin)
        if self._public_url is not None:
            return given is not None and given == _origin(self._public_url)
        name = _name(host)
        is_certain = name is not None and (parse_address(name) is not None or name in self._listens_on)
        return is_certain and given is not None and given in _origins_at(host)


class HostCheck:
    """Refuses requests for other hosts, and bodies without a Content-Type from pages of other origins.

    Args:
        app: the application.
        own: the server's address.
    """

    def __init__(self, app: ASGIApp, own: OwnAddress) -> None:
        self._app = app
        self._own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self._judge(scope) if scope["type"] == ScopeType.HTTP else None
        if refused is None:
            await self._app(scope, receive, send)
            return
        body = msgspec.json.encode(problem_of(refused, scope["path"]))
        headers = {**refused.headers, REQUEST_ID_HEADER: request_id_of(scope)}
        response = ASGIResponse(body=body, status_code=refused.status, headers=headers, media_type=MEDIA_TYPE)
        await response(scope, receive, send)

    def _judge(self, scope: Scope) -> Refused | None:
        headers = Headers.from_scope(scope)
        hosts = headers.getall("Host", [])
        if len(hosts) > 1:
            return Malformed("the request must have only one Host header")
        host = hosts[0].strip().lower() if hosts else ""
        if hosts and not self._own.has_host(host):
            return Misdirected(f"this server does not serve the host {host[:_SHOWN]!r}: set PUBLIC_URL to allow it")
        origin = headers.get("Origin")
        is_untyped = has_body(headers) and not headers.get("Content-Type", "").strip()
        if origin is not None and is_untyped and not self._own.has_page(origin, host):
            detail = "a body from a page of another origin needs a Content-Type, such as application/json"
            return UnsupportedMedia(detail, headers={"Accept": "application/json"})
        return None


def _is_loopback(host: str) -> bool:
    address = parse_address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def _name(host: str) -> str | None:
    """The name or address in a `Host` header (RFC 9110, section 7.2), without a final dot; None if it is invalid."""
    found = _HOST.fullmatch(host.lower())
    return None if found is None else found[1].strip("[]").removesuffix(".")


def _origins_at(host: str) -> set[str | None]:
    """The origins that pages of a host may have: with either scheme, as a proxy may add TLS and change the port."""
    return {_origin(f"{scheme}://{place}") for scheme in DEFAULT_PORTS for place in (host, _DEFAULT_PORT.sub("", host))}


def _origin(url: str) -> str | None:
    """Scheme, host and port of a web page's URL (RFC 6454, section 6.1), or None if it has no origin, like `null`."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return f"{parts.scheme}://{parts.hostname}:{port}" if parts.hostname and port else None
