"""Bounds on text from clients, so that it costs little to normalise, to parse and to repeat.

Normalisation sorts each run of combining marks, which takes Python quadratic time: 30,000 marks in a row block a
process for seconds. So the length of a text is limited first, and long runs are refused. Long numbers take quadratic
time to parse, too.
"""

from __future__ import annotations

import unicodedata

MAX_EMAIL_CHARACTERS = 254
"""The longest address that mail can be sent to (RFC 5321, section 4.5.3.1.3, without its angle brackets)."""

MAX_DIGITS = 18
"""More than any number in a request needs, except for keys."""

SHOWN_CHARACTERS = 200
"""How much of a client's text an error message repeats."""

MAX_MARKS = 30
"""The most combining marks in a row, as in the Stream-Safe Text Format (Unicode Standard Annex #15, section 13)."""


def whole_number(text: str, max_digits: int = MAX_DIGITS) -> int | None:
    """The number that a text of 1 to `max_digits` ASCII digits means, or None for any other text."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= max_digits else None


def has_long_run_of_marks(text: str) -> bool:
    """Whether a text has more combining marks in a row than `MAX_MARKS`."""
    if len(text) <= MAX_MARKS or text.isascii():
        return False
    run = 0
    for character in text:
        run = run + 1 if unicodedata.combining(character) else 0
        if run > MAX_MARKS:
            return True
    return False
