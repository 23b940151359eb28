"""Checks a capsule request before it is queued.

In: a file with the request's body. Out: a `Summary`, or the exception for the client. A large body is read in a
separate process, so that the API's memory stays flat and its event loop free.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from wherry.capsules.check_process import Report, Summary, summarise
from wherry.capsules.child import output_of, time_limit
from wherry.errors import EmptyGraph, GraphTooLarge, Invalid, Malformed, QueueUnavailable, Refused

IN_PROCESS_BYTES = 1 << 19
"""Bodies up to this size are decoded in a thread, which is faster than starting a process. Decoding blocks everything
else, but only for a moment. A body of `[],[],[]` takes 15 MB of lists."""


_KINDS: dict[str, type[Refused]] = {kind.code: kind for kind in (Malformed, EmptyGraph, Invalid, GraphTooLarge)}


async def check_file(path: Path, size: int) -> Summary:
    """Read the request in `path`, which has `size` bytes.

    Raises:
        Malformed: it is not JSON.
        EmptyGraph: it has no nodes, or no relationships.
        Invalid: it has the wrong shape; the message names the place.
        GraphTooLarge: it takes far more memory, or time, than a graph of its size.
        QueueUnavailable: the process that reads it was killed.
    """
    if size <= IN_PROCESS_BYTES:
        return await asyncio.to_thread(summarise, path)
    seconds = time_limit(size)
    try:
        output = await output_of("wherry.capsules.check_process", str(path), seconds=seconds)
    except TimeoutError:
        detail = f"checking the graph took more than {seconds:.0f} s, the limit for its size"
        raise GraphTooLarge(detail, field="body") from None
    if output is None:
        raise QueueUnavailable("the graph could not be checked; try again")
    return _opened(msgspec.json.decode(output, type=Report))


def _opened(report: Report) -> Summary:
    if report.refused is not None:
        raise _KINDS[report.refused.code](report.refused.detail, fields=report.refused.fields)
    assert report.summary is not None
    return report.summary
