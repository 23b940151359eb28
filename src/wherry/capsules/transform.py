"""Turns a stored request into frames in a child process (see `child`).

The worker stays small and responsive, and the memory that a graph takes is freed when the process ends.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec

from wherry.capsules.child import output_of, time_limit
from wherry.capsules.transform_process import Transformed
from wherry.errors import EXPORT_FAILED, JobFailed


async def transform(request: Path, spool: Path) -> Transformed:
    """Write the request's frames.

    Args:
        request: the file with the body.
        spool: the file for the frames; must not exist yet.

    Raises:
        JobFailed: the request cannot be read, or takes too long, or the process ended early.
        OSError: a disk error in the process.
    """
    seconds = time_limit((await asyncio.to_thread(request.stat)).st_size)
    try:
        output = await output_of("wherry.capsules.transform_process", str(request), str(spool), seconds=seconds)
    except TimeoutError:
        message = f"The graph could not be turned into frames within {seconds:.0f} s, which is enough for its size"
        raise JobFailed(EXPORT_FAILED, message) from None
    if output is None:
        raise JobFailed(EXPORT_FAILED, "The graph could not be turned into frames: its process ended early")
    result = msgspec.json.decode(output, type=Transformed)
    if result.refused is not None:
        raise JobFailed(EXPORT_FAILED, f"The graph cannot be read: {result.refused}")
    if result.errno is not None:
        raise OSError(result.errno, os.strerror(result.errno))
    return result
