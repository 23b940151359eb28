"""Reads a capsule request in flat memory.

In: the JSON body, as bytes or as a memory map of a file. Out: a `GraphReader`, whose nodes, relationships and files are
decoded each time they are iterated over. Strings are decoded as *safe texts* (see `safe_text`).
"""

from __future__ import annotations

import os
import re
from codecs import BOM_UTF8, getincrementaldecoder
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from mmap import ACCESS_READ, mmap
from operator import attrgetter
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from wherry.capsules.faults import Data, decoded
from wherry.capsules.graph import CapsuleOptions, Graph, GraphSource, Node, NodeOutline, Relationship
from wherry.capsules.json_chunks import LongString, array_chunks, object_chunks
from wherry.errors import EmptyGraph, Invalid, Malformed
from wherry.memvid.safe_text import has_escape, has_surrogate, repair
from wherry.storage.workspaces import scratch_file

_INDEX = re.compile(r"\$\[(\d+)\]")
_STEP = 1 << 20
_FILES = "$.fileContents"
_NULL = msgspec.Raw(b"null")
_RawGraph = msgspec.defstruct(
    "Graph",
    [
        (field.name, msgspec.Raw) if field.required else (field.name, msgspec.Raw, _NULL)
        for field in msgspec.structs.fields(Graph)
    ],
    rename="camel",
)
"""A graph whose members are not decoded yet."""

E = TypeVar("E", bound=Node | Relationship)


class Elements(Generic[E]):
    """The nodes or the relationships of a graph: the elements in the JSON `text` of the member `name`."""

    def __init__(self, name: str, text: memoryview, element: type[E]) -> None:
        self._place = f"$.{name}"
        self._decode = msgspec.json.Decoder(list[element]).decode  # type: ignore[valid-type]
        if bytes(text[:1]) != b"[":
            _member(text, list[element] | None, self._place)  # type: ignore[valid-type]
            text = memoryview(b"[]")
        self._text = text

    def __iter__(self) -> Iterator[E]:
        return chain.from_iterable(self._chunks())

    def _chunks(self) -> Iterator[list[E]]:
        number = 0

        def place(local: str) -> str:
            return _INDEX.sub(lambda index: f"{self._place}[{number + int(index[1])}]", local, count=1)

        def decode(data: bytes) -> list[E]:
            return decoded(self._decode, data, place)

        for chunk in array_chunks(self._text, decode):
            yield chunk
            number += len(chunk)


class FileContents:
    """The paths and contents of a graph's files. If a path repeats, the last one counts."""

    def __init__(self, text: memoryview) -> None:
        self._decode = msgspec.json.Decoder(dict[str, str | None]).decode
        if bytes(text[:1]) != b"{":
            _member(text, dict[str, str | None] | None, _FILES)
            text = memoryview(b"{}")
        self._text = text

    def __iter__(self) -> Iterator[tuple[str, Iterable[str]]]:
        """Yield each path with its content in parts."""
        for chunk in object_chunks(self._text, self._chunk):
            for path, content in chunk:
                if isinstance(content, LongString):
                    yield path, (_member(part, str, _FILES) for part in content)
                else:
                    yield path, (content,) if content else ()

    def _chunk(self, data: bytes) -> dict[str, str | None]:
        return decoded(self._decode, data, lambda local: local.replace("$", _FILES, 1), str | None)


class GraphReader:
    """A capsule request; see `Graph` for its members. All of it is checked at once, except for `file_contents`.

    Attributes:
        labels: how many nodes there are of each label.
        types: how many relationships there are of each type.
    """

    def __init__(self, data: bytes | mmap) -> None:
        text = memoryview(data)
        if bytes(text[: len(BOM_UTF8)]) == BOM_UTF8:
            text = text[len(BOM_UTF8) :]
        members = {name: memoryview(raw) for name, raw in msgspec.structs.asdict(_members(text)).items()}
        self.session_id: str = _member(members["session_id"], str, "$.sessionId")
        self.project_name: str = _member(members["project_name"], str, "$.projectName")
        self.source: GraphSource = _member(members["source"], GraphSource, "$.source")
        self.options: CapsuleOptions = (
            _member(members["options"], CapsuleOptions | None, "$.options") or CapsuleOptions()
        )
        self.nodes = Elements("nodes", members["nodes"], Node)
        self.outlines = Elements("nodes", members["nodes"], NodeOutline)
        self.relationships = Elements("relationships", members["relationships"], Relationship)
        self.labels = Counter(map(attrgetter("label"), self.nodes))
        self.types = Counter(map(attrgetter("type"), self.relationships))
        self.file_contents = FileContents(members["file_contents"])


def mapped(path: Path) -> bytes | mmap:
    """The content of a file. A file that cannot be mapped, such as a pipe, is read whole."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return mmap(file.fileno(), 0, access=ACCESS_READ) if size else file.read()


def open_graph(path: Path) -> GraphReader:
    """Decode and check the request in a file; see `read_graph`."""
    return read_graph(mapped(path))


def read_graph(data: bytes | mmap) -> GraphReader:
    """Decode and check a request.

    Raises:
        Malformed: it is not JSON.
        EmptyGraph: it has no nodes, or no relationships.
        Invalid: JSON of another shape (422); the message names the place, as in ``$.nodes[3].id``.
    """
    graph = GraphReader(data)
    for _, parts in graph.file_contents:
        deque(parts, maxlen=0)
    for name, counts in (("nodes", graph.labels), ("relationships", graph.types)):
        if not counts:
            raise EmptyGraph(f"the graph has no {name}", field=name)
    return graph


def _members(text: memoryview) -> msgspec.Struct:
    decode = partial(decoded, msgspec.json.Decoder(_RawGraph).decode, place=str)
    try:
        if has_escape(text):
            return decode(_repaired(text))
        try:
            return decode(text)
        except msgspec.DecodeError:
            # Repairing costs as much as decoding, and hardly any graph needs it.
            if not has_surrogate(text):
                raise
            return decode(_repaired(text))
    except msgspec.DecodeError as error:
        raise Malformed(f"the body is not JSON: {error}") from error
    except Invalid:
        _require_utf8(text)  # the strings are not decoded yet
        raise


def _require_utf8(text: memoryview) -> None:
    decode = getincrementaldecoder("utf-8")().decode
    try:
        for at in range(0, len(text), _STEP):
            decode(text[at : at + _STEP], final=at + _STEP >= len(text))
    except UnicodeDecodeError as error:
        raise Malformed(f"the body is not UTF-8: {error.reason}") from error


def _repaired(text: memoryview) -> memoryview:
    """The repaired text, in a temporary file instead of memory."""
    with scratch_file() as file:
        repair(text, file)
        file.flush()
        return memoryview(mmap(file.fileno(), 0, access=ACCESS_READ))


def _member(text: Data, kind: Any, place: str) -> Any:
    return decoded(msgspec.json.Decoder(kind).decode, text, lambda local: local.replace("$", place, 1))
