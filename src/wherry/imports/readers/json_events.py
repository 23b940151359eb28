"""Parses one JSON document with ijson, as events, and protects ijson from hostile text.

ijson crashes the process on an integer of more than 4,300 digits. It scans an incomplete string again with every piece
that it is fed, and replaces an unpaired surrogate by a question mark. So every piece is checked first, and ends between
tokens if possible; while a token lasts, pieces grow. Only ijson's parser in C is fast enough: without it, the import of
this module fails.
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
MAX_PIECE_BYTES = 1 << 20
"""Of a piece, unless it contains a longer token. Events can take a hundred times as much memory as their text."""

Event: TypeAlias = tuple[str, Any]
"""The name of what ijson has read (a bracket, a key, a scalar), and the value of a key or scalar."""

OPENING = {"start_map": b"{", "start_array": b"["}
CLOSING = {"end_map": b"}", "end_array": b"]"}

_DIGITS = b"0123456789"
_TO_LAST_DELIMITER = re.compile(rb".*[][{},: \t\r\n]", re.DOTALL)
_HIGH_SURROGATE = re.compile(rb"\\u[dD][89abAB]")
_PAIRED = rb"u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F]"
_TO_UNPAIRED_SURROGATE = re.compile(rb"(?:[^\\]++|\\(?:%b|(?!u[dD][89abAB]).|\Z))*+" % _PAIRED, re.DOTALL)


class JsonEvents:
    """Parses a document that is fed in chunks.

    Args:
        max_bytes: per string, number, or space between tokens.

    Attributes:
        offset: in the document, of the piece whose events were returned last.
    """

    def __init__(self, max_bytes: int) -> None:
        self.offset = 0
        self._max_bytes = max_bytes
        self._events: list[Event] = ijson.sendable_list()
        self._parser = yajl2_c.basic_parse_coro(self._events)
        self._end = 0  # of the last piece
        self._unread = bytearray()
        self._wanted = PIECE_BYTES  # of unread text, before any of it is parsed
        self._open_bytes = 0  # of the incomplete token, at least

    def feed(self, chunk: bytes) -> Iterator[list[Event]]:
        """The events of the text so far, a piece at a time. A list is only valid until the next one.

        Raises:
            BrokenJson: the text is not JSON.
            JobFailed: PARSE_ERROR, ENCODING_ERROR or FIELD_TOO_LONG if ijson could not cope with the text.
        """
        self._unread += chunk
        while len(self._unread) >= self._wanted:
            whole = _TO_LAST_DELIMITER.match(self._unread, 0, self._wanted)
            if whole is not None:
                yield from self._parse(self._take(whole.end()))
            else:
                self._require_size(self._wanted)
                self._wanted *= 2

    def finish(self) -> Iterator[list[Event]]:
        """The events of the rest of the text.

        Raises:
            BrokenJson, JobFailed: as above, or the document is truncated.
        """
        yield from self._parse(self._take(len(self._unread)))
        try:
            self._parser.close()
        except ijson.JSONError as error:
            raise BrokenJson("The file is truncated: its JSON document is incomplete") from error
        yield self._events

    def _take(self, size: int) -> bytes:
        piece = bytes(self._unread[:size])
        del self._unread[:size]
        self.offset, self._end = self._end, self._end + size
        return piece

    def _parse(self, piece: bytes) -> Iterator[list[Event]]:
        """The events of a piece, including those before a fault."""
        self._events.clear()
        safe, fault = _checked(piece)
        failure = self._send(safe) or fault
        self._open_bytes = 0 if self._events else self._open_bytes + len(piece)
        self._wanted = min(max(PIECE_BYTES, self._open_bytes), MAX_PIECE_BYTES)
        yield self._events
        if failure is not None:
            raise failure
        self._require_size(self._open_bytes)
        self._events.clear()

    def _send(self, piece: bytes) -> WherryError | None:
        try:
            if piece:  # ijson takes an empty one for the end of the document
                self._parser.send(piece)
        except ijson.JSONError as error:
            return BrokenJson(f"The file is not valid JSON after byte {self.offset}: {_reason(error)}")
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
    """The part of a piece that ijson can be given, and what is wrong with the rest.

    A piece begins with a whole token, or within a string after a character that cannot be part of an escape sequence.
    """
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
    """The offset of the first run of too many digits. Such a run includes a multiple of the limit."""
    for at in range(0, len(piece), MAX_DIGITS):
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
