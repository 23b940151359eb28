"""A web page of another origin, as far as a browser's rules for cross-origin requests go (Fetch Standard).

In: requests. Out: their responses, without the header fields that a page may not read; `Blocked` if a browser would
not let the page send the request or read the response.
"""

from __future__ import annotations

from typing import Any

import httpx

ORIGIN = "https://app.example"

# Fetch Standard: CORS-safelisted methods, request-headers, request-header types and response-headers.
SAFE_METHODS = {"GET", "HEAD", "POST"}
SAFE_HEADERS = {"accept", "accept-language", "content-language"}
SAFE_TYPES = {"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"}
READABLE_HEADERS = {
    *("cache-control", "content-language", "content-length", "content-type", "expires", "last-modified", "pragma"),
}
# What the browser itself sends; a page cannot set it.
BROWSERS_OWN = {"host", "origin", "connection", "accept-encoding", "user-agent", "content-length", "transfer-encoding"}


class Blocked(httpx.RequestError):
    """The browser keeps the page from it."""


class PageOfAnotherOrigin(httpx.BaseTransport):
    """Give it to a client as `transport`."""

    def __init__(self, origin: str = ORIGIN) -> None:
        self._origin = origin
        self._network = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        unsafe = sorted(name.lower() for name, value in request.headers.items() if not _is_safe(name.lower(), value))
        if unsafe or request.method not in SAFE_METHODS:
            self._preflight(request, unsafe)
        request.headers["Origin"] = self._origin
        response = self._network.handle_request(request)
        self._require_readable(request, response)
        exposed = READABLE_HEADERS | _names(response.headers.get("Access-Control-Expose-Headers", ""))
        for name in set(response.headers) - exposed:
            del response.headers[name]
        return response

    def close(self) -> None:
        self._network.close()

    def _preflight(self, request: httpx.Request, unsafe: list[str]) -> None:
        asked = {
            "Host": request.headers["Host"],
            "Origin": self._origin,
            "Access-Control-Request-Method": request.method,
            **({"Access-Control-Request-Headers": ",".join(unsafe)} if unsafe else {}),
        }
        answer = self._network.handle_request(httpx.Request("OPTIONS", request.url, headers=asked))
        answer.read()
        if not answer.is_success:
            raise Blocked(f"the preflight request was answered {answer.status_code}", request=request)
        self._require_readable(request, answer)
        if request.method not in SAFE_METHODS | {
            each.upper() for each in _names(answer.headers.get("Access-Control-Allow-Methods", ""))
        }:
            raise Blocked(f"method {request.method} is not allowed", request=request)
        forbidden = set(unsafe) - _names(answer.headers.get("Access-Control-Allow-Headers", ""))
        if forbidden:  # `*` would not cover Authorization, so it is not taken for anything here
            raise Blocked(f"header fields {forbidden} are not allowed", request=request)

    def _require_readable(self, request: httpx.Request, response: httpx.Response) -> None:
        allowed = response.headers.get_list("Access-Control-Allow-Origin")
        if allowed not in (["*"], [self._origin]):
            raise Blocked(f"{response.status_code} allows the origins {allowed}", request=request)


def _is_safe(name: str, value: Any) -> bool:
    if name == "content-type":
        return str(value).partition(";")[0].strip().lower() in SAFE_TYPES
    return name in SAFE_HEADERS | BROWSERS_OWN


def _names(value: str) -> set[str]:
    return {name.strip().lower() for name in value.split(",") if name.strip()}
