"""The content that was sent for a file, whole or as excerpts, and the passages of it that nodes show."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from itertools import chain, islice
from typing import NamedTuple

from wherry.capsules.excerpts import Lines
from wherry.capsules.symbols import Symbol

FILE_LINES = 80
# Only every 64th line's offset is kept, because 500 MiB of code have 15 to 20 million lines.
_MARK_EVERY = 64
# If lines are long, offsets are kept more often, so that every line is found quickly.
_MARK_CHARS = 1 << 14
_NEWLINE = re.compile("\n")


class Passage(NamedTuple):
    """A part of a text; not complete if its end was not sent."""

    content: str
    start: int
    end: int
    complete: bool = True


class WholeFile:
    """A whole file, with the offsets of some of its lines."""

    def __init__(self, content: str) -> None:
        self._content = content
        self._lines = content.count("\n") + 1
        self._marked_lines, self._marks = _marks(content)

    def of(self, symbol: Symbol) -> Passage | None:
        """The symbol's lines, or None if the file ends before them."""
        return None if symbol.first >= self._lines else self._passage(symbol.first, symbol.last)

    def head(self) -> Passage:
        """The first lines."""
        return self._passage(0, FILE_LINES - 1)

    def _passage(self, first: int, last: int) -> Passage:
        return Passage(self._content, self._start_of(first), self._start_of(last + 1) - 1)

    def _start_of(self, line: int) -> int:
        """The offset of a line's first character; for lines after the last, where the next line would begin."""
        if line >= self._lines:
            return len(self._content) + 1
        mark = bisect_right(self._marked_lines, line) - 1
        place = self._marks[mark]
        for _ in range(line - self._marked_lines[mark]):
            place = self._content.index("\n", place) + 1
        return place


def _marks(content: str) -> tuple[array[int], array[int]]:
    """Some line numbers and their offsets, so that there is one shortly before every line."""
    lines, places = array("Q", [0]), array("Q", [0])
    ends = (newline.end() for newline in islice(_NEWLINE.finditer(content), _MARK_EVERY - 1, None, _MARK_EVERY))
    for number, end in enumerate(chain(ends, [len(content) + 1])):
        if end - places[-1] > _MARK_CHARS:
            _mark_long(content, number * _MARK_EVERY, end, lines, places)
        if end <= len(content):
            lines.append((number + 1) * _MARK_EVERY)
            places.append(end)
    return lines, places


def _mark_long(content: str, line: int, end: int, lines: array[int], places: array[int]) -> None:
    """Mark more lines in a long stretch, so that no two marks with lines in between are far apart."""
    for newline in _NEWLINE.finditer(content, places[-1], end - 1):
        line += 1
        if newline.end() - places[-1] > _MARK_CHARS:
            lines.append(line)
            places.append(newline.end())


class ExcerptedFile:
    """A file for which only excerpts were sent.

    Args:
        lines: the lines whose numbers are certain.
    """

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def of(self, symbol: Symbol) -> Passage | None:
        """The symbol's lines, as far as they were sent, or None if its name is not where it should be."""
        passage, lines = self._passage(symbol.first, symbol.last)
        return passage if symbol.begins_at(lines, 0) else None

    def head(self) -> Passage | None:
        """The first lines, as far as they were sent, or None if the first line was not."""
        passage, lines = self._passage(0, FILE_LINES - 1)
        return passage if lines else None

    def _passage(self, first: int, last: int) -> tuple[Passage, list[str]]:
        """The lines from `first` to `last`, or up to the first unknown line."""
        end = first
        while end <= last and end in self._lines:
            end += 1
        complete = end > last
        while end > first and self._lines[end - 1] is None:
            end -= 1
        lines = [self._lines[number] or "" for number in range(first, end)]
        text = "\n".join(lines)
        return Passage(text, 0, len(text), complete), lines
