"""The process that turns a request into frames (see `transform`).

In: the file with the request's body. Out: a spool of frames, and one JSON object on standard output.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from wherry.capsules.child_process import TOO_MUCH_MEMORY, limit_memory, own_arguments
from wherry.capsules.graph_frames import counts, graph_frames
from wherry.capsules.reading import open_graph
from wherry.errors import Refused, SpoolFull
from wherry.memvid.spool import Spool

MAX_SPOOL_BYTES = 4 << 30
"""Far more than fits a capsule, and little enough that nodes with long snippets do not fill the disk."""

MAX_FRAME_BYTES = 16 << 20
"""The writer takes many times the size of a frame, once for each form in which it is searched and stored."""


class Transformed(msgspec.Struct):
    """The result: how many frames of each kind, or why there are none.

    If there are more than a capsule can hold, not all of them are in the spool.
    """

    nodes: int = 0
    relationships: int = 0
    frames: int = 0
    refused: str | None = None
    errno: int | None = None

    def advice(self, fits: int) -> str:
        """The options to set if only the first `fits` nodes and relationships fit in a capsule."""
        nodes = min(fits, self.nodes)
        return f"Set maxNodeFrames to {nodes} and maxRelationFrames to {fits - nodes}, or lower maxSnippetChars."


def main(request: Path, spool: Path) -> None:
    """Write the spool and print the result."""
    limit_memory()
    try:
        result = _transform(request, spool)
    except OSError as error:
        result = Transformed(errno=error.errno)
    except SpoolFull as error:
        result = Transformed(refused=f"{error}: lower maxSnippetChars")
    except MemoryError:
        result = Transformed(refused=f"it {TOO_MUCH_MEMORY}")
    sys.stdout.buffer.write(msgspec.json.encode(result))


def _transform(request: Path, spool: Path) -> Transformed:
    try:
        graph = open_graph(request)
    except Refused as refusal:
        return Transformed(refused=refusal.detail)
    with Spool(spool, MAX_SPOOL_BYTES, MAX_FRAME_BYTES) as out:
        out.add(graph_frames(graph))
    nodes, relationships = counts(graph)
    return Transformed(nodes, relationships, nodes + relationships + 1)


if __name__ == "__main__":
    main(*map(Path, own_arguments()))
