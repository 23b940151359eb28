"""Finds the lines of code that belong to a node.

In: the contents of the graph's files, a node. Out: its snippet, cut to size, with indentation and blank lines kept.

GitNexus counts lines from 0 and means both ends of a range.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping
from itertools import islice

from wherry.capsules.graph import Node
from wherry.capsules.safe_text import cut

NO_SOURCE = "<no source content available>"
MIN_SNIPPET_CHARS = 80
FILE_LINES = 80
SYMBOL_LINES = 40
# So that the places of all lines of all files need not be kept: 500 MiB of code have 15 to 20 million.
_MARK_EVERY = 64
_NEWLINE = re.compile("\n")


class Snippets:
    """Cuts snippets out of one graph's files.

    Args:
        contents: path → text; a file may be null.
        max_chars: the longest snippet, never less than 80 characters.
    """

    def __init__(self, contents: Mapping[str, str | None], max_chars: int) -> None:
        self._contents = contents
        self._max_chars = max(max_chars, MIN_SNIPPET_CHARS)
        self._texts: dict[str, _Text] = {}

    def of(self, node: Node) -> str:
        """The node's own lines; else the first lines of its file; else a note that there are none."""
        path = node.property("filePath")
        text = self._text_of(path) if isinstance(path, str) else None
        if text is None:
            return NO_SOURCE
        first, behind = _own_lines(node, text) or (0, FILE_LINES if node.label == "File" else SYMBOL_LINES)
        return self._cut(text, text.start_of(first), text.start_of(behind) - 1)

    def _text_of(self, path: str) -> _Text | None:
        content = self._contents.get(path)
        if content and path not in self._texts:
            self._texts[path] = _Text(content)
        return self._texts.get(path)

    def _cut(self, text: _Text, start: int, end: int) -> str:
        if end - start <= self._max_chars:
            return text.content[start:end]
        head = cut(text.content[start : start + self._max_chars], self._max_chars)
        return f"{head}\n… [cut: first {self._max_chars} of {end - start} characters]"


class _Text:
    """A file's content, and where its lines begin."""

    def __init__(self, content: str) -> None:
        self.content = content
        self.lines = content.count("\n") + 1
        self._marks = array("Q", [0])
        later = islice(_NEWLINE.finditer(content), _MARK_EVERY - 1, None, _MARK_EVERY)
        self._marks.extend(newline.end() for newline in later)

    def start_of(self, line: int) -> int:
        """The place of a line's first character; of a line behind the last, where one more would begin."""
        if line >= self.lines:
            return len(self.content) + 1
        place = self._marks[line // _MARK_EVERY]
        for _ in range(line % _MARK_EVERY):
            place = self.content.index("\n", place) + 1
        return place


def _own_lines(node: Node, text: _Text) -> tuple[int, int] | None:
    """The first of the node's lines, and the one behind its last; None where they make no sense."""
    start, end = node.property("startLine"), node.property("endLine")
    if not (_is_line(start) and _is_line(end)) or not 0 <= start <= end or start >= text.lines:
        return None
    return start, end + 1


def _is_line(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
