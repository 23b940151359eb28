"""Makes any text safe for capsule readers, without losing a character.

In: text, or JSON that contains it. Out: a *safe text*, from which `restore` returns the original.

Two things break capsule readers: a lone surrogate (half of a UTF-16 pair, which JSON can express but UTF-8 cannot), and
a text that begins like a PDF file, which is then parsed as one. Both are escaped with ``␛`` (U+241B):

    ␛␛        the character ␛ itself
    ␛uD83D    the lone surrogate U+D83D (four hexadecimal digits)
    ␛.        nothing: a guard before a text that begins with ``%PDF``

All other texts, which is nearly all of them, stay unchanged.
"""

from __future__ import annotations

import re
from typing import IO

ESCAPE = "\u241b"
GUARD = ESCAPE + "."

_UNSAFE = re.compile(f"[{ESCAPE}\ud800-\udfff]")
_ESCAPED = re.compile(f"{ESCAPE}({ESCAPE}|\\.|u[0-9a-fA-F]{{4}})")
# Before it looks for a PDF's magic bytes, the reader skips a byte-order mark and ASCII white space.
_PDF = re.compile("\ufeff?[ \t\n\f\r]*%PDF")
# An escaped backslash is matched first, so that a `u` after it is never read as part of an escape.
_JSON_UNSAFE = re.compile(
    rb"\\\\"
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|\\u(?P<lone>[dD][89a-fA-F][0-9a-fA-F]{2})"
    rb"|(?P<escape>\\u241[bB]|\xe2\x90\x9b)"
)
# Two patterns, because each has a literal prefix: one pattern for both would be ten times slower.
_JSON_ESCAPE = (re.compile(rb"\\u241[bB]"), re.compile(rb"\xe2\x90\x9b"))
_JSON_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def make_safe(text: str) -> str:
    """Escape lone surrogates, and `␛` itself."""
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return ESCAPE + (ESCAPE if character == ESCAPE else f"u{ord(character):04X}")


def guard(safe: str) -> str:
    """Put the guard before a safe text that would be parsed as a PDF file."""
    return GUARD + safe if _PDF.match(safe) else safe


def restore(safe: str) -> str:
    """The text that was passed to `make_safe` and `guard`."""
    return _ESCAPED.sub(_unescape, safe)


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    if code == ".":
        return ""
    return ESCAPE if code == ESCAPE else chr(int(code[1:], 16))


def cut(safe: str, limit: int) -> str:
    """The first `limit` characters, without an escape sequence that would be cut in two."""
    head = safe[:limit]
    last = head.rfind(ESCAPE, max(0, limit - 5))
    if last >= 0 and _UNSAFE_TAIL.fullmatch(head, last):
        # An odd number of ␛ in a row ends inside an escape; an even number does not.
        run = last - len(head[: last + 1].rstrip(ESCAPE)) + 1
        return head[:last] if run % 2 else head
    return head


_UNSAFE_TAIL = re.compile(f"{ESCAPE}(u[0-9a-fA-F]{{0,3}})?")


def has_escape(data: bytes | memoryview) -> bool:
    """Whether JSON may contain `␛`, and so needs `repair` before it is decoded. Fast: 500 MiB take a second."""
    return any(pattern.search(data) for pattern in _JSON_ESCAPE)


def has_surrogate(data: bytes | memoryview) -> bool:
    """Whether JSON may contain a lone surrogate, so that `repair` may help if decoding has failed."""
    return _JSON_SURROGATE.search(data) is not None


def repair(data: bytes | memoryview, out: IO[bytes]) -> None:
    """Write JSON in which every string decodes to its safe text."""
    at = 0
    with memoryview(data) as whole:
        for match in _JSON_UNSAFE.finditer(whole):
            if (safe := _repaired(match)) is not None:
                out.write(whole[at : match.start()])
                out.write(safe)
                at = match.end()
        out.write(whole[at:])


def _repaired(match: re.Match[bytes]) -> bytes | None:
    """A string's safe text in JSON, or None if it is safe already."""
    if match["lone"]:
        return ESCAPE.encode() + b"u" + match["lone"].upper()
    return (ESCAPE + ESCAPE).encode() if match["escape"] else None
