"""Finds the line numbers of the excerpts that the GitNexus browser client sends instead of whole files.

For each of a file's first ten symbols, in graph order, the client takes the symbol's lines with 20 more on both sides
and strips white space from both ends. It joins these excerpts with ``...`` and truncates the result. So the position of
an excerpt in its file is known, except for the number of blank lines that were stripped from its start. The lines where
the symbols' names appear determine that number; if they do not, the excerpt's line numbers are unknown.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from wherry.capsules.symbols import Symbol

_SEPARATOR = re.compile(r"(?<=\S)\n\n\.\.\.\n\n(?=\S)")  # excerpts do not begin or end with white space
_TWO_SEPARATORS = "\n\n...\n\n...\n\n"
TRUNCATED = "...[truncated]"
MIN_TRUNCATED_CHARS = 2000
MAX_EXCERPTS = 10
LINES_BEFORE = 21  # the client counts lines from 1, but `startLine` counts from 0
LINES_AFTER = 19

Lines = dict[int, str | None]
"""Lines of a file by number; None stands for a blank line whose white space is unknown."""


class Excerpt(NamedTuple):
    """One of a file's excerpts; if it is truncated, only its complete lines."""

    lines: list[str]
    truncated: bool


class _Place(NamedTuple):
    """A line where a symbol's excerpt may begin, and how many symbols would then not be where the graph says."""

    contradictions: int
    start: int
    owner: Symbol
    named: bool


def is_truncated(text: str) -> bool:
    """Whether the client has truncated the text."""
    return text.endswith(TRUNCATED) and len(text) >= MIN_TRUNCATED_CHARS


def split(text: str) -> list[Excerpt]:
    """A file's excerpts, in order."""
    *before, last = _SEPARATOR.split(text)
    excerpts = [Excerpt(part.split("\n"), truncated=False) for part in before]
    return [*excerpts, Excerpt(complete_lines(last) if is_truncated(text) else last.split("\n"), is_truncated(text))]


def complete_lines(truncated: str) -> list[str]:
    """The complete lines of a truncated text, which may end in the middle of a line or a separator."""
    lines = truncated.removesuffix(TRUNCATED).rstrip("\n").split("\n")[:-1]
    return lines[:-1] if lines[-1:] == ["..."] else lines


def is_ambiguous(text: str, symbols: Sequence[Symbol]) -> bool:
    """Whether code cannot be distinguished from separators: there are too many, or two of them overlap."""
    return _TWO_SEPARATORS in text or 1 + len(_SEPARATOR.findall(text)) > len(_sent(symbols))


def most_lines(symbol: Symbol) -> int:
    """The number of lines of a symbol's excerpt before it is stripped, unless the file ends within it."""
    return max(0, symbol.last + LINES_AFTER - _sent_from(symbol) + 1)


