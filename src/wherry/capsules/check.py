"""Says whether a request for a capsule can be read, before anybody waits for it.

In: a file that holds the request's body. Out: a `Summary` of it, or the refusal that its sender gets. A large body is
read in a process of its own, so that the API's memory stays flat and its event loop free.

As a process (see `child`) it prints one JSON object: `{"summary": …}` or `{"refused": …}`.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from wherry.capsules.child import TOO_MUCH_MEMORY, limit_memory, output_of, own_arguments, time_limit
from wherry.capsules.graph import Graph, read_graph
from wherry.errors import Invalid, Malformed, Refused, TooLarge, Unavailable

IN_PROCESS_BYTES = 1 << 19
"""Up to here a body is decoded in a thread: faster than a process starts, and for a moment only, though nothing else
runs meanwhile. Of `[],[],[]` that is 15 MB of lists."""


class Summary(msgspec.Struct, rename="camel"):
    """What the job row keeps of a request."""

    session_id: str
    project_name: str
    base_name: str
    nodes: int
    relationships: int
    semantic_enabled: bool


class _Refusal(msgspec.Struct):
    status: int
    detail: str
    code: str
    fields: dict[str, list[str]]


class _Report(msgspec.Struct):
    summary: Summary | None = None
    refused: _Refusal | None = None


_KINDS: dict[int, type[Refused]] = {kind.status: kind for kind in (Malformed, Invalid, TooLarge)}


async def check_file(path: Path, size: int) -> Summary:
    """Read the request in `path`, which has `size` bytes.

    Raises:
        Malformed: it is no JSON, or has no node or no relationship.
        Invalid: it has the wrong shape; the message names the place.
        TooLarge: it takes far more memory, or time, than a graph of its size.
        Unavailable: the process that reads it was ended.
    """
    if size <= IN_PROCESS_BYTES:
        return await asyncio.to_thread(_summarise_file, path)
    seconds = time_limit(size)
    try:
        output = await output_of("wherry.capsules.check", str(path), seconds=seconds)
    except TimeoutError:
        detail = f"the body takes longer to check than a graph of its size: more than {seconds:.0f} s"
        raise TooLarge(detail, field="body", code="PAYLOAD_TOO_LARGE") from None
    if output is None:
        raise Unavailable("the request could not be checked", code="QUEUE_UNAVAILABLE")
    return _opened(msgspec.json.decode(output, type=_Report))


def _opened(report: _Report) -> Summary:
    if report.refused is not None:
        raise _KINDS[report.refused.status](
            report.refused.detail, code=report.refused.code, fields=report.refused.fields
        )
    assert report.summary is not None
    return report.summary


def _summarise_file(path: Path) -> Summary:
    return _summary(read_graph(path.read_bytes()))


def _summary(graph: Graph) -> Summary:
    return Summary(
        session_id=_storable(graph.session_id),
        project_name=_storable(graph.project_name),
        base_name=_storable(graph.source.base_name),
        nodes=len(graph.nodes or ()),
        relationships=len(graph.relationships or ()),
        semantic_enabled=bool(graph.options is not None and graph.options.semantic_enabled),
    )


def _refused(refusal: Refused) -> _Report:
    return _Report(refused=_Refusal(refusal.status, refusal.detail, refusal.code, {**refusal.fields}))


def _storable(text: str) -> str:
    """PostgreSQL cannot store U+0000; the capsule itself is made from the request, and keeps it."""
    return text.replace("\0", "\ufffd")


def main(path: Path) -> None:
    """Print the report on one file."""
    limit_memory(path.stat().st_size)
    try:
        report = _Report(summary=_summarise_file(path))
    except Refused as refusal:
        report = _refused(refusal)
    except MemoryError:
        report = _refused(TooLarge(f"the body {TOO_MUCH_MEMORY}", field="body", code="PAYLOAD_TOO_LARGE"))
    sys.stdout.buffer.write(msgspec.json.encode(report))


if __name__ == "__main__":
    main(*map(Path, own_arguments()))
