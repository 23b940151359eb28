"""Parses one JSON document with ijson, as events, and protects ijson from hostile text.

ijson crashes the process on an integer of more than 4,300 digits. It scans an incomplete string again with every piece
that it is fed, and replaces an unpaired surrogate by a question mark. So every piece is checked first, and consists of
whole tokens. Only ijson's parser in C is fast enough: without it, the import of this module fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import InvalidOperation
from typing import Any, TypeAlias

import ijson
from ijson.backends import yajl2_c

from wherry.errors import BrokenJson, ErrorCode, JobFailed, WherryError

MAX_DEPTH = 200
MAX_DIGITS = 4000
PIECE_BYTES = 1 << 16
"""Of a piece, unless it contains a longer token. Events can take a hundred times as much memory as their text."""

Event: TypeAlias = tuple[str, Any]
"""The name of what ijson has read (a bracket, a key, a scalar), and the value of a key or scalar."""

OPENING = frozenset(["start_map", "start_array"])
CLOSING = frozenset(["end_map", "end_array"])

_DIGITS = b"0123456789"
_UNIT = rb'(?:[^][{},"]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+[][{},]'
_FIRST_UNIT = re.compile(_UNIT, re.DOTALL)
_UNITS = re.compile(rb"(?:%b)++" % _UNIT, re.DOTALL)
_NEVER = re.compile(rb"(?!)")
_HIGH_SURROGATE = re.compile(rb"\\u[dD][89abAB]")
_PAIRED = rb"u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F]"
_TO_UNPAIRED_SURROGATE = re.compile(rb"(?:[^\\]++|\\(?:%b|(?!u[dD][89abAB]).|\Z))*+" % _PAIRED, re.DOTALL)


class JsonEvents:
    """Parses a document, of which some values may be read by others.

    Args:
        max_bytes: per string, number, or space between tokens.
        stop: where the caller wants to continue: a piece that matches it ends after the match.

    Attributes:
        unread: text that has not been parsed yet. The caller appends to it.
        position: in the document, of the unread text.
        at_stop: whether the piece whose events were returned last ends after a match, and is valid.
    """

    def __init__(self, max_bytes: int, stop: re.Pattern[bytes] = _NEVER) -> None:
        self.unread = bytearray()
        self.position = 0
        self.at_stop = False
        self._max_bytes = max_bytes
        self._stop = stop
        self._events: list[Event] = ijson.sendable_list()
        self._parser = yajl2_c.basic_parse_coro(self._events)
        self._wanted = PIECE_BYTES  # of unread text, before any of it is parsed

    def read(self) -> Iterator[list[Event]]:
        """The events of the text so far, a piece at a time. A list is only valid until the next one.

        Raises:
            BrokenJson: the text is not JSON.
            JobFailed: PARSE_ERROR, ENCODING_ERROR or FIELD_TOO_LONG if ijson could not cope with the text.
        """
        while len(self.unread) >= self._wanted:
            size = self._next_piece(self._wanted)
            if size is None:
                self._require_size(self._wanted)
                self._wanted *= 2
            else:
                yield from self._parse(size)

    def finish(self) -> Iterator[list[Event]]:
        """The events of the rest of the text.

        Raises:
            BrokenJson, JobFailed: as above, or the document is truncated.
        """
        while self.unread:
            size = self._next_piece(len(self.unread))
            yield from self._parse(len(self.unread) if size is None else size)
        try:
            self._parser.close()
        except ijson.JSONError as error:
            raise BrokenJson("The file is truncated: its JSON document is incomplete") from error
        yield self._events

    def replace(self, size: int, substitute: bytes) -> None:
        """Parse something else in place of the first bytes of the unread text."""
        self.unread[:size] = substitute
        self.position += size - len(substitute)

    def _next_piece(self, end: int) -> int | None:
        """The size of the next piece, or None if the next token continues after this offset."""
        stop = self._stop.match(self.unread, 0, PIECE_BYTES)
        units = stop or _UNITS.match(self.unread, 0, PIECE_BYTES)
        if units is None:
            units = _FIRST_UNIT.match(self.unread, 0, end)
            stop = self._stop.match(self.unread, 0, units.end()) if units is not None else None
        self.at_stop = stop is not None
        piece = stop or units
        return piece.end() if piece is not None else None

    def _parse(self, size: int) -> Iterator[list[Event]]:
        """The events of a piece, including those before a fault."""
        safe, fault = _checked(bytes(self.unread[:size]))
        failure = self._send(safe) or fault
        self.at_stop = self.at_stop and failure is None
        del self.unread[:size]
        self.position += size
        self._wanted = PIECE_BYTES
        yield self._events
        if failure is not None:
            raise failure
        self._events.clear()

    def _send(self, piece: bytes) -> WherryError | None:
        try:
            if piece:  # ijson takes an empty one for the end of the document
                self._parser.send(piece)
        except ijson.JSONError as error:
            return BrokenJson(f"The file is not valid JSON after byte {self.position}: {_reason(error)}")
        except UnicodeDecodeError:
            return _unpaired_surrogate()
        except InvalidOperation:
            return JobFailed(ErrorCode.PARSE_ERROR, "The file has a number whose exponent is too large")
        return None

    def _require_size(self, size: int) -> None:
        if size > self._max_bytes:
            message = f"The file has a value that is longer than {self._max_bytes} bytes (IMPORT_MAX_RECORD_BYTES)"
            raise JobFailed(ErrorCode.FIELD_TOO_LONG, message, detail={"limit": self._max_bytes})


def require_depth(depth: int) -> None:
    """Raises: JobFailed: the document is nested too deeply."""
    if depth > MAX_DEPTH:
        raise JobFailed(ErrorCode.PARSE_ERROR, f"The file is nested more than {MAX_DEPTH} levels deep")


def _checked(piece: bytes) -> tuple[bytes, JobFailed | None]:
    """The part of a piece that ijson can be given, and what is wrong with the rest."""
    fault = None
    digits = _long_digits(piece)
    if digits is not None:
        fault = JobFailed(ErrorCode.PARSE_ERROR, f"The file has more than {MAX_DIGITS} digits in a row")
        piece = piece[:digits]
    if _HIGH_SURROGATE.search(piece):
        found = _TO_UNPAIRED_SURROGATE.match(piece)
        if found is not None and found.end() < len(piece):
            return piece[: found.end()], _unpaired_surrogate()
    return piece, fault


def _long_digits(piece: bytes) -> int | None:
    """The offset of the first run of too many digits. Such a run includes a multiple of the limit, and not only 0."""
    for at in range(MAX_DIGITS, len(piece), MAX_DIGITS):
        if piece[at] in _DIGITS:
            before = piece[max(0, at - MAX_DIGITS) : at]
            after = piece[at : at + MAX_DIGITS + 1]
            start = at - len(before) + len(before.rstrip(_DIGITS))
            if at + len(after) - len(after.lstrip(_DIGITS)) - start > MAX_DIGITS:
                return start
    return None


def _unpaired_surrogate() -> JobFailed:
    message = "The file has an unpaired surrogate, which UTF-8 cannot represent"
    return JobFailed(ErrorCode.ENCODING_ERROR, message)


def _reason(error: ijson.JSONError) -> str:
    """The first line of the parser's message; an excerpt of the text follows it."""
    text = error.args[0] if error.args else ""
    text = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    return text.partition("\n")[0].rstrip(".")
