"""A range means the bytes that it names, and never one more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wherry.http.ranges import coalesce, parse_ranges


@given(size=st.integers(0, 50), value=st.from_regex(r"(bytes|items)=[0-9, \-a]{0,12}", fullmatch=True))
def test_ranges_are_always_within_the_file(size: int, value: str) -> None:
    spans = parse_ranges(value, size)
    assert spans is None or all(0 <= start < end <= size for start, end in spans)


SPANS = st.tuples(st.integers(0, 4000), st.integers(1, 500)).map(lambda span: (span[0], span[0] + span[1]))


@given(st.lists(SPANS, min_size=1, max_size=20))
def test_coalesced_ranges_hold_every_byte_asked_for_once(spans: list[tuple[int, int]]) -> None:
    merged = coalesce(spans)
    covered = [byte for start, end in merged for byte in range(start, end)]
    assert len(covered) == len(set(covered))
    assert {byte for start, end in spans for byte in range(start, end)} <= set(covered)
    firsts = [
        next(place for place, (start, end) in enumerate(spans) if low <= start and end <= high) for low, high in merged
    ]
    assert firsts == sorted(firsts)
