"""Downloads a URL, from the public internet only. The bytes are not decompressed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Protocol

import httpx

from wherry.errors import ErrorCode, Invalid, JobFailed, SendingFailed
from wherry.storage.addresses import Address, is_public, judge
from wherry.storage.outgoing import STALL_SECONDS, send
from wherry.storage.streams import limited

GRACE_SECONDS = 60.0
LEAST_BYTES_PER_SECOND = 32 << 10
"""The minimum average rate after the grace period. So a gigabyte occupies a worker for nine hours at most, and a host
that sends hardly anything occupies it for a minute."""

# What imports can decompress; they recognise it by the first bytes.
_ENCODINGS = ("", "identity", "gzip", "x-gzip", "zstd")
_HEADERS = {"Accept-Encoding": "gzip, identity"}


class Fetch(Protocol):
    """Downloads the body of a URL's response; raises JobFailed: URL_NOT_ALLOWED, URL_FETCH_FAILED or FILE_TOO_LARGE."""

    def __call__(self, url: str, *, allowed_hosts: Sequence[str], max_bytes: int) -> AsyncIterator[bytes]: ...


async def fetch(
    url: str, *, allowed_hosts: Sequence[str], max_bytes: int, permits: Callable[[Address], bool] = is_public
) -> AsyncGenerator[bytes]:
    """See `Fetch`."""
    try:
        url = judge(url, allowed_hosts, permits)
    except Invalid as error:
        raise JobFailed(ErrorCode.URL_NOT_ALLOWED, error.detail) from error
    async with aclosing(_sent(url, max_bytes, permits)) as chunks, aclosing(_paced(chunks)) as paced:
        async for chunk in paced:
            yield chunk


async def _sent(url: str, max_bytes: int, permits: Callable[[Address], bool]) -> AsyncGenerator[bytes]:
    try:
        async with send("GET", url, permits=permits, headers=_HEADERS, stall_seconds=STALL_SECONDS) as response:
            async with aclosing(_body(response, max_bytes)) as chunks:
                async for chunk in chunks:
                    yield chunk
    except SendingFailed as error:
        raise JobFailed(error.code, error.message) from error
    except httpx.HTTPError as error:
        is_late = isinstance(error, httpx.TimeoutException)
        reason = f"no data for {STALL_SECONDS:.0f} seconds" if is_late else "the connection failed or broke"
        raise JobFailed(ErrorCode.URL_FETCH_FAILED, f"The URL could not be fetched: {reason}") from error


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
