"""Finds the lines of code of a node.

In: the contents of the graph's files, and a node. Out: its snippet, cut to size, with indentation and blank lines kept.

GitNexus counts lines from 0, and ranges include both ends. A snippet only ever contains lines that are certainly the
symbol's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wherry.capsules.file_lines import MAX_CHARS, excerpted_lines
from wherry.capsules.graph import Node
from wherry.capsules.sources import ExcerptedFile, Passage, WholeFile
from wherry.capsules.symbols import Symbol
from wherry.memvid.safe_text import cut

NO_SOURCE = "<no source content available>"
MIN_SNIPPET_CHARS = 80


class Snippets:
    """Cuts snippets out of the files of a graph.

    Args:
        contents: path → text or None.
        nodes: all nodes of the graph, in order.
        max_chars: the maximum length of a snippet; values below 80 count as 80.
    """

    def __init__(self, contents: Mapping[str, str | None], nodes: Iterable[Node], max_chars: int) -> None:
        self._contents = contents
        self._symbols = _symbols_by_file(nodes, contents)
        self._max_chars = max(max_chars, MIN_SNIPPET_CHARS)
        self._most_excerpted = min(max(MAX_CHARS, 4 * self._max_chars), 4 * MAX_CHARS)
        self._sources: dict[str, WholeFile | ExcerptedFile] = {}

    def of(self, node: Node) -> str:
        """The node's own lines, or the first 80 lines of a File without a range, or `NO_SOURCE`."""
        path, symbol = node.property("filePath"), Symbol.of(node)
        source = self._source_of(path) if isinstance(path, str) else None
        passage = source.of(symbol) if source and symbol and symbol.possible else None
        if passage is None and source and node.label == "File":
            passage = source.head()
        return NO_SOURCE if passage is None else self._cut(passage)

    def _source_of(self, path: str) -> WholeFile | ExcerptedFile | None:
        content = self._contents.get(path)
        if content and path not in self._sources:
            numbered = excerpted_lines(content, self._symbols.get(path, ()), self._most_excerpted)
            self._sources[path] = WholeFile(content) if numbered is None else ExcerptedFile(numbered)
        return self._sources.get(path)

    def _cut(self, passage: Passage) -> str:
        content, start, end, complete = passage
        if complete and end - start <= self._max_chars:
            return content[start:end]
        shown = min(end - start, self._max_chars)
        size = f" of {end - start}" if complete else ""
        return f"{cut(content[start : start + shown], shown)}\n… [cut: first {shown}{size} characters]"


def _symbols_by_file(nodes: Iterable[Node], contents: Mapping[str, str | None]) -> dict[str, list[Symbol]]:
    symbols: dict[str, list[Symbol]] = {}
    for node in nodes:
        path, symbol = node.property("filePath"), Symbol.of(node)
        if symbol and isinstance(path, str) and contents.get(path):
            symbols.setdefault(path, []).append(symbol)
    return symbols
