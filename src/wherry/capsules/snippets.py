"""Finds the lines of code that belong to a node.

In: the contents of the graph's files, a node. Out: its snippet, cut to size, with indentation and blank lines kept.

GitNexus counts lines from 0 and means both ends of a range.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from wherry.capsules.graph import Node
from wherry.capsules.safe_text import cut

NO_SOURCE = "<no source content available>"
MIN_SNIPPET_CHARS = 80
FILE_LINES = 80
SYMBOL_LINES = 40
# Nodes come file by file, so a few files are enough to split each only once.
_CACHED_FILES = 32


class Snippets:
    """Cuts snippets out of one graph's files.

    Args:
        contents: path → text; a file may be null.
        max_chars: the longest snippet, never less than 80 characters.
    """

    def __init__(self, contents: Mapping[str, str | None], max_chars: int) -> None:
        self._contents = contents
        self._max_chars = max(max_chars, MIN_SNIPPET_CHARS)
        self._lines: OrderedDict[str, list[str]] = OrderedDict()

    def of(self, node: Node) -> str:
        """The node's own lines; else the first lines of its file; else a note that there are none."""
        path = node.property("filePath")
        lines = self._lines_of(path) if isinstance(path, str) else None
        if not lines:
            return NO_SOURCE
        chosen = _own_lines(node, lines) or lines[: FILE_LINES if node.label == "File" else SYMBOL_LINES]
        return self._cut("\n".join(chosen))

    def _lines_of(self, path: str) -> list[str] | None:
        if path in self._lines:
            self._lines.move_to_end(path)
            return self._lines[path]
        text = self._contents.get(path)
        if not text:
            return None
        self._lines[path] = text.split("\n")
        if len(self._lines) > _CACHED_FILES:
            self._lines.popitem(last=False)
        return self._lines[path]

    def _cut(self, text: str) -> str:
        if len(text) <= self._max_chars:
            return text
        return f"{cut(text, self._max_chars)}\n… [cut: first {self._max_chars} of {len(text)} characters]"


def _own_lines(node: Node, lines: list[str]) -> list[str]:
    start, end = node.property("startLine"), node.property("endLine")
    if not (_is_line(start) and _is_line(end)) or not 0 <= start <= end or start >= len(lines):
        return []
    return lines[start : end + 1]


def _is_line(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
