"""Fetches what a URL names, from the public internet alone.

In: a URL that `addresses.judge` let pass. Out: its bytes as they are sent (still compressed, if they are), no more than
a limit. The connection is made to an address that was checked, not to a name that could answer differently; redirects
are not followed; proxies of the environment are not used.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from ipaddress import ip_address
from typing import Protocol

import httpx
from httpx_secure import SSRFProtectionError, httpx_ssrf_protection

from wherry.errors import ErrorCode, Invalid, JobFailed
from wherry.storage.addresses import Address, is_public, judge

STALL_SECONDS = 30.0
"""To connect, and between two bytes."""

# What the import's source can decompress; whether it must is told by the first bytes.
_ENCODINGS = ("", "identity", "gzip", "x-gzip", "zstd")
_HEADERS = {"Accept-Encoding": "gzip, identity", "User-Agent": "wherry"}


class Fetch(Protocol):
    """Brings in what a URL names."""

    def __call__(self, url: str, *, allowed_hosts: Sequence[str], max_bytes: int) -> AsyncIterator[bytes]:
        """The bytes.

        Raises:
            JobFailed: URL_NOT_ALLOWED, URL_FETCH_FAILED, FILE_TOO_LARGE.
        """
        ...


def protected_client(permits: Callable[[Address], bool] = is_public) -> httpx.AsyncClient:
    """A client whose every connection is made to an address that `permits` lets pass."""
    client = httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=STALL_SECONDS, headers=_HEADERS)
    return httpx_ssrf_protection(
        client,
        check_globally_reachable=False,  # `permits` is stricter
        custom_validator=lambda _host, address, _port: permits(address),
        dns_cache_ttl=0,
    )


async def require_permitted(host: str, port: int, permits: Callable[[Address], bool] = is_public) -> None:
    """Look a host up, and refuse it before anything is sent if any of its addresses is not permitted.

    The client checks the address that it connects to again: what changes in between gains nothing.

    Raises:
        JobFailed: URL_NOT_ALLOWED, or URL_FETCH_FAILED where the host is not known.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(STALL_SECONDS):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        raise JobFailed(ErrorCode.URL_FETCH_FAILED, "The host of the URL is not known") from error
    if not all(permits(ip_address(str(address[0]).partition("%")[0])) for *_, address in found):
        raise _not_allowed()


async def fetch(
    url: str, *, allowed_hosts: Sequence[str], max_bytes: int, permits: Callable[[Address], bool] = is_public
) -> AsyncGenerator[bytes]:
    """See `Fetch`."""
    if permits is is_public:
        _judge(url, allowed_hosts)
    try:
        async with protected_client(permits) as client:
            target = httpx.URL(url)
            await require_permitted(target.host, target.port or (443 if target.scheme == "https" else 80), permits)
            async with client.stream("GET", target) as response, aclosing(_body(response, max_bytes)) as chunks:
                async for chunk in chunks:
                    yield chunk
    except SSRFProtectionError as error:
        raise _not_allowed() from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise JobFailed(ErrorCode.URL_FETCH_FAILED, f"The URL could not be fetched: {_reason(error)}") from error


async def _body(response: httpx.Response, max_bytes: int) -> AsyncGenerator[bytes]:
    if not response.is_success:
        redirect = "; redirects are not followed" if response.is_redirect else ""
        raise JobFailed(ErrorCode.URL_FETCH_FAILED, f"The URL answered {response.status_code}{redirect}")
    if response.headers.get("content-encoding", "").strip().lower() not in _ENCODINGS:
        raise JobFailed(ErrorCode.URL_FETCH_FAILED, "The URL answered in a compression that was not asked for")
    length = response.headers.get("content-length", "")
    total = 0
    if length.isdecimal() and int(length) > max_bytes:
        raise _too_large(max_bytes)
    # Never decompressed here: a small answer could grow without limit in one step.
    async for chunk in response.aiter_raw():
        total += len(chunk)
        if total > max_bytes:
            raise _too_large(max_bytes)
        yield chunk


def _judge(url: str, allowed_hosts: Sequence[str]) -> None:
    try:
        judge(url, allowed_hosts)
    except Invalid as error:
        raise JobFailed(ErrorCode.URL_NOT_ALLOWED, error.detail) from error


def _not_allowed() -> JobFailed:
    return JobFailed(ErrorCode.URL_NOT_ALLOWED, "The URL's host is not on the public internet")


def _too_large(limit: int) -> JobFailed:
    message = f"The URL's content is larger than {limit} bytes"
    return JobFailed(ErrorCode.FILE_TOO_LARGE, message, detail={"limit": limit})


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return f"nothing came for {STALL_SECONDS:.0f} seconds"
    return "the connection failed or broke" if isinstance(error, httpx.TransportError) else "the URL is not valid"