class Numbering:
    """What a file's excerpts reveal about its lines, given its symbols in graph order.

    Attributes:
        lines: the lines whose numbers are certain.
        plausible: whether each excerpt may belong to one of these symbols.
    """

    def __init__(self, excerpts: Sequence[Excerpt], symbols: Sequence[Symbol]) -> None:
        self.lines: Lines = {}
        self._texts: dict[int, str] = {}  # of all lines that are known, without white space at both ends
        self._contradicted = False
        # A name that does not appear in the text proves nothing: it may not have been sent, or not be in the code.
        text = "\n".join(line for excerpt in excerpts for line in excerpt.lines)
        self._named = sorted((each.first, each) for each in symbols if each.findable and str(each.name) in text)
        owners = _owners(excerpts, symbols)
        found = [(excerpt, self._places(excerpt, of)) for excerpt, of in zip(excerpts, owners, strict=True)]
        self.plausible = all(
            places or excerpt.truncated or not any(symbol.findable for symbol in of)
            for (excerpt, places), of in zip(found, owners, strict=True)
        )
        if all(len(of) == 1 for of in owners) or all(_is_certain(places) for _, places in found):
            self._add_all(found)
        if self._contradicted:
            self.lines.clear()

    def _add_all(self, found: Sequence[tuple[Excerpt, Sequence[_Place]]]) -> None:
        for excerpt, places in found:
            if _is_certain(places):
                self._add(excerpt, places[0])
        for excerpt, places in found:
            agreeing = [place for place in places if self._agrees(excerpt, place.start)]
            if not _is_certain(places) and _is_certain(agreeing):
                self._add(excerpt, agreeing[0])

    def _places(self, excerpt: Excerpt, owners: Iterable[Symbol]) -> list[_Place]:
        """The places with the fewest contradictions."""
        places = [place for owner in owners for place in self._places_of(excerpt, owner)]
        fewest = min((place.contradictions for place in places), default=0)
        found = [place for place in places if place.contradictions == fewest]
        return found if all(place.named for place in found) else []

    def _places_of(self, excerpt: Excerpt, owner: Symbol) -> Iterator[_Place]:
        first, length = _sent_from(owner), len(excerpt.lines)
        missing = LINES_BEFORE if excerpt.truncated else most_lines(owner) - length
        for start in range(first, min(owner.first, first + missing) + 1):
            named = owner.begins_at(excerpt.lines, owner.first - start)
            if named or (excerpt.truncated and owner.first - start >= length):
                yield _Place(self._contradictions(excerpt, start), start, owner, named)

    def _contradictions(self, excerpt: Excerpt, start: int) -> int:
        there = slice(*(bisect_left(self._named, (line,)) for line in (start, start + len(excerpt.lines))))
        return sum(not symbol.begins_at(excerpt.lines, first - start) for first, symbol in self._named[there])

    def _agrees(self, excerpt: Excerpt, start: int) -> bool:
        both = [
            ((self.lines[number] or "").strip(), line.strip())
            for number, line in enumerate(excerpt.lines, start)
            if number in self.lines
        ]
        return any(known for known, _ in both) and all(known == line for known, line in both)

    def _add(self, excerpt: Excerpt, place: _Place) -> None:
        first, end = _sent_from(place.owner), place.start + len(excerpt.lines)
        # The indentation of an excerpt's first line was stripped, but the first line of a file has none.
        lines = excerpt.lines if place.start == 0 else excerpt.lines[1:]
        for number, line in enumerate(excerpt.lines, place.start):
            self._note(number, line.strip())
        for number, line in enumerate(lines, end - len(lines)):
            self._learn(number, line)
        for number in range(first, place.start):
            self._learn(number, None)
        if not excerpt.truncated:  # the lines that are missing at the end were blank too
            for number in range(end, min(first + most_lines(place.owner), end + LINES_BEFORE)):
                self._learn(number, None)

    def _note(self, number: int, text: str) -> None:
        self._contradicted |= self._texts.setdefault(number, text) != text

    def _learn(self, number: int, line: str | None) -> None:
        self._note(number, (line or "").strip())
        known = self.lines.setdefault(number, line)
        if line is not None and (known is None or len(line) > len(known)):  # the shorter one was stripped
            self.lines[number] = line


def _is_certain(places: Sequence[_Place]) -> bool:
    return len({place.start for place in places}) == 1


def _sent(symbols: Sequence[Symbol]) -> list[Symbol]:
    """The symbols whose excerpts the client sends, unless they are blank."""
    return [symbol for symbol in symbols if most_lines(symbol)][:MAX_EXCERPTS]


def _owners(excerpts: Sequence[Excerpt], symbols: Sequence[Symbol]) -> list[Sequence[Symbol]]:
    """The symbols that each excerpt may belong to."""
    sent = _sent(symbols)
    if len(excerpts) == len(sent) or (excerpts[-1].truncated and len(excerpts) <= len(sent)):
        return [[symbol] for symbol, _ in zip(sent, excerpts, strict=False)]
    return [sent] * len(excerpts)  # empty excerpts were left out, or the code itself contains a separator


def _sent_from(symbol: Symbol) -> int:
    return max(0, symbol.first - LINES_BEFORE)
