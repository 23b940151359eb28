"""Finds the end of a JSON value, without building the value. What is found need not be valid JSON.

No byte is read more than a fixed number of times, whatever the text.
"""

from __future__ import annotations

import re
from itertools import islice

import msgspec

from wherry.errors import ErrorCode, JobFailed

Text = bytes | bytearray

_STRING_REST = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_LITERAL_REST = re.compile(rb'[^][{}", \t\r\n]*+')

# Inside a value, whole strings, flat arrays and objects, and runs of brackets are skipped in one go each, because a
# value of 16 MiB may have millions of them.
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT = rb"\[[^][{}\"]*+\]|\{[^][{}\"]*+\}"
_INSIDE = rb'[^][{}"]*+(?:(?:%b|%b)[^][{}"]*+)*+' % (_STRING, _FLAT)
_WITHIN = re.compile(rb'[^][{}"]*+(?:(?:%b|\[%b\]|\{%b\})[^][{}"]*+)*+' % (_STRING, _INSIDE, _INSIDE), re.DOTALL)
_OPENING = re.compile(rb"[\[{]++")
_CLOSING = re.compile(rb"[\]}]++")

_BRACE_AT_END = re.compile(rb"\}(?=[ \t\r\n]*+[,}\]])")
_BRACES_TRIED = 8  # the decoder is several times faster than these patterns, but does not find the end of a value
_SHORT_BYTES = 1 << 14

_check = msgspec.json.Decoder(msgspec.Raw).decode


class OpenRecord:
    """A record whose text is being collected.

    Args:
        index: of the record.
        max_bytes: its size limit.

    Attributes:
        size: of the text so far.
    """

    def __init__(self, index: int, max_bytes: int) -> None:
        self.size = 0
        self._index = index
        self._max_bytes = max_bytes
        self._pieces: list[Text] = []
        self._depth = 0
        self._in_string = False
        self._escaped = False

    @property
    def data(self) -> bytes:
        """The text so far."""
        return b"".join(self._pieces)

    def feed(self, chunk: Text, at: int) -> int | None:
        """Collect the text from an offset on; return the offset after the record, or None if the record continues.

        Raises:
            JobFailed: FIELD_TOO_LONG.
        """
        is_object = not self._pieces and chunk[at] in b"{"
        end = (self._short_end(chunk, at) if is_object else None) or self._end(chunk, at)
        self._pieces.append(chunk[at:end])
        self.size += len(self._pieces[-1])
        require_size(self._index, self.size, self._max_bytes)
        return end

    def _short_end(self, chunk: Text, at: int) -> int | None:
        """The offset after the record, or None if it is not a short, valid object."""
        for brace in islice(_BRACE_AT_END.finditer(chunk, at, at + _SHORT_BYTES), _BRACES_TRIED):
            end = brace.end()
            if _is_json(chunk[at:end]):
                return end
        return None

    def _end(self, chunk: Text, at: int) -> int | None:
        if self._depth == 0 and not self._in_string and (self._pieces or chunk[at] not in b'"{['):
            end = end_of(_LITERAL_REST, chunk, at)
            return end if end < len(chunk) else None
        while at < len(chunk):
            at = self._pass_string(chunk, at) if self._in_string else self._pass_token(chunk, at)
            if self._depth == 0 and not self._in_string:
                return at
        return None

    def _pass_string(self, chunk: Text, at: int) -> int:
        """The offset after the closing quote, or of the end of the chunk."""
        at = end_of(_STRING_REST, chunk, at + self._escaped)
        self._escaped = False
        if at >= len(chunk):
            return at
        self._escaped = chunk[at] == 0x5C  # the pattern stops at a backslash only if it is the chunk's last byte
        self._in_string = self._escaped
        return at + 1

    def _pass_token(self, chunk: Text, at: int) -> int:
        """The offset after the next quote or run of brackets within the value, or of the end of the chunk."""
        if self._depth:
            at = end_of(_WITHIN, chunk, at)
        if at == len(chunk):
            return at
        if chunk[at] == 0x22:
            self._in_string = True
            return at + 1
        end = end_of(_OPENING, chunk, at)
        if end > at:
            self._depth += end - at
            return end
        end = min(end_of(_CLOSING, chunk, at), at + self._depth)
        self._depth -= end - at
        return end


def _is_json(text: Text) -> bool:
    try:
        _check(text)
    except (ValueError, RecursionError):
        return False
    return True


def require_size(index: int, size: int, max_bytes: int) -> None:
    """Raises: JobFailed: a record is longer than the limit."""
    if size > max_bytes:
        message = f"Record {index} is longer than {max_bytes} bytes (IMPORT_MAX_RECORD_BYTES)"
        raise JobFailed(ErrorCode.FIELD_TOO_LONG, message, detail={"limit": max_bytes})


def end_of(pattern: re.Pattern[bytes], chunk: Text, at: int) -> int:
    """The offset where the pattern's match at an offset ends; the offset itself if there is none."""
    found = pattern.match(chunk, at)
    return found.end() if found else at
