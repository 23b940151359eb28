"""A stream is split exactly, wherever its chunks end, and can be resumed after any record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import ijson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.errors import BrokenJson, ErrorCode, JobFailed
from wherry.imports.models import Place, RawRecord
from wherry.imports.readers.arrays import ArraySplitter
from wherry.imports.readers.ndjson import LineSplitter

MAX = 1 << 20
PLAIN = st.none() | st.booleans() | st.integers() | st.text('[]{},:"\\ \nx', max_size=8)
JSON = st.recursive(
    PLAIN | st.sampled_from([1.5, "é\u2028"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a}"\\', max_size=3), inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.lists(st.dictionaries(st.sampled_from("abc"), JSON, max_size=3) | JSON, max_size=12)
CUTS = st.lists(st.integers(0, 400), max_size=6)


def feed(splitter: LineSplitter | ArraySplitter, text: bytes, cuts: list[int]) -> list[RawRecord]:
    return list(_feeding(splitter, text, cuts))


def _feeding(splitter: LineSplitter | ArraySplitter, text: bytes, cuts: list[int]) -> Iterator[RawRecord]:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    for start, end in pairwise(places):
        yield from splitter.feed(text[start:end])
    yield from splitter.finish()


def values(records: list[RawRecord]) -> list[Any]:
    return [json.loads(record.data or b"") for record in records]


@settings(deadline=None)
@given(records=RECORDS, cuts=CUTS, indent=st.sampled_from([None, 0, 2]), spaces=st.text(" \t\r\n", max_size=3))
def test_an_array_is_split_the_same_way_wherever_chunks_end(
    records: list[Any], cuts: list[int], indent: int | None, spaces: str
) -> None:
    text = (spaces + json.dumps(records, indent=indent, ensure_ascii=False) + spaces).encode()
    found = feed(ArraySplitter(Place(), MAX), text, cuts)
    assert values(found) == records
    assert [record.index for record in found] == list(range(len(records)))
    for record in found:
        rest = feed(ArraySplitter(Place(record.index + 1, record.offset), MAX), text[record.offset :], cuts)
        assert rest == found[record.index + 1 :]


@settings(deadline=None)
@given(
    records=st.lists(st.dictionaries(st.sampled_from("abc"), JSON, max_size=3), max_size=8),
    cuts=CUTS,
    kept=st.integers(0, 400),
    indent=st.sampled_from([None, 1]),
)
def test_a_truncated_array_yields_as_many_elements_as_another_parser_finds(
    records: list[Any], cuts: list[int], kept: int, indent: int | None
) -> None:
    text = json.dumps(records, indent=indent, ensure_ascii=False).encode()[:kept]
    found, expected = [], []
    with suppress(BrokenJson):
        for record in _feeding(ArraySplitter(Place(), MAX), text, cuts):
            found.append(json.loads(record.data or b""))
    with suppress(ijson.JSONError):
        for item in ijson.items(text, "item"):
            expected.append(item)
    assert found == expected


@settings(deadline=None)
@given(records=RECORDS, cuts=CUTS, end=st.sampled_from(["\n", "\r\n", "\n \n\n"]), last=st.booleans())
def test_lines_are_split_the_same_way_wherever_chunks_end(
    records: list[Any], cuts: list[int], end: str, last: bool
) -> None:
    text = end.join(json.dumps(record) for record in records).encode() + end.encode() * last
    found = feed(LineSplitter(Place(), MAX), text, cuts)
    assert values(found) == records
    for record in found:
        rest = feed(LineSplitter(Place(record.index + 1, record.offset), MAX), text[record.offset :], cuts)
        assert rest == found[record.index + 1 :]


@settings(deadline=None)
@given(cuts=CUTS, broken=st.integers(0, 59))
def test_an_array_that_lacks_a_comma_is_split_up_to_that_place(cuts: list[int], broken: int) -> None:
    elements = [json.dumps({"n": n, "s": "}, {"}).encode() for n in range(60)]
    text = b"[" + b",".join(elements[: broken + 1]) + b" " + b",".join([*elements[broken + 1 :], b"{}"]) + b"]"
    splitter = ArraySplitter(Place(), MAX)
    found: list[RawRecord] = []
    with pytest.raises(BrokenJson):
        found.extend(record for start in range(0, len(text), 97) for record in splitter.feed(text[start : start + 97]))
    assert len(found) == broken + 1


LONG = b'{"a":"' + b"x" * 5000 + b'"}'


def test_a_line_over_the_limit_is_counted_but_not_kept() -> None:
    found = feed(LineSplitter(Place(), 100), b"{}\n" + LONG + b"\n{}", list(range(0, 5000, 64)))
    assert [(record.data is None, record.size) for record in found] == [(False, 2), (True, len(LONG)), (False, 2)]


@pytest.mark.parametrize("cuts", [[], [5], list(range(20))], ids=["whole", "two chunks", "bytes"])
@pytest.mark.parametrize(("limit", "is_kept"), [(7, True), (6, False)])
def test_a_line_may_have_as_many_bytes_as_the_limit_says(cuts: list[int], limit: int, is_kept: bool) -> None:
    found = feed(LineSplitter(Place(), limit), b"{}\n1234567\n{}\n1234567", cuts)
    assert [record.data is not None for record in found] == [True, is_kept, True, is_kept]
    assert [record.index for record in found] == [0, 1, 2, 3]


@pytest.mark.parametrize("cuts", [[], list(range(0, 5000, 64))])
def test_an_element_over_the_limit_ends_the_array(cuts: list[int]) -> None:
    found: list[RawRecord] = []
    with pytest.raises(JobFailed, match="Record 1 is longer than 100 bytes") as failure:
        found.extend(_feeding(ArraySplitter(Place(), 100), b"[{}," + LONG + b",{}]", cuts))
    assert failure.value.code == ErrorCode.FIELD_TOO_LONG.name
    assert [record.data for record in found] == [b"{}"]


def test_a_text_of_braces_and_commas_takes_linear_time() -> None:
    text = b'[{"a":"' + b"},{" * 300_000 + b'"},' + b'{"b":"' + b"}," * 300_000 + b'"}]'
    found = feed(ArraySplitter(Place(), 1 << 22), text, list(range(0, len(text), 1 << 16)))
    assert [record.size for record in found] == [900_008, 600_008]
