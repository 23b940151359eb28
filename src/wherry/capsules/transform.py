"""Turns a stored request into frames, in a process of its own (see `child`).

In: the request's body, however large. Out: a spool of frames, and one JSON object on standard output. A worker stays
small and responsive meanwhile, and the memory that a graph takes is given back when the process ends.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import sys
from pathlib import Path

import msgspec

from wherry.capsules.child import TOO_MUCH_MEMORY, limit_memory, output_of, own_arguments, time_limit
from wherry.capsules.frames import counts, frames
from wherry.capsules.graph import read_graph
from wherry.capsules.spool import Spool, SpoolFull
from wherry.errors import JobFailed, Refused

MAX_SPOOL_BYTES = 4 << 30
"""Of frames: far more than a capsule holds, and little enough that nodes with long snippets do not fill a disk."""


class Transformed(msgspec.Struct):
    """What came of a request: how many frames of each sort, or why there are none."""

    nodes: int = 0
    relationships: int = 0
    frames: int = 0
    refused: str | None = None
    errno: int | None = None

    def advice(self, fits: int) -> str:
        """What to ask for where only the first `fits` nodes and relationships have room in a capsule."""
        nodes = min(fits, self.nodes)
        return f"Set maxNodeFrames to {nodes} and maxRelationFrames to {fits - nodes}, or lower maxSnippetChars."


async def transform(request: Path, spool: Path) -> Transformed:
    """Write the request's frames.

    Args:
        request: the file with the body.
        spool: where the frames go; must not exist yet.

    Raises:
        JobFailed: the request cannot be read, or takes too long, or the process came to an end of its own.
        OSError: what the process met on the disk.
    """
    seconds = time_limit((await asyncio.to_thread(request.stat)).st_size)
    try:
        output = await output_of("wherry.capsules.transform", str(request), str(spool), seconds=seconds)
    except TimeoutError:
        message = f"The graph could not be turned into frames within {seconds:.0f} s, which is enough for its size"
        raise JobFailed("EXPORT_FAILED", message) from None
    if output is None:
        raise JobFailed("EXPORT_FAILED", "The graph could not be turned into frames: its process ended early")
    result = msgspec.json.decode(output, type=Transformed)
    if result.refused is not None:
        raise JobFailed("EXPORT_FAILED", f"The graph cannot be read: {result.refused}")
    if result.errno is not None:
        raise OSError(result.errno, os.strerror(result.errno))
    return result


def main(request: Path, spool: Path) -> None:
    """Write the spool, print what is in it."""
    limit_memory(request.stat().st_size)
    try:
        result = _transform(request, spool)
    except OSError as error:
        result = Transformed(errno=error.errno)
    except SpoolFull:
        result = Transformed(refused=f"its frames take more than {MAX_SPOOL_BYTES} bytes: lower maxSnippetChars")
    except MemoryError:
        result = Transformed(refused=f"it {TOO_MUCH_MEMORY}")
    sys.stdout.buffer.write(msgspec.json.encode(result))


def _transform(request: Path, spool: Path) -> Transformed:
    with request.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            graph = read_graph(data)
        except Refused as refusal:
            return Transformed(refused=refusal.detail)
    nodes, relationships = counts(graph)
    with Spool(spool, MAX_SPOOL_BYTES) as out:
        out.add(frames(graph))
        return Transformed(nodes, relationships, out.frames)


if __name__ == "__main__":
    main(*map(Path, own_arguments()))
