"""Decodes a JSON array or object in chunks, so that memory stays flat however large it is.

The text must be well-formed JSON, which decoding it as `msgspec.Raw` ensures. The end of a chunk is a guess: where an
element seems to end. If the chunk, put in brackets, is a valid array or object, the guess was right. If not, its
elements are decoded one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import TypeVar

import msgspec

from wherry.errors import Invalid

CHUNK_BYTES = 1 << 16
LONG_STRING_BYTES = 1 << 20
_GUESSES = 3
_LOOKED_AT = 64
_NULL = b"null"

_TRAILING = re.compile(r"JSON is malformed: trailing characters \(byte (\d+)\)")
_SPACE = re.compile(rb"[ \t\r\n]*+")
_OBJECT_END = re.compile(rb"\}[ \t\r\n]*+,")
_STRING_END = re.compile(rb'"[ \t\r\n]*+,')
_SEPARATOR = re.compile(rb"[ \t\r\n]*+,?[ \t\r\n]*+")
# A part of a string that ends with a complete escape sequence, both halves of a surrogate pair included.
_CHARACTERS = re.compile(
    rb"(?:[^\\]++|\\[^u]|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[0-9a-fA-F]{4}|\\u(?![dD][89abAB])[0-9a-fA-F]{4})*+", re.DOTALL
)

_raw = msgspec.json.Decoder(msgspec.Raw).decode

T = TypeVar("T")


class LongString:
    """A long string, iterated over in parts, each of which is a JSON string."""

    def __init__(self, text: memoryview) -> None:
        self._text = text[1:-1]

    def __iter__(self) -> Iterator[bytes]:
        at = 0
        while at < len(self._text):
            end = _end(_CHARACTERS, self._text, at, at + LONG_STRING_BYTES)
            # Not within a UTF-8 sequence, whose bytes after the first begin with the bits 10.
            whole = (cut for cut in range(end, end - 4, -1) if cut == len(self._text) or self._text[cut] & 0xC0 != 0x80)
            complete = next(whole, end)
            yield b"".join((b'"', self._text[at:complete], b'"'))
            at = complete


def array_chunks(array: memoryview, decode: Callable[[bytes], T]) -> Iterator[T]:
    """Decode an array as a sequence of shorter arrays."""

    def one(at: int, end: int) -> T:
        return decode(b"".join((b"[", array[at:end], b"]")))

    return _chunks(array, decode, one, _object_ends, _value_end)


def object_chunks(
    members: memoryview, decode: Callable[[bytes], dict[str, T]]
) -> Iterator[Iterable[tuple[str, T | LongString]]]:
    """Decode an object, whose values are mostly strings, as a sequence of shorter lists of members."""

    def some(data: bytes) -> Iterable[tuple[str, T | LongString]]:
        return decode(data).items()

    def one(at: int, end: int) -> Iterable[tuple[str, T | LongString]]:
        value = _end(_SPACE, members, _value_end(members, at) + 1)
        if end - value > LONG_STRING_BYTES and members[value] == ord('"'):
            (key,) = decode(b"".join((b"{", members[at:value], b"null}")))
            return [(key, LongString(memoryview(_raw(members[value:end]))))]
        return some(b"".join((b"{", members[at:end], b"}")))

    return _chunks(members, some, one, _member_ends, _member_end)


def _chunks(
    text: memoryview,
    decode: Callable[[bytes], T],
    decode_one: Callable[[int, int], T],
    guesses: Callable[[bytes], Iterator[int]],
    end_of_one: Callable[[memoryview, int], int],
) -> Iterator[T]:
    opening, closing, last = bytes(text[:1]), bytes(text[-1:]), len(text) - 1
    at, singly_until = _end(_SPACE, text, 1), 0
    while at < last:
        data = bytes(text[at : min(at + CHUNK_BYTES, last)]) if at >= singly_until else b""
        sizes = iter((len(data),)) if at + len(data) == last else islice(guesses(data), _GUESSES)
        found = next(_decoded(data, sizes, lambda some: decode(b"".join((opening, some, closing)))), None)
        if found is None:
            singly_until = max(singly_until, at + len(data))
            end = end_of_one(text, at)
            yield decode_one(at, end)
        else:
            end = at + found[0]
            yield found[1]
        at = _end(_SEPARATOR, text, end)


def _decoded(data: bytes, sizes: Iterator[int], decode: Callable[[bytes], T]) -> Iterator[tuple[int, T]]:
    """The sizes at which the data can be cut and decoded, and the results."""
    for size in sizes:
        # A fault is left to the elements being decoded one by one, so that its place can be named.
        with suppress(msgspec.DecodeError, Invalid):
            yield size, decode(data[:size])


def _object_ends(data: bytes) -> Iterator[int]:
    """Where objects before a comma end, last first."""
    return (at + 1 for at in _backwards(data, b"}") if _OBJECT_END.match(data, at))


def _member_ends(data: bytes) -> Iterator[int]:
    """Where strings before a comma end, last first, and then nulls. In a string, every quotation mark is escaped."""
    for at in _backwards(data, b'"'):
        if _STRING_END.match(data, at) and data[at - 1 : at] != b"\\":
            yield at + 1
    yield from (at + len(_NULL) for at in _backwards(data, _NULL))


def _backwards(data: bytes, part: bytes) -> Iterator[int]:
    """The last places of a part, last first."""
    at = len(data)
    for _ in range(_LOOKED_AT):
        at = data.rfind(part, 0, at)
        if at < 0:
            return
        yield at


def _member_end(text: memoryview, at: int) -> int:
    return _value_end(text, _value_end(text, at) + 1)


def _value_end(text: memoryview, at: int) -> int:
    """Where the value at a place ends, or the next token begins. There always is one: the closing bracket."""
    try:
        _raw(text[at:])
    except msgspec.DecodeError as error:
        found = _TRAILING.fullmatch(str(error))
        if found:
            return at + int(found[1]) - 1  # msgspec reports the offset after the unexpected byte
        raise
    raise ValueError("the text has no closing bracket")


def _end(pattern: re.Pattern[bytes], text: memoryview, at: int, before: int | None = None) -> int:
    found = pattern.match(text, at, len(text) if before is None else before)
    return found.end() if found else at
