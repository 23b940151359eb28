"""The processes that read graphs (see `offload`): `python -m wherry.capsules.process PARENT check|transform FILE…`.

In: the file with a request's body. Out: one JSON object on standard output, and for `transform` a spool of frames.

Such a process is started for every large request, so it should import little: asyncio alone takes as long to import as
everything else together.
"""

from __future__ import annotations

import gc
import resource
import sys
from pathlib import Path

import msgspec

from wherry.capsules.graph_frames import counts, graph_frames
from wherry.capsules.reading import GraphReader, mapped, open_graph
from wherry.errors import GraphTooLarge, Refused, SpoolFull
from wherry.memvid.spool import write_spool
from wherry.this_process import do_bulk_work_for

MEMORY_BYTES = 384 << 20
TOO_MUCH_MEMORY = "the body takes far more memory than a graph of its size should"

MAX_SPOOL_BYTES = 4 << 30
"""Far more than fits in a capsule, but small enough that nodes with long snippets cannot fill the disk."""

MAX_FRAME_BYTES = 16 << 20
"""The writer takes many times the memory of a frame: once for each form in which the frame is searched and stored."""


class Summary(msgspec.Struct, rename="camel"):
    """The part of a request that is stored in the job's row."""

    session_id: str
    project_name: str
    base_name: str
    nodes: int
    relationships: int
    semantic_enabled: bool


class Transformed(msgspec.Struct):
    """How many frames there are of each kind. If a capsule cannot hold them all, not all of them are in the spool."""

    nodes: int
    relationships: int

    @property
    def frames(self) -> int:
        """All of them, with the manifest."""
        return self.nodes + self.relationships + 1

    def advice(self, fits: int) -> str:
        """The options to set if only the first `fits` nodes and relationships fit in a capsule."""
        nodes = min(fits, self.nodes)
        return f"Set maxNodeFrames to {nodes} and maxRelationFrames to {fits - nodes}, or lower maxSnippetChars."


class Refusal(msgspec.Struct):
    """A `Refused` exception as JSON."""

    code: str
    detail: str
    fields: dict[str, list[str]]


class Output(msgspec.Struct):
    """The output of a command: its result, or why there is none. `errno` is that of a disk error."""

    summary: Summary | None = None
    transformed: Transformed | None = None
    refusal: Refusal | None = None
    errno: int | None = None


def main(parent: int, command: str, *files: Path) -> None:
    """Run a command, and print its output.

    The process ends with its parent, has a low priority, and uses half of the CPUs. Garbage collection is turned off:
    JSON has no cycles, and searching millions of small lists for them takes longer than everything else.
    """
    gc.disable()
    do_bulk_work_for(parent)
    _limit_memory()
    try:
        output = Output(summary=summarise(*files)) if command == "check" else _transform(*files)
    except (Refused, MemoryError) as error:
        refused = error if isinstance(error, Refused) else GraphTooLarge(TOO_MUCH_MEMORY, field="body")
        output = Output(refusal=Refusal(refused.code, refused.detail, refused.fields))
    sys.stdout.buffer.write(msgspec.json.encode(output))


def _limit_memory() -> None:
    """Limit this process's memory, not counting mapped files, so that MemoryError is raised if a graph takes more.

    Only a crafted body takes more, such as one with a single node of hundreds of megabytes.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def summarise(path: Path) -> Summary:
    """Read and check the request in `path`; raises what `open_graph` does."""
    graph = open_graph(path)
    return Summary(
        session_id=_storable(graph.session_id),
        project_name=_storable(graph.project_name),
        base_name=_storable(graph.source.base_name),
        nodes=graph.labels.total(),
        relationships=graph.types.total(),
        semantic_enabled=bool(graph.options.semantic_enabled),
    )


def _storable(text: str) -> str:
    """Replace U+0000, which PostgreSQL cannot store. The capsule keeps it: it is made from the request itself."""
    return text.replace("\0", "\ufffd")


def _transform(request: Path, spool: Path) -> Output:
    try:
        graph = GraphReader(mapped(request))  # its files were checked before the job was queued
        write_spool(spool, graph_frames(graph), MAX_SPOOL_BYTES, MAX_FRAME_BYTES)
    except SpoolFull as error:
        raise GraphTooLarge(f"{error}: shorten its properties, or lower maxSnippetChars") from error
    except OSError as error:
        return Output(errno=error.errno)
    return Output(transformed=Transformed(*counts(graph)))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], *map(Path, sys.argv[3:]))
