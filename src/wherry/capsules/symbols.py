"""Where a symbol is in its file according to the graph, and whether the lines there contain its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from wherry.capsules.graph import Node

# Limits, so that a minified file or a symbol of a million lines is not searched completely.
_SEARCHED_CHARS = 2000
_SEARCHED_LINES = 50
_ANNOTATIONS = ("@", "#[", "[")


class Symbol(NamedTuple):
    """The first and last line of a node, counted from 0, and its name, or None if it has none."""

    first: int
    last: int
    name: str | None

    @classmethod
    def of(cls, node: Node) -> Symbol | None:
        """The node's lines as the client sent them, even if impossible, or None if it sent none."""
        first, last, name = node.property("startLine"), node.property("endLine"), node.property("name")
        if not (_is_line(first) and _is_line(last)):
            return None
        return cls(first, last, name if isinstance(name, str) and name else None)

    @property
    def possible(self) -> bool:
        """Whether a file can have such lines."""
        return 0 <= self.first <= self.last

    @property
    def findable(self) -> bool:
        """Whether its name can confirm its lines."""
        return self.possible and self.name is not None

    def begins_at(self, lines: Sequence[str], index: int) -> bool:
        """Whether this line contains its name, or is an annotation and one of the symbol's next lines does."""
        if not self.name or not 0 <= index < len(lines):
            return False
        if has_word(lines[index], self.name):
            return True
        return lines[index].lstrip().startswith(_ANNOTATIONS) and self.is_named_from(lines, index)

    def is_named_from(self, lines: Sequence[str], index: int) -> bool:
        """Whether as many lines as the symbol has, from this one on, contain its name."""
        end = index + min(1 + self.last - self.first, _SEARCHED_LINES)
        return any(has_word(line, str(self.name)) for line in lines[index:end])


def has_word(line: str, word: str) -> bool:
    """Whether a line contains a word, not just as part of a longer one."""
    line = line[:_SEARCHED_CHARS]
    at = line.find(word)
    while at >= 0:
        end = at + len(word)
        if not (_joined(line[at - 1 : at], word[0]) or _joined(word[-1], line[end : end + 1])):
            return True
        at = line.find(word, at + 1)
    return False


def _joined(left: str, right: str) -> bool:
    return all(side.isalnum() or side == "_" for side in (left, right))


def _is_line(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
