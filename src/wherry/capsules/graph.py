"""Reads a GitNexus code graph, tolerantly.

In: the JSON body of a capsule request, as bytes or as a memory map of a file. Out: a `Graph`, or an error that says
where the body is invalid.

Required are `sessionId`, `projectName`, `source.type`, `source.baseName`, a node's `id` and `label`, and a
relationship's `id`, `sourceId`, `targetId` and `type`. Everything else may be absent or null. Unknown labels, types and
properties are kept unchanged. Ids may repeat, and relationships may refer to missing nodes. Strings are decoded as
*safe texts* (see `safe_text`).
"""

from __future__ import annotations

from codecs import BOM_UTF8
from mmap import mmap
from typing import Annotated, Any

import msgspec

from wherry.capsules.places import named
from wherry.errors import EmptyGraph, Invalid, Malformed
from wherry.memvid.frame import shown
from wherry.memvid.safe_text import has_escape, has_surrogate, repair

DEFAULT_SNIPPET_CHARS = 1200

_Count = Annotated[int, msgspec.Meta(ge=0)]


class Source(msgspec.Struct, rename="camel", frozen=True):
    """Where the code came from."""

    type: str
    base_name: str
    display_name: str | None = None
    url: str | None = None
    branch: str | None = None
    original_file_name: str | None = None
    folder_name: str | None = None


class Node(msgspec.Struct, frozen=True):
    """A symbol, a file, a folder, a community or a process; `properties` holds whatever the client sent."""

    id: str
    label: str
    properties: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """The node's name, or its id if it has none."""
        name = self.property("name")
        return self.id if name is None or name == "" else shown(name)

    def property(self, key: str) -> Any:
        """A property, or None if it is absent or null."""
        return self.properties.get(key) if self.properties else None


class Relationship(msgspec.Struct, rename="camel", frozen=True):
    """A directed, typed edge between two nodes."""

    id: str
    source_id: str
    target_id: str
    type: str
    confidence: float | None = None
    reason: str | None = None
    step: int | None = None


class Options(msgspec.Struct, rename="camel", frozen=True):
    """How the capsule is made; absent or null means the default."""

    semantic_enabled: bool | None = None
    max_snippet_chars: _Count | None = None
    max_node_frames: _Count | None = None
    max_relation_frames: _Count | None = None


class Graph(msgspec.Struct, rename="camel", frozen=True):
    """A capsule request."""

    session_id: str
    project_name: str
    source: Source
    nodes: list[Node] | None = None
    relationships: list[Relationship] | None = None
    file_contents: dict[str, str | None] | None = None
    options: Options | None = None


def read_graph(data: bytes | bytearray | memoryview | mmap) -> Graph:
    """Decode and check a request.

    Raises:
        Malformed: it is not JSON.
        EmptyGraph: it has no nodes, or no relationships.
        Invalid: JSON of another shape (422); the message names the place, as in ``$.nodes[3].id``.
    """
    with memoryview(data) as whole, whole[_mark_bytes(whole) :] as text:
        graph = _decode(text)
    if not graph.nodes:
        raise EmptyGraph("the graph has no nodes", field="nodes")
    if not graph.relationships:
        raise EmptyGraph("the graph has no relationships", field="relationships")
    return graph


def _mark_bytes(data: memoryview) -> int:
    return len(BOM_UTF8) if bytes(data[: len(BOM_UTF8)]) == BOM_UTF8 else 0


def _decode(data: memoryview) -> Graph:
    try:
        return _decode_safe(data)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `")
        place = named(data, place.rstrip("`").removeprefix("key in ") or "$")
        raise Invalid(f"{message} at {place}", field=_field(place)) from error
    except UnicodeDecodeError as error:
        raise Malformed(f"the body is not UTF-8: {error.reason}") from error
    except msgspec.DecodeError as error:
        raise Malformed(f"the body is not JSON: {error}") from error
    except RecursionError as error:
        raise Malformed("the body is nested too deeply") from error


def _decode_safe(data: memoryview) -> Graph:
    if has_escape(data):
        return msgspec.json.decode(repair(data), type=Graph)
    try:
        return msgspec.json.decode(data, type=Graph)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        # Repairing costs as much as decoding, and hardly any graph needs it.
        if not has_surrogate(data):
            raise
        return msgspec.json.decode(repair(data), type=Graph)


def _field(place: str) -> str:
    return place.removeprefix("$").removeprefix(".") or "body"
