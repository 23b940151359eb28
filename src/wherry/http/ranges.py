"""Parses the `Range` header (RFC 9110, section 14) into spans: a first byte, and the end, which is excluded."""

from __future__ import annotations

import re
from collections.abc import Sequence

from wherry.texts import MAX_DIGITS, whole_number

MAX_RANGES = 32
"""A request for more ranges gets the whole file; RFC 9110, section 14.2 warns of many small ranges."""

GAP = 256
"""Ranges with a smaller gap between them are sent as one, because the header of another part is about as long."""

BEYOND_ANY_FILE = 10**MAX_DIGITS
_RANGES = re.compile(r"bytes=(.*)", re.IGNORECASE | re.DOTALL)
_RANGE = re.compile(r"([0-9]*)-([0-9]*)")


def parse_ranges(value: str, size: int) -> list[tuple[int, int]] | None:
    """The spans in the order requested, each within the file and not empty; or None if the header must be ignored.

    The list is empty if the header is valid but no range is within the file.
    """
    found = _RANGES.fullmatch(value.strip())
    parts = [part.strip() for part in found[1].split(",")] if found else []
    matches = [_RANGE.fullmatch(part) for part in parts if part]
    if not matches or len(matches) > MAX_RANGES:
        return None
    spans: list[tuple[int, int]] = []
    for match in matches:
        span = _span(match[1], match[2], size) if match else None
        if span is None:
            return None
        if span[0] < span[1]:
            spans.append(span)
    return spans


def coalesce(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge overlapping and close spans; a merged span takes the position of the one that was requested first."""
    merged: list[tuple[int, int, int]] = []  # start, end, place in the request
    for start, end, place in sorted((start, end, place) for place, (start, end) in enumerate(spans)):
        if merged and start <= merged[-1][1] + GAP:
            before = merged[-1]
            merged[-1] = (before[0], max(before[1], end), min(before[2], place))
        else:
            merged.append((start, end, place))
    return [(start, end) for start, end, _ in sorted(merged, key=lambda span: span[2])]


def _span(first: str, last: str, size: int) -> tuple[int, int] | None:
    """One range as a span, which is empty if it is past the end of the file; or None if it is not a range."""
    if not first and not last:
        return None
    if not first:
        return max(0, size - _number(last)), size
    start, end = _number(first), _number(last) if last else size
    if last and start > end:
        return None
    return min(start, size), min(end + 1, size) if last else size


def _number(digits: str) -> int:
    number = whole_number(digits)
    return BEYOND_ANY_FILE if number is None else number
