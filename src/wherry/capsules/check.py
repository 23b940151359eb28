"""Says whether a request for a capsule can be read, before anybody waits for it.

In: a file that holds the request's body. Out: a `Summary` of it, or the refusal that its sender gets. A large body is
read in a process of its own, so that the API's memory stays flat and its event loop free.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from wherry.capsules.check_process import Report, Summary, summarise
from wherry.capsules.child import output_of, time_limit
from wherry.errors import EmptyGraph, GraphTooLarge, Invalid, Malformed, QueueUnavailable, Refused

IN_PROCESS_BYTES = 1 << 19
"""Up to here a body is decoded in a thread: faster than a process starts, and for a moment only, though nothing else
runs meanwhile. Of `[],[],[]` that is 15 MB of lists."""


_KINDS: dict[str, type[Refused]] = {kind.default_code: kind for kind in (Malformed, EmptyGraph, Invalid, GraphTooLarge)}


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
