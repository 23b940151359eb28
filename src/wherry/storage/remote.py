"""Downloads a URL, from the public internet only.

The host is resolved once, all of its addresses are checked, and the connection is made to one of them rather than to
the name, which could resolve differently the next time. Redirects are not followed, proxies from the environment are
not used, and the bytes are not decompressed.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from ipaddress import ip_address
from typing import Protocol

import httpx

from wherry.errors import ErrorCode, Invalid, JobFailed
from wherry.storage.addresses import Address, host_of, is_public, judge
from wherry.storage.streams import limited

STALL_SECONDS = 30.0
"""Time limit for connecting, and between two bytes."""

GRACE_SECONDS = 60.0
LEAST_BYTES_PER_SECOND = 32 << 10
"""The minimum average rate after the grace period. So a gigabyte occupies a worker for nine hours at most, and a host
that sends hardly anything occupies it for a minute."""

# What imports can decompress; they recognise it by the first bytes.
_ENCODINGS = ("", "identity", "gzip", "x-gzip", "zstd")
_HEADERS = {"Accept-Encoding": "gzip, identity", "User-Agent": "wherry"}


class Fetch(Protocol):
    """Downloads the body of a URL's response; raises JobFailed: URL_NOT_ALLOWED, URL_FETCH_FAILED or FILE_TOO_LARGE."""

    def __call__(self, url: str, *, allowed_hosts: Sequence[str], max_bytes: int) -> AsyncIterator[bytes]: ...


async def fetch(
    url: str, *, allowed_hosts: Sequence[str], max_bytes: int, permits: Callable[[Address], bool] = is_public
) -> AsyncGenerator[bytes]:
    """See `Fetch`."""
    try:
        target = httpx.URL(judge(url, allowed_hosts, permits))
    except Invalid as error:
        raise JobFailed(ErrorCode.URL_NOT_ALLOWED, error.detail) from error
    async with aclosing(_sent(target, max_bytes, permits)) as chunks, aclosing(_paced(chunks)) as paced:
        async for chunk in paced:
            yield chunk


async def _sent(target: httpx.URL, max_bytes: int, permits: Callable[[Address], bool]) -> AsyncGenerator[bytes]:
    addresses = await _permitted_addresses(target, permits)
    timeout = httpx.Timeout(STALL_SECONDS, connect=STALL_SECONDS / len(addresses))
    try:
        async with httpx.AsyncClient(
            trust_env=False, follow_redirects=False, timeout=timeout, headers=_HEADERS
        ) as client:
            response = await _first_response(client, target, addresses)
            async with aclosing(response), aclosing(_body(response, max_bytes)) as chunks:
                async for chunk in chunks:
                    yield chunk
    except httpx.HTTPError as error:
        is_late = isinstance(error, httpx.TimeoutException)
        reason = f"no data for {STALL_SECONDS:.0f} seconds" if is_late else "the connection failed or broke"
        raise JobFailed(ErrorCode.URL_FETCH_FAILED, f"The URL could not be fetched: {reason}") from error


async def _permitted_addresses(target: httpx.URL, permits: Callable[[Address], bool]) -> list[Address]:
    """All addresses of a host.

    Raises:
        JobFailed: URL_NOT_ALLOWED if one of them is not permitted, URL_FETCH_FAILED if the host cannot be resolved.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(STALL_SECONDS):
            found = await loop.getaddrinfo(host_of(target), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        raise JobFailed(ErrorCode.URL_FETCH_FAILED, "The URL's host could not be resolved") from error
    addresses = list(dict.fromkeys(ip_address(str(address[0]).partition("%")[0]) for *_, address in found))
    if not all(map(permits, addresses)):
        raise JobFailed(ErrorCode.URL_NOT_ALLOWED, "The URL's host is not on the public internet")
    return addresses


async def _first_response(client: httpx.AsyncClient, target: httpx.URL, addresses: Sequence[Address]) -> httpx.Response:
    """The response from the first address that accepts a connection. The certificate must match the host's name."""
    for address in addresses:
        request = client.build_request(
            "GET",
            target.copy_with(host=str(address)),
            headers={"Host": target.netloc.decode("ascii")},
            extensions={"sni_hostname": host_of(target)},
        )
        try:
            return await client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if address is addresses[-1]:
                raise
    raise AssertionError("getaddrinfo returned no address")


async def _paced(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """The same chunks; fails if they arrive too slowly. The time that the consumer takes does not count."""
    waited, total = 0.0, 0
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        try:
            async with asyncio.timeout(GRACE_SECONDS + total / LEAST_BYTES_PER_SECOND - waited):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            text = f"The URL sent less than {LEAST_BYTES_PER_SECOND} bytes per second"
            raise JobFailed(ErrorCode.URL_FETCH_FAILED, text, detail={"bytes": total}) from error
        waited += loop.time() - began
        total += len(chunk)
        yield chunk


async def _body(response: httpx.Response, max_bytes: int) -> AsyncGenerator[bytes]:
    if not response.is_success:
        redirect = "; redirects are not followed" if response.is_redirect else ""
        raise JobFailed(ErrorCode.URL_FETCH_FAILED, f"The URL responded with status {response.status_code}{redirect}")
    if response.headers.get("content-encoding", "").strip().lower() not in _ENCODINGS:
        raise JobFailed(ErrorCode.URL_FETCH_FAILED, "The URL's response has an unsupported Content-Encoding")
    length = response.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise _too_large(max_bytes)
    # Never decompressed here: a small response could expand without limit in a single step.
    async for chunk in limited(response.aiter_raw(), max_bytes, partial(_too_large, max_bytes)):
        yield chunk


def _too_large(limit: int) -> JobFailed:
    message = f"The URL's content is larger than {limit} bytes"
    return JobFailed(ErrorCode.FILE_TOO_LARGE, message, detail={"limit": limit})
