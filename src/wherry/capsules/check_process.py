"""The process that checks a large capsule request (see `check`).

In: a file with the request's body. Out: one JSON object on standard output, `{"summary": …}` or `{"refused": …}`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from wherry.capsules.child_process import TOO_MUCH_MEMORY, limit_memory, own_arguments
from wherry.capsules.reading import open_graph
from wherry.errors import GraphTooLarge, Refused


class Summary(msgspec.Struct, rename="camel"):
    """The part of a request that is stored in the job's row."""

    session_id: str
    project_name: str
    base_name: str
    nodes: int
    relationships: int
    semantic_enabled: bool


class Refusal(msgspec.Struct):
    """A `Refused` exception as JSON."""

    code: str
    detail: str
    fields: dict[str, list[str]]


class Report(msgspec.Struct):
    """The output of the process."""

    summary: Summary | None = None
    refused: Refusal | None = None


def summarise(path: Path) -> Summary:
    """Read the request in `path`.

    Raises:
        Malformed, Invalid: it is not a valid request.
    """
    graph = open_graph(path)
    return Summary(
        session_id=_storable(graph.session_id),
        project_name=_storable(graph.project_name),
        base_name=_storable(graph.source.base_name),
        nodes=graph.labels.total(),
        relationships=graph.types.total(),
        semantic_enabled=bool(graph.options.semantic_enabled),
    )


def _refused(refusal: Refused) -> Report:
    return Report(refused=Refusal(refusal.code, refusal.detail, refusal.fields))


def _storable(text: str) -> str:
    """Replace U+0000, which PostgreSQL cannot store. The capsule keeps it: it is made from the request itself."""
    return text.replace("\0", "\ufffd")


def main(path: Path) -> None:
    """Print the report on a file."""
    limit_memory()
    try:
        report = Report(summary=summarise(path))
    except Refused as refusal:
        report = _refused(refusal)
    except MemoryError:
        report = _refused(GraphTooLarge(f"the body {TOO_MUCH_MEMORY}", field="body"))
    sys.stdout.buffer.write(msgspec.json.encode(report))


if __name__ == "__main__":
    main(*map(Path, own_arguments()))
