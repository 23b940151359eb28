"""Sends HTTP requests whose URL a caller has chosen, only to addresses that are permitted.

The host is resolved once, all of its addresses are checked, and the connection is made to one of them rather than to
the name, which could resolve differently the next time. Redirects are not followed, and proxies from the environment
are not used.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import cache
from ipaddress import ip_address

import httpx

from wherry.errors import ErrorCode, SendingFailed
from wherry.storage.addresses import Address, host_of

STALL_SECONDS = 30.0
"""Time limit for resolving a host, for connecting, and between two bytes."""

USER_AGENT = "wherry"


@asynccontextmanager
async def send(
    method: str,
    url: str,
    *,
    permits: Callable[[Address], bool],
    headers: Mapping[str, str],
    content: bytes | None = None,
    stall_seconds: float = STALL_SECONDS,
) -> AsyncIterator[httpx.Response]:
    """Send a request; yields the response, whose body has not been read.

    Args:
        method: of the request.
        url: one that `judge` has accepted.
        permits: whether requests may be sent to an address.
        headers: of the request.
        content: the body.
        stall_seconds: see `STALL_SECONDS`.

    Raises:
        SendingFailed: URL_NOT_ALLOWED if an address of the host is not permitted, URL_FETCH_FAILED if it has none.
        httpx.HTTPError: the connection failed or broke.
    """
    target = httpx.URL(url)
    addresses = await _permitted_addresses(target, permits, stall_seconds)
    async with httpx.AsyncClient(
        verify=_trusted(),
        trust_env=False,
        follow_redirects=False,
        timeout=httpx.Timeout(stall_seconds, connect=stall_seconds / len(addresses)),
        headers={"User-Agent": USER_AGENT},
    ) as client:
        request = client.build_request(method, target, headers=headers, content=content)
        async with aclosing(await _first_response(client, request, addresses)) as response:
            yield response


async def _permitted_addresses(
    target: httpx.URL, permits: Callable[[Address], bool], stall_seconds: float
) -> list[Address]:
    """All addresses of a host. Raises `SendingFailed`; see `send`."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(stall_seconds):
            found = await loop.getaddrinfo(host_of(target), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        raise SendingFailed(ErrorCode.URL_FETCH_FAILED, "The URL's host could not be resolved") from error
    addresses = list(dict.fromkeys(ip_address(str(address[0]).partition("%")[0]) for *_, address in found))
    if not all(map(permits, addresses)):
        raise SendingFailed(ErrorCode.URL_NOT_ALLOWED, "The URL's host is not on the public internet")
    return addresses


async def _first_response(
    client: httpx.AsyncClient, request: httpx.Request, addresses: Sequence[Address]
) -> httpx.Response:
    """The response from the first address that accepts a connection. The certificate must match the host's name."""
    name = request.url
    request.extensions["sni_hostname"] = host_of(name)
    for address in addresses:
        request.url = name.copy_with(host=str(address))  # the Host header still has the name
        try:
            return await client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if address is addresses[-1]:
                raise
    raise AssertionError("getaddrinfo returned no address")


@cache
def _trusted() -> ssl.SSLContext:
    """The certificate authorities. Reading them takes longer than sending a request."""
    return httpx.create_ssl_context(trust_env=False)
