"""The manifest: a frame, `mv2://meta/manifest`, that says what a capsule contains and what wrote it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from importlib.metadata import version
from itertools import islice
from typing import Any

import msgspec

from wherry.capsules.reading import GraphReader
from wherry.memvid import sdk
from wherry.memvid.frame import Frame


def manifest(graph: GraphReader, node_frames: int, relation_frames: int) -> Frame:
    """The manifest of a graph, with counts of its nodes by label and its relationships by type, exported and total.

    Those that were exported, as frames, are the first ones.
    """
    title = f"GitNexus manifest: {graph.project_name}"
    metadata = {
        "projectName": graph.project_name,
        "sessionId": graph.session_id,
        "source": {name: value for name, value in msgspec.to_builtins(graph.source).items() if value is not None},
        "nodes": _tally(graph.labels, (node.label for node in graph.outlines), node_frames),
        "relationships": _tally(graph.types, (edge.type for edge in graph.relationships), relation_frames),
        "writtenBy": {"memvidSdk": sdk.installed_version(), "wherry": version("wherry")},
    }
    return Frame(
        uri="mv2://meta/manifest",
        title=title,
        text="\n".join((title, *_lines(metadata))),
        track="meta",
        tags=["source=gitnexus", "kind=manifest", f"sessionId={graph.session_id}"],
        labels=["Manifest"],
        metadata=metadata,
    )


def _tally(total: Counter[str], names: Iterable[str], exported: int) -> dict[str, Any]:
    out = total if exported == total.total() else Counter(islice(names, exported))
    kinds = {name: {"exported": out[name], "total": total[name]} for name in sorted(total)}
    return {"exported": exported, "total": total.total(), "by": kinds}


def _lines(metadata: dict[str, Any]) -> Iterable[str]:
    yield f"session: {metadata['sessionId']}"
    yield from (f"source {name}: {value}" for name, value in metadata["source"].items())
    versions = metadata["writtenBy"]
    yield f"written by: {sdk.DISTRIBUTION} {versions['memvidSdk']}, wherry {versions['wherry']}"
    for heading in ("nodes", "relationships"):
        tally = metadata[heading]
        yield f"{heading}: {tally['exported']} of {tally['total']}"
        yield from (f"  {name}: {count['exported']} of {count['total']}" for name, count in tally["by"].items())
