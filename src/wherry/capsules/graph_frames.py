"""Turns a code graph into the frames of a capsule.

There is one frame per node, one per relationship, and the manifest, in graph order, so that the same graph always
produces the same frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from wherry.capsules.graph import DEFAULT_SNIPPET_CHARS, Graph, Node, Options, Relationship
from wherry.capsules.manifest import manifest
from wherry.capsules.snippets import Snippets
from wherry.memvid.frame import Frame, Uris, bounded, shown
from wherry.memvid.safe_text import guard

UNKNOWN = "<unknown>"
# label → (folder of the URI, track)
_PLACES = {
    "Community": ("communities", "communities"),
    "Process": ("processes", "processes"),
    "File": ("nodes", "files"),
}


def graph_frames(graph: Graph) -> Iterator[Frame]:
    """Yield the first `maxNodeFrames` nodes, the first `maxRelationFrames` relationships, and the manifest."""
    uris = Uris()
    node_count, relation_count = counts(graph)
    yield from _node_frames(graph, node_count, uris)
    yield from _relation_frames(graph, relation_count, uris)
    yield manifest(graph, node_count, relation_count)


def counts(graph: Graph) -> tuple[int, int]:
    """How many nodes and how many relationships become frames."""
    options = graph.options or Options()
    return (
        _limited(len(graph.nodes or ()), options.max_node_frames),
        _limited(len(graph.relationships or ()), options.max_relation_frames),
    )


def _limited(total: int, limit: int | None) -> int:
    return total if limit is None else min(total, limit)


def _node_frames(graph: Graph, count: int, uris: Uris) -> Iterator[Frame]:
    options = graph.options or Options()
    limit = DEFAULT_SNIPPET_CHARS if options.max_snippet_chars is None else options.max_snippet_chars
    snippets = Snippets(graph.file_contents or {}, graph.nodes or (), limit)
    for node in islice(graph.nodes or (), count):
        folder, track = _PLACES.get(node.label, ("nodes", f"nodes/{node.label}"))
        yield Frame(
            uri=uris.unique(f"mv2://{folder}/{node.id}"),
            title=f"{node.label}: {node.name}",
            text=guard("\n".join(_node_lines(node, snippets.of(node)))),
            track=track,
            tags=["source=gitnexus", f"nodeLabel={node.label}", f"sessionId={graph.session_id}"],
            labels=[node.label],
            metadata=bounded(node.properties or {}),
            name=node.name,
        )


def _node_lines(node: Node, snippet: str) -> Iterator[str]:
    yield f"{node.label}: {node.name}"
    yield f"id: {node.id}"
    if path := node.property("filePath"):
        yield f"file: {shown(path)}"
    for key in ("description", "keywords"):
        if value := node.property(key):
            yield f"{key}: {', '.join(map(shown, value)) if isinstance(value, list) else shown(value)}"
    yield ""
    yield snippet


def _relation_frames(graph: Graph, count: int, uris: Uris) -> Iterator[Frame]:
    # If several nodes have the same id, the first one counts.
    ends = {node.id: (node.name, node.label) for node in reversed(graph.nodes or ())}
    unknown = (UNKNOWN, UNKNOWN)
    for edge in islice(graph.relationships or (), count):
        source, target = ends.get(edge.source_id, unknown), ends.get(edge.target_id, unknown)
        title = f"{source[0]} {edge.type} {target[0]}"
        yield Frame(
            uri=uris.unique(f"mv2://relations/{edge.id}"),
            title=title,
            text=guard("\n".join((title, *_relation_lines(edge, source, target)))),
            track=f"relations/{edge.type}",
            tags=["source=gitnexus", f"relationType={edge.type}", f"sessionId={graph.session_id}"],
            labels=[edge.type],
            metadata=_relation_metadata(edge),
        )


def _relation_lines(edge: Relationship, source: tuple[str, str], target: tuple[str, str]) -> Iterator[str]:
    yield f"source: {source[0]} ({source[1]})"
    yield f"target: {target[0]} ({target[1]})"
    yield f"type: {edge.type}"
    yield f"confidence: {_confidence(edge):.3f}"
    yield f"reason: {edge.reason or ''}"
    if edge.step is not None:
        yield f"step: {edge.step}"


def _relation_metadata(edge: Relationship) -> dict[str, Any]:
    metadata: dict[str, Any] = {"sourceId": edge.source_id, "targetId": edge.target_id, "confidence": _confidence(edge)}
    if edge.reason:
        metadata["reason"] = edge.reason
    if edge.step is not None:
        metadata["step"] = edge.step
    return metadata


def _confidence(edge: Relationship) -> float:
    return 1.0 if edge.confidence is None else edge.confidence
