"""Makes any text safe for a capsule's reader, without losing a character of it.

In: text, or the JSON bytes that hold it. Out: a *safe text*, from which `restore` gives back the original.

Two things break a reader of capsules: a lone surrogate (half of a UTF-16 pair, which JSON can spell but UTF-8 cannot),
and a text that begins like a PDF file, which the reader then takes for one. Both are escaped with ``␛`` (U+241B):

    ␛␛        the character ␛ itself
    ␛uD83D    the lone surrogate U+D83D (four hexadecimal digits)
    ␛.        nothing: a guard in front of a text that begins with ``%PDF``

Texts without these, which is all but a handful, are left exactly as they are.
"""

from __future__ import annotations

import re

ESCAPE = "\u241b"
GUARD = ESCAPE + "."

_UNSAFE = re.compile(f"[{ESCAPE}\ud800-\udfff]")
_ESCAPED = re.compile(f"{ESCAPE}({ESCAPE}|\\.|u[0-9a-fA-F]{{4}})")
# What the reader skips before it looks for the magic bytes of a PDF: a byte-order mark, then ASCII white space.
_PDF = re.compile("\ufeff?[ \t\n\f\r]*%PDF")
# An escaped backslash is matched first, so that the `u` behind it is never taken for an escape.
_JSON_UNSAFE = re.compile(
    rb"\\\\"
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|\\u(?P<lone>[dD][89a-fA-F][0-9a-fA-F]{2})"
    rb"|(?P<escape>\\u241[bB]|\xe2\x90\x9b)"
)
# One literal prefix each: a single pattern of both is ten times as slow.
_JSON_ESCAPE = (re.compile(rb"\\u241[bB]"), re.compile(rb"\xe2\x90\x9b"))
_JSON_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def make_safe(text: str) -> str:
    """Escape what a reader cannot take: `␛` and lone surrogates."""
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return ESCAPE + (ESCAPE if character == ESCAPE else f"u{ord(character):04X}")


def guard(safe: str) -> str:
    """Put the guard before a safe text that a reader would take for a PDF file."""
    return GUARD + safe if _PDF.match(safe) else safe


def restore(safe: str) -> str:
    """Give back the text that `make_safe` and `guard` were given."""
    return _ESCAPED.sub(_unescape, safe)


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    if code == ".":
        return ""
    return ESCAPE if code == ESCAPE else chr(int(code[1:], 16))


def cut(safe: str, limit: int) -> str:
    """The first `limit` characters, less one escape that would be cut in two."""
    head = safe[:limit]
    last = head.rfind(ESCAPE, max(0, limit - 5))
    if last >= 0 and _UNSAFE_TAIL.fullmatch(head, last):
        # An odd run of ␛ ends in an escape that has begun; an even one is whole.
        run = last - len(head[: last + 1].rstrip(ESCAPE)) + 1
        return head[:last] if run % 2 else head
    return head


_UNSAFE_TAIL = re.compile(f"{ESCAPE}(u[0-9a-fA-F]{{0,3}})?")


def has_escape(data: bytes | memoryview) -> bool:
    """Whether JSON may hold `␛`, and so must be repaired before it is decoded. Fast: 500 MiB take a second."""
    return any(pattern.search(data) for pattern in _JSON_ESCAPE)


def has_surrogate(data: bytes | memoryview) -> bool:
    """Whether JSON may hold a lone surrogate, and is worth repairing if it could not be decoded."""
    return _JSON_SURROGATE.search(data) is not None


def repair(data: bytes | memoryview) -> bytes:
    """Rewrite JSON so that every string in it decodes to the safe text of what it meant."""
    return _JSON_UNSAFE.sub(_repair, data)


def _repair(match: re.Match[bytes]) -> bytes:
    if match["lone"]:
        return ESCAPE.encode() + b"u" + match["lone"].upper()
    return (ESCAPE + ESCAPE).encode() if match["escape"] else match[0]
