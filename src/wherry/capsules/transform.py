"""Turns a stored request into frames, in a process of its own: `python -m wherry.capsules.transform REQUEST SPOOL`.

In: the request's body, however large. Out: a spool of frames, and one JSON object on standard output. A worker stays
small and responsive meanwhile, and the memory that a graph takes is given back when the process ends.
"""

from __future__ import annotations

import asyncio
import mmap
import sys
from pathlib import Path

import msgspec

from wherry.capsules.frames import counts, frames
from wherry.capsules.graph import read_graph
from wherry.capsules.spool import Spool
from wherry.errors import JobFailed, Refused


class Transformed(msgspec.Struct):
    """What came of a request: how many frames of each sort, or why there are none."""

    nodes: int = 0
    relationships: int = 0
    frames: int = 0
    refused: str | None = None


class Transform:
    """The process, for the length of an `async with` block.

    Args:
        request: the file with the body.
        spool: where the frames go; must not exist yet.
    """

    def __init__(self, request: Path, spool: Path) -> None:
        self._arguments = (str(request), str(spool))
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> asyncio.Task[Transformed]:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "wherry.capsules.transform",
            *self._arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        return asyncio.create_task(self._result(self._process))

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await asyncio.shield(self._process.wait())

    @staticmethod
    async def _result(process: asyncio.subprocess.Process) -> Transformed:
        output, _ = await process.communicate()
        if process.returncode != 0:
            raise JobFailed("EXPORT_FAILED", "The graph could not be turned into frames: its process ended early")
        result = msgspec.json.decode(output, type=Transformed)
        if result.refused is not None:
            raise JobFailed("EXPORT_FAILED", f"The graph cannot be read: {result.refused}")
        return result


def main(request: Path, spool: Path) -> None:
    """Write the spool, print what is in it."""
    sys.stdout.buffer.write(msgspec.json.encode(_transform(request, spool)))


def _transform(request: Path, spool: Path) -> Transformed:
    with request.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            graph = read_graph(data)
        except Refused as refusal:
            return Transformed(refused=refusal.detail)
    nodes, relationships = counts(graph)
    with Spool(spool) as out:
        out.add(frames(graph))
        return Transformed(nodes, relationships, out.frames)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
