"""The request for a capsule: a GitNexus code graph.

Required are `sessionId`, `projectName`, `source.type`, `source.baseName`, a node's `id` and `label`, and a
relationship's `id`, `sourceId`, `targetId` and `type`. Everything else may be absent or null. Unknown labels, types and
properties are kept unchanged. Ids may repeat, and relationships may refer to missing nodes.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from wherry.memvid.frame import as_text

DEFAULT_SNIPPET_CHARS = 1200

_Count = Annotated[int, msgspec.Meta(ge=0)]


class GraphSource(msgspec.Struct, rename="camel", frozen=True):
    """Where the code came from."""

    type: str
    base_name: str
    display_name: str | None = None
    url: str | None = None
    branch: str | None = None
    original_file_name: str | None = None
    folder_name: str | None = None


class Node(msgspec.Struct, frozen=True):
    """A symbol, a file, a folder, a community or a process; `properties` contains whatever the client sent."""

    id: str
    label: str
    properties: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """The node's name, or its id if it has none."""
        name = self.property("name")
        return self.id if name is None or name == "" else as_text(name)

    def property(self, key: str) -> Any:
        """A property, or None if it is absent or null."""
        return self.properties.get(key) if self.properties else None


class OutlinedProperties(msgspec.Struct, frozen=True):
    """The properties that the frames of other nodes and of relationships need."""

    name: Any = None
    filePath: Any = None
    startLine: Any = None
    endLine: Any = None


class NodeOutline(Node, frozen=True):
    """A node without most of its properties, which is decoded in half the time."""

    properties: OutlinedProperties | None = None  # type: ignore[assignment]

    def property(self, key: str) -> Any:
        """One of its properties, or None if it is absent or null."""
        return getattr(self.properties, key, None)


class Relationship(msgspec.Struct, rename="camel", frozen=True):
    """A directed, typed edge between two nodes."""

    id: str
    source_id: str
    target_id: str
    type: str
    confidence: float | None = None
    reason: str | None = None
    step: int | None = None


class CapsuleOptions(msgspec.Struct, rename="camel", frozen=True):
    """How the capsule is made; absent or null means the default."""

    semantic_enabled: bool | None = None
    max_snippet_chars: _Count | None = None
    max_node_frames: _Count | None = None
    max_relation_frames: _Count | None = None


class Graph(msgspec.Struct, rename="camel", frozen=True):
    """A capsule request. It is never decoded as a whole, to save memory: `GraphReader` reads it in parts."""

    session_id: str
    project_name: str
    source: GraphSource
    nodes: list[Node] | None = None
    relationships: list[Relationship] | None = None
    file_contents: dict[str, str | None] | None = None
    options: CapsuleOptions | None = None
