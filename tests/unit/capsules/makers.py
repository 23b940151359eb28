"""Small graphs, and where the sample graphs are."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from wherry.capsules.reading import GraphReader, read_graph

REPOSITORY = Path(__file__).resolve().parents[3]


def node(id: str = "Function:a.py:f", label: str = "Function", **properties: Any) -> dict[str, Any]:
    return {"id": id, "label": label, "properties": properties}


def edge(id: str = "r1", source: str = "a", target: str = "b", type: str = "CALLS", **more: Any) -> dict[str, Any]:
    return {"id": id, "sourceId": source, "targetId": target, "type": type, **more}


def body(
    nodes: list[dict[str, Any]] | None = None, relationships: list[dict[str, Any]] | None = None, **more: Any
) -> dict[str, Any]:
    return {
        "sessionId": "s-1",
        "projectName": "demo",
        "source": {"type": "folder", "baseName": "demo"},
        "nodes": [node()] if nodes is None else nodes,
        "relationships": [edge()] if relationships is None else relationships,
        **more,
    }


def graph(*args: Any, **more: Any) -> GraphReader:
    return read_graph(msgspec.json.encode(body(*args, **more)))


def sample_graph(name: str) -> bytes:
    """The JSON of one of the sample graphs; the test is skipped where they are not at hand."""
    folder = Path(os.environ.get("WHERRY_SHARED_DATA") or REPOSITORY.parent / "shared" / "data")
    path = folder / f"graph-{name}.json.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not at hand; set WHERRY_SHARED_DATA")
    return gzip.decompress(path.read_bytes())
