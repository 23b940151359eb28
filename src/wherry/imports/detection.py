"""Decides between ndjson and json by the first bytes of a file, for names and content types that fit both.

A JSON array begins with `[`. A file is ndjson if its first line is a complete object and more lines follow.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from wherry.imports.models import Format

MAX_FIRST_LINE_BYTES = 1 << 20
"""A file with a longer first line is json."""


async def detect_format(text: AsyncIterator[bytes]) -> Format:
    """The format of a decompressed text without a byte-order mark; no more of it is read than necessary."""
    head = b""
    async for chunk in text:
        head = (head + chunk).lstrip()
        if head and not head.startswith(b"{"):
            return Format.JSON
        first, _, rest = head.partition(b"\n")
        if rest.strip():
            return Format.NDJSON if _is_json(first) else Format.JSON
        if len(head) > MAX_FIRST_LINE_BYTES:
            return Format.JSON
    return Format.JSON


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except (ValueError, RecursionError):
        return False
    return True
