"""The files of a graph, whole or as excerpts, and the passages of them that nodes show."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from itertools import chain, islice, pairwise
from typing import NamedTuple

from wherry.capsules.excerpts import Lines
from wherry.capsules.symbols import Symbol
from wherry.capsules.texts import Text

FILE_LINES = 80
# Only every 64th line's place is kept, because 500 MiB of code have 15 to 20 million lines.
_MARK_EVERY = 64
# If lines are long, places are kept more often, so that every line is found quickly.
_MARK_BYTES = 1 << 14
_NEWLINE = re.compile(b"\n")


class Passage(NamedTuple):
    """The beginning of a passage, and its length in characters; not complete if its end was not sent."""

    beginning: str
    chars: int
    complete: bool = True


class WholeFile:
    """A whole file, with the places of some of its lines: `weight` marks. `most` characters are shown."""

    def __init__(self, text: Text, most: int) -> None:
        self._text = text
        self._most = most
        self._marked_lines, self._marks, self._lines = _marks(text)
        self._chars_before = _chars_before(text, self._marks)
        self.weight = len(self._marks)

    def of(self, symbol: Symbol) -> Passage | None:
        """The symbol's lines, or None if the file ends before them."""
        return None if symbol.first >= self._lines else self._passage(symbol.first, symbol.last)

    def head(self) -> Passage:
        """The first lines."""
        return self._passage(0, FILE_LINES - 1)

    def _passage(self, first: int, last: int) -> Passage:
        start, before = self._start_of(first)
        end, chars = self._start_of(last + 1)
        return Passage(self._text.between(start, end - 1, self._most), chars - 1 - before)

    def _start_of(self, line: int) -> tuple[int, int]:
        """Where a line begins, and how many characters are before it. The last line counts as if a newline followed."""
        if line >= self._lines:
            return self._text.end + 1, self._text.chars + 1
        mark = bisect_right(self._marked_lines, line) - 1
        place = self._marks[mark]
        if newlines := line - self._marked_lines[mark]:
            near = self._text.data[place : place + _MARK_BYTES]
            place += len(near) - len(near.split(b"\n", newlines)[newlines])
        return place, self._chars_before[mark] + self._text.chars_between(self._marks[mark], place)


def _chars_before(text: Text, marks: array[int]) -> array[int]:
    total, counts = 0, array("Q", [0])
    for start, end in pairwise(marks):
        total += text.chars_between(start, end)
        counts.append(total)
    return counts


def _marks(text: Text) -> tuple[array[int], array[int], int]:
    """The numbers and places of some lines, at least one shortly before every line; and the number of all lines."""
    lines, places = array("Q", [0]), array("Q", [text.start])
    newlines = _NEWLINE.finditer(text.data, text.start, text.end)
    ends = (newline.end() for newline in islice(newlines, _MARK_EVERY - 1, None, _MARK_EVERY))
    for number, end in enumerate(chain(ends, [text.end + 1])):
        if end - places[-1] > _MARK_BYTES:
            _mark_long(text, number * _MARK_EVERY, end, lines, places)
        if end <= text.end:
            lines.append((number + 1) * _MARK_EVERY)
            places.append(end)
    rest = sum(1 for _ in _NEWLINE.finditer(text.data, places[-1], text.end))
    return lines, places, lines[-1] + rest + 1


def _mark_long(text: Text, line: int, end: int, lines: array[int], places: array[int]) -> None:
    """Mark more lines in a long stretch, so that no two marks with lines in between are far apart."""
    for newline in _NEWLINE.finditer(text.data, places[-1], end - 1):
        line += 1
        if newline.end() - places[-1] > _MARK_BYTES:
            lines.append(line)
            places.append(newline.end())


class ExcerptedFile:
    """A file for which only excerpts were sent: `weight` lines whose numbers are certain."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self.weight = len(lines)

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
        return Passage(text, len(text), complete), lines
