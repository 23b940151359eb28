"""Turns a code graph into the frames of a capsule.

There is one frame per node, one per relationship, and the manifest, in graph order, so that the same graph always
produces the same frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

from wherry.capsules.graph import DEFAULT_SNIPPET_CHARS, Node, Relationship
from wherry.capsules.manifest import manifest
from wherry.capsules.reading import GraphReader
from wherry.capsules.snippets import Snippets
from wherry.capsules.texts import Texts
from wherry.memvid.capacity import MOST_FRAMES
from wherry.memvid.frame import Frame, Uris, as_text, bounded
from wherry.memvid.safe_text import guard

EDGES_AT_ONCE = 40_000
"""How many relationships share one pass over the nodes, which finds both of their ends."""

CHARACTERS_AT_ONCE = 8 << 20
"""The same, as the length of their texts."""

UNKNOWN = "<unknown>"
_End = tuple[str, str]  # name and label
_UNKNOWN_END: _End = (UNKNOWN, UNKNOWN)
# label → (folder of the URI, track)
_PLACES = {
    "Community": ("communities", "communities"),
    "Process": ("processes", "processes"),
    "File": ("nodes", "files"),
}


def graph_frames(graph: GraphReader) -> Iterator[Frame]:
    """Yield the first `maxNodeFrames` nodes, the first `maxRelationFrames` relationships, and the manifest.

    Nodes and relationships beyond a capsule's capacity are left out, but the manifest is always yielded.
    """
    uris = Uris()
    node_count, relation_count = counts(graph)
    nodes = islice(_node_frames(graph, uris), node_count)
    relationships = islice(_relation_frames(graph, uris), relation_count)
    yield from islice(chain(nodes, relationships), MOST_FRAMES + 1)
    yield manifest(graph, node_count, relation_count)


def counts(graph: GraphReader) -> tuple[int, int]:
    """How many nodes and how many relationships become frames."""
    nodes, relationships = graph.labels.total(), graph.types.total()
    most_nodes, most_relations = graph.options.max_node_frames, graph.options.max_relation_frames
    return (
        nodes if most_nodes is None else min(nodes, most_nodes),
        relationships if most_relations is None else min(relationships, most_relations),
    )


def _node_frames(graph: GraphReader, uris: Uris) -> Iterator[Frame]:
    limit = graph.options.max_snippet_chars
    texts = Texts(graph.file_contents)
    snippets = Snippets(texts, graph.outlines, DEFAULT_SNIPPET_CHARS if limit is None else limit)
    for node in graph.nodes:
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
        yield f"file: {as_text(path)}"
    for key in ("description", "keywords"):
        if value := node.property(key):
            yield f"{key}: {', '.join(map(as_text, value)) if isinstance(value, list) else as_text(value)}"
    yield ""
    yield snippet


def _relation_frames(graph: GraphReader, uris: Uris) -> Iterator[Frame]:
    for edges in _batches(graph.relationships):
        ends = _ends(graph, edges)
        for edge in edges:
            source, target = ends.get(edge.source_id, _UNKNOWN_END), ends.get(edge.target_id, _UNKNOWN_END)
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


def _batches(relationships: Iterable[Relationship]) -> Iterator[list[Relationship]]:
    batch: list[Relationship] = []
    characters = 0
    for edge in relationships:
        batch.append(edge)
        characters += sum(map(len, (edge.id, edge.source_id, edge.target_id, edge.type, edge.reason or "")))
        if len(batch) >= EDGES_AT_ONCE or characters >= CHARACTERS_AT_ONCE:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _ends(graph: GraphReader, edges: Iterable[Relationship]) -> dict[str, _End]:
    """The names and labels of the nodes that the edges connect, by id. If an id repeats, the first node counts."""
    ids = {id for edge in edges for id in (edge.source_id, edge.target_id)}
    ends: dict[str, _End] = {}
    for node in graph.outlines:
        if node.id in ids:
            ids.remove(node.id)
            ends[node.id] = node.name, node.label
    return ends


def _relation_lines(edge: Relationship, source: _End, target: _End) -> Iterator[str]:
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
