"""Decides whether a text is a whole file or the browser client's excerpts of one (see `excerpts`).

Nothing in the request says so. A text that begins or ends with white space, as most files do, is a whole file.
Otherwise, both interpretations are compared with the lines where the symbols' names should be. If both match, only the
lines on which they agree are certain.
"""

from __future__ import annotations

from collections.abc import Sequence

from wherry.capsules.excerpts import (
    LINES_BEFORE,
    MIN_TRUNCATED_CHARS,
    Lines,
    Numbering,
    complete_lines,
    is_ambiguous,
    is_truncated,
    most_lines,
    split,
)
from wherry.capsules.symbols import Symbol
from wherry.capsules.texts import Text

MAX_CHARS = 1 << 16
"""A longer text is a whole file, unless the client requested longer snippets."""

# The characters that JavaScript's `trim` removes, which are not the same as those of `str.strip`.
_SPACE = frozenset(map(chr, (*range(9, 14), 32, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F)))
_TRIMMED = _SPACE | {"\u3000", "\ufeff"}


def may_be_excerpts(text: Text) -> bool:
    """Whether the text may be excerpts, which only the file's symbols can decide."""
    return text.tail(1) not in _TRIMMED


def excerpted_lines(text: Text, symbols: Sequence[Symbol], max_chars: int) -> Lines | None:
    """The lines whose numbers are certain if the text is excerpts of a file, or None if it is the whole file.

    The symbols are the file's, in graph order; `max_chars` is the maximum total length of its excerpts.
    """
    if not symbols:  # then the client sends the first 220 lines
        return dict(enumerate(complete_lines(text.all()))) if is_truncated(text.tail(MIN_TRUNCATED_CHARS)) else None
    if not _TRIMMED.isdisjoint((text.head(1), text.tail(1))) or text.chars > max_chars:
        return None
    content = text.all()
    if is_ambiguous(content, symbols):
        return {}
    excerpts, whole = split(content), content.split("\n")
    single = len(excerpts) == 1 and not excerpts[0].truncated
    if single and len(symbols) == 1 and _is_whole(whole, symbols[0]):
        return None
    numbering = Numbering(excerpts, symbols)
    named = [symbol for symbol in symbols if symbol.findable]
    confirmed = sum(symbol.last <= len(whole) and symbol.begins_at(whole, symbol.first) for symbol in named)
    moved = bool(numbering.lines) and numbering.lines.get(0) != whole[0]
    if single and len(symbols) > 1 and not moved and _is_likely(whole, named):
        return None  # the client would have sent several excerpts
    if named and confirmed == len(named):
        return _common(numbering.lines, whole) if numbering.plausible else _between_separators(whole)
    return numbering.lines


def _is_whole(lines: Sequence[str], symbol: Symbol) -> bool:
    """Whether a text is too long for its only symbol's excerpt, or would start at the file's first line anyway."""
    return len(lines) > most_lines(symbol) or (not symbol.findable and symbol.first <= LINES_BEFORE)


def _is_likely(lines: Sequence[str], named: Sequence[Symbol]) -> bool:
    """Whether most of the names in a text are in their symbols' lines."""
    text = "\n".join(lines)
    there = [symbol.is_named_from(lines, symbol.first) for symbol in named if str(symbol.name) in text]
    return 2 * sum(there) >= len(there)


def _common(numbered: Lines, whole: Sequence[str]) -> Lines:
    return {number: line for number, line in numbered.items() if number < len(whole) and whole[number] == line}


def _between_separators(whole: Sequence[str]) -> Lines:
    """The lines of what is probably a whole file, without possible separators, so that passages end before them."""
    return {number: line for number, line in enumerate(whole) if line != "..."}
