"""Finds the lines of code of a node, its snippet: cut to size, with indentation and blank lines kept.

GitNexus counts lines from 0, and ranges include both ends. A snippet only ever contains lines that are certainly the
symbol's own.
"""

from __future__ import annotations

from collections.abc import Iterable

from wherry.capsules.file_lines import MAX_CHARS, excerpted_lines, may_be_excerpts
from wherry.capsules.graph import Node
from wherry.capsules.sources import ExcerptedFile, Passage, WholeFile
from wherry.capsules.symbols import Symbol
from wherry.capsules.texts import Texts
from wherry.memvid.safe_text import cut

NO_SOURCE = "<no source content available>"
MIN_SNIPPET_CHARS = 80
_MOST_WEIGHT = 500_000
"""How many lines of excerpts and marks of whole files are cached for later nodes of the same files."""


class Snippets:
    """Cuts snippets out of the files of a graph, given all its nodes in order. A `max_chars` below 80 counts as 80."""

    def __init__(self, texts: Texts, nodes: Iterable[Node], max_chars: int) -> None:
        self._texts = texts
        self._max_chars = max(max_chars, MIN_SNIPPET_CHARS)
        self._most_excerpted = min(max(MAX_CHARS, 4 * self._max_chars), 4 * MAX_CHARS)
        self._symbols = _symbols_by_file(nodes, texts)
        self._sources: dict[str, WholeFile | ExcerptedFile] = {}
        self._weight = 0

    def of(self, node: Node) -> str:
        """The node's own lines, or the first 80 lines of a File without a range, or `NO_SOURCE`."""
        path, symbol = node.property("filePath"), Symbol.of(node)
        source = self._source_of(path) if isinstance(path, str) else None
        passage = source.of(symbol) if source and symbol and symbol.possible else None
        if passage is None and source and node.label == "File":
            passage = source.head()
        return NO_SOURCE if passage is None else self._cut(passage)

    def _source_of(self, path: str) -> WholeFile | ExcerptedFile | None:
        if path not in self._sources and (text := self._texts.get(path)):
            lines = excerpted_lines(text, self._symbols.get(path, ()), self._most_excerpted)
            source = WholeFile(text, self._max_chars) if lines is None else ExcerptedFile(lines)
            self._weight += source.weight
            if self._weight > _MOST_WEIGHT:
                self._sources.clear()
                self._weight = source.weight
            self._sources[path] = source
        return self._sources.get(path)

    def _cut(self, passage: Passage) -> str:
        beginning, chars, complete = passage
        if complete and chars <= self._max_chars:
            return beginning
        shown = min(chars, self._max_chars)
        size = f" of {chars}" if complete else ""
        return f"{cut(beginning[:shown], shown)}\n… [cut: first {shown}{size} characters]"


def _symbols_by_file(nodes: Iterable[Node], texts: Texts) -> dict[str, list[Symbol]]:
    """The symbols of the files that may be excerpts."""
    symbols: dict[str, list[Symbol]] = {path: [] for path, text in texts if may_be_excerpts(text)}
    for node in nodes if symbols else ():
        path, symbol = node.property("filePath"), Symbol.of(node)
        if symbol and isinstance(path, str) and path in symbols:
            symbols[path].append(symbol)
    return symbols
