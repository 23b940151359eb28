"""The records inside a document are found wherever its chunks end, and with every digit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from itertools import chain, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.errors import BrokenJson, JobFailed
from wherry.imports.models import Place, RawRecord, RecordError
from wherry.imports.readers.array_paths import array_paths
from wherry.imports.readers.arrays import ArraySplitter
from wherry.imports.readers.json_events import MAX_DEPTH, MAX_DIGITS, PIECE_BYTES
from wherry.imports.readers.model import Splitter
from wherry.imports.readers.nested import NestedSplitter
from wherry.imports.readers.records import JsonParser

MAX = 1 << 24
TEXTS = st.text('[]{},:"\\ \0\né\u2028😀x', max_size=6)
NUMBERS = st.sampled_from(["1e400", "1.10", "-0.0", "0", "-1E-7", "1" * 30, f"-{2**63}", str(2**64), "12345.678900"])
KEYS = ['"a"', '"data"', r'"d\u0061ta"', '"entry" ', '"é}"', r'"\u00e9}"', '"é: ["', r'"a\"\\"']
VALUES: st.SearchStrategy[str] = st.recursive(
    NUMBERS
    | st.sampled_from(["null", "true", "false"])
    | st.builds(json.dumps, TEXTS)
    | st.builds(json.dumps, TEXTS, ensure_ascii=st.just(False)),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]")
        | st.lists(st.tuples(st.sampled_from(KEYS), inner), max_size=3).map(
            lambda members: "{" + " , ".join(f"{key} :{value}" for key, value in members) + "}"
        )
    ),
    max_leaves=8,
)
"""The texts of JSON values, keys that occur twice included."""
CUTS = st.lists(st.integers(0, 400), max_size=6)
PATH_KEYS = ["a", "data", "entry", "é}", "é: [", 'a"\\']


def _exactly(text: str | bytes) -> Any:
    return json.loads(text, parse_float=Decimal)


def _nested_values(value: Any, keys: list[str], *, in_array: bool = False) -> Iterator[Any]:
    """The records at a path, found in a document that is in memory."""
    if isinstance(value, list):
        if keys:
            for item in value:
                yield from _nested_values(item, keys, in_array=True)
        else:
            yield from value
    elif not keys:
        if in_array:
            yield value
    elif isinstance(value, _Object):
        for key, member in value.members:
            if key == keys[0]:
                yield from _nested_values(member, keys[1:], in_array=in_array)


class _Object:
    """An object with all of its members, keys that occur twice included."""

    def __init__(self, members: list[tuple[str, Any]]) -> None:
        self.members = members


def _plain(value: Any) -> Any:
    if isinstance(value, _Object):
        return {key: _plain(member) for key, member in value.members}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def expected(text: str, path: str) -> list[Any]:
    document = json.loads(text, parse_float=Decimal, object_pairs_hook=_Object)
    return [_plain(value) for value in _nested_values(document, path.split("."))]


def feeding(splitter: Splitter, text: bytes, cuts: list[int] | range) -> Iterator[RawRecord]:
    """The records of a text, as they are split and then found to be JSON."""
    parser = JsonParser(stops_at_broken_syntax=True)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    fed = chain.from_iterable(splitter.feed(text[start:end]) for start, end in pairwise(places))
    for raw in chain(fed, splitter.finish()):
        parser.fields(raw.index, raw.data or b"")
        yield raw


def feed(
    text: str | bytes, path: str = "data", cuts: list[int] | range = range(0), *, index: int = 0, max_bytes: int = MAX
) -> list[RawRecord]:
    data = text if isinstance(text, bytes) else text.encode()
    return list(feeding(NestedSplitter(path, Place(index), max_bytes), data, cuts))


def values(records: list[RawRecord]) -> list[Any]:
    return [_exactly(record.data or b"") for record in records]


def before_fault(text: bytes, cuts: list[int] | range = range(0), *, max_bytes: int = MAX) -> tuple[list[Any], str]:
    """The records before a fault, and the fault."""
    found: list[RawRecord] = []
    with pytest.raises((BrokenJson, JobFailed)) as fault:
        found.extend(feeding(NestedSplitter("data", Place(), max_bytes), text, cuts))
    code = fault.value.code if isinstance(fault.value, JobFailed) else "BROKEN"
    return values(found), f"{code}: {fault.value}"


@settings(deadline=None)
@given(
    text=VALUES,
    path=st.lists(st.sampled_from(PATH_KEYS), min_size=1, max_size=2).map(".".join),
    cuts=CUTS,
    cut_by_pieces=st.integers(0, 200),
)
def test_every_value_where_the_path_leads_is_found_in_any_document(
    text: str, path: str, cuts: list[int], cut_by_pieces: int
) -> None:
    space = PIECE_BYTES - cut_by_pieces
    found: list[RawRecord] = []
    with suppress(JobFailed):
        found = feed(" " * space + text + " " * PIECE_BYTES, path, [space + cut for cut in cuts])
    assert repr(values(found)) == repr(expected(text, path))


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", ['[1, "]", [2]]', "3"])
def test_the_path_is_found_however_keys_are_written_and_wherever_pieces_end(key: str, value: str) -> None:
    text = f'[{{"x": {{}}, {key}:  {value}, "y": 5}}]'
    whole = expected(text, json.loads(key))
    assert whole
    for before in range(PIECE_BYTES - len(text.encode()), PIECE_BYTES):
        assert values(feed(" " * before + text + " " * PIECE_BYTES, json.loads(key))) == whole


@settings(deadline=None)
@given(
    records=st.lists(VALUES, min_size=1, max_size=8),
    around=st.lists(VALUES, min_size=2, max_size=2),
    envelope=st.sampled_from(
        [
            ("data", '{{"before": {}, "data": [{}], "after": {}}}'),
            ("a.data", '{{"b": {}, "a": {{"data": [{}]}}, "after": {}}}'),
            ("data.data", '[{}, [{{"data": {{"data": [{}]}}}}], {}]'),
        ]
    ),
    cuts=CUTS,
    cut_by_pieces=st.integers(0, 400),
    index=st.integers(0, 9),
)
def test_chunks_and_resumption_do_not_change_the_records(
    records: list[str], around: list[str], envelope: tuple[str, str], cuts: list[int], cut_by_pieces: int, index: int
) -> None:
    path, shape = envelope
    text = shape.format(around[0], ",\n".join(records), around[1])
    text = " " * (PIECE_BYTES - cut_by_pieces) + text
    cuts = [PIECE_BYTES - cut_by_pieces + cut for cut in cuts]
    whole = expected(text, path)
    found = feed(text, path, cuts, index=index)
    assert repr(values(found)) == repr(whole[index:])
    assert [record.index for record in found] == list(range(len(whole)))[index:]


BUNDLE = """
{"resourceType": "Bundle", "entry": [
  {"fullUrl": "a", "resource": {"id": 1, "entry": [{"resource": {"id": 9}}]}},
  {"fullUrl": "b"},
  {"fullUrl": "c", "resource": {"id": 2}},
  {"fullUrl": "d", "resource": [{"id": 3}, {"id": 4}]},
  {"fullUrl": "e", "resource": null}
]}
"""


def test_arrays_on_the_way_are_walked_through() -> None:
    found = values(feed(BUNDLE, "entry.resource"))
    assert found == [{"id": 1, "entry": [{"resource": {"id": 9}}]}, {"id": 2}, {"id": 3}, {"id": 4}, None]


def test_keys_named_like_array_items_do_not_mislead() -> None:
    assert values(feed('{"data": {"item": {"a": 1}}, "data": [{"item": 2}]}')) == [{"item": 2}]


@pytest.mark.parametrize("number", ["1e400", "1.10", "-0.0", "1" * 30, "0.1234567890123456789012345678901"])
def test_numbers_keep_every_digit(number: str) -> None:
    (record,) = feed(f'{{"data": [{{"n": {number}}}]}}')
    kept = json.loads(record.data or b"", parse_int=Decimal, parse_float=Decimal)["n"]
    assert kept.as_tuple() == Decimal(number).as_tuple()


@pytest.mark.parametrize("text", ['{"data": {"a": 1}}', '{"data": 1, "b": [{}]}', "[]", "1"])
@pytest.mark.parametrize("path", ["data", "data.a", "nowhere"])
def test_a_path_without_an_array_fails_the_file(text: str, path: str) -> None:
    with pytest.raises(JobFailed, match=rf"The path {path} \(recordsAt\) leads to no array of records") as failure:
        feed(text, path)
    assert failure.value.code == "PARSE_ERROR"


def test_an_empty_array_has_no_records_and_no_fault() -> None:
    assert feed('{"data": []}') == []


def test_arrays_are_suggested() -> None:
    with pytest.raises(JobFailed, match=r"Arrays of objects in its first megabyte: entry, entry.tags, meta.link\."):
        feed('{"n": [1], "entry": [{"tags": [{}]}, {"tags": []}], "a.b": [{}], "meta": {"link": [[{}]]}}')


def test_an_array_is_said_to_need_no_path() -> None:
    with pytest.raises(JobFailed, match="The file itself is an array of objects, which is read without recordsAt"):
        feed('[{"a": [{}]}]')


def test_blank_text_contains_no_records() -> None:
    assert feed(" \n") == feed("") == []
    with pytest.raises(BrokenJson):
        feed(" " * (1 << 20))


def test_arrays_are_suggested_from_the_beginning_of_a_document() -> None:
    assert array_paths(b'{"a": [{"b": [1, 2, {"c": [{"d": "unfinis') == ["a", "a.b", "a.b.c"]
    assert array_paths(b'{"a": [{}], "n": ' + b"9" * 5000 + b', "b": [{}]}') == ["a"]
    assert array_paths(b'{"\\u0000": [{}], "": [{}], "%b": [{}], "b": [{}]}' % (b"a" * 200)) == ["b"]
    assert array_paths(b'{"a":[' * 300) == [".".join("a" * n) for n in range(1, 11)]


RECORDS = [{"n": n, "s": "}, {"} for n in range(2000)]
LONG_DOCUMENT = b'{"data": ' + json.dumps(RECORDS).encode() + b"}"


@pytest.mark.parametrize("size", [1, 7, PIECE_BYTES - 1, 1 << 20])
def test_a_document_longer_than_a_piece_is_read_in_chunks_of_any_size(size: int) -> None:
    found = feed(LONG_DOCUMENT, cuts=range(0, len(LONG_DOCUMENT), size))
    assert values(found) == RECORDS
    assert all(before.offset <= after.offset < len(LONG_DOCUMENT) for before, after in pairwise(found))


def test_broken_json_ends_the_run_after_the_records_before_it() -> None:
    for broken in (b'{"data": [{}, {"a": 1} {}]}', b'{"data": [{}, {"a": 1}, nope]}', b'{"data": [{}, {"a": 1},,'):
        for cuts in (range(0), range(0, 40, 3)):
            found, fault = before_fault(broken, cuts)
            assert found == [{}, {"a": 1}]
            assert fault.startswith("BROKEN: ")
            assert "not valid JSON" in fault
            assert "\n" not in fault


@settings(deadline=None)
@given(kept=st.integers(1, 59), cuts=CUTS)
def test_a_truncated_document_ends_the_run(kept: int, cuts: list[int]) -> None:
    text = b'{"before": "x", "data": [{"a": 1}, {"a": 2}, {"a": 3}], "b":1}'[:kept]
    found, fault = before_fault(text, cuts)
    assert found == [{"a": n} for n in (1, 2, 3) if text.find(b"%d}" % n) > 0]
    assert fault == "BROKEN: The file is truncated: its JSON document is incomplete"


def test_a_second_document_is_refused() -> None:
    assert before_fault(b'{"data": [{}]}\n{"data": [{}]}')[0] == [{}]


def test_a_long_record_ends_the_run() -> None:
    for cuts in (range(0), range(0, 5000, 64)):
        text = b'{"data": [{}, {"a": [' + b'"x", ' * 900 + b'"x"]}, {}]}'
        found, fault = before_fault(text, cuts, max_bytes=1000)
        assert (found, fault[:41]) == ([{}], "FIELD_TOO_LONG: Record 1 is longer than 1")


def test_a_record_of_the_greatest_size_is_read() -> None:
    record = b'{"a":"' + b"x" * (300_000 - 8) + b'"}'
    assert [raw.size for raw in feed(b'{"data":[%b,%b]}' % (record, record), max_bytes=300_000)] == [300_000] * 2
    assert before_fault(b'{"data":[{},%b]}' % record, max_bytes=299_999)[0] == [{}]


def test_other_parts_of_a_document_may_be_longer_than_a_record() -> None:
    assert values(feed(b'{"other": [' + b"1, " * 100_000 + b'1], "data": [{"a": 1}]}', max_bytes=1000)) == [{"a": 1}]


@pytest.mark.parametrize("lengths", [(300_000, 100_000, 70_000), (70_000, 300_000, 100_000)])
def test_records_are_found_after_long_strings(lengths: tuple[int, ...]) -> None:
    members = b"".join(b'"%d": "%b", ' % (length, b"x" * length) for length in lengths)
    for end in (b"", b" " * (1 << 20)):
        text = b'{%b"data": [{"a": 1}], %b"data": [{"a": 2}]}%b' % (members, members, end)
        for cuts in (range(0), range(0, len(text), 1 << 16)):
            assert values(feed(text, cuts=cuts)) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("part", [b"xx", b"x ", rb"\n"])
@pytest.mark.parametrize("length", [300_000, 100_000])
def test_a_string_anywhere_may_be_as_long_as_a_record(part: bytes, length: int) -> None:
    text = b'{"data": [{"a": 1}], "other": "' + part * (length // 2) + b'"}'
    if length <= 100_000:
        assert values(feed(text, max_bytes=100_000)) == [{"a": 1}]
    else:
        found, fault = before_fault(text, max_bytes=100_000)
        assert (found, fault[:15]) == ([{"a": 1}], "FIELD_TOO_LONG:")


DIGITS = [MAX_DIGITS - 1, MAX_DIGITS, MAX_DIGITS + 1, 3 * MAX_DIGITS]


@pytest.mark.parametrize("digits", DIGITS)
@pytest.mark.parametrize("before", [0, 1, 3970, PIECE_BYTES - 2000, PIECE_BYTES - 20])
def test_a_number_may_have_4000_digits_wherever_it_is(digits: int, before: int) -> None:
    text = b'{"data": [{"a": 1}], "other":' + b" " * before + b"[%b]}" % (b"7" * digits)
    for cuts in (range(0), range(0, len(text), 1009)):
        if digits <= MAX_DIGITS:
            assert values(feed(text, cuts=cuts)) == [{"a": 1}]
        else:
            found, fault = before_fault(text, cuts)
            assert (found, fault) == ([{"a": 1}], "PARSE_ERROR: The file has more than 4000 digits in a row")


@pytest.mark.parametrize("digits", DIGITS)
def test_a_number_in_a_record_may_have_any_number_of_digits(digits: int) -> None:
    text = b'{"data": [{"a": 1}, [%b]]}' % (b"7" * digits)
    assert [raw.size for raw in feed(text)] == [8, digits + 2]


@pytest.mark.parametrize("shape", [(b'{"b":', b"1", b"}"), (b"[", b"", b"]")])
def test_a_document_may_be_200_levels_deep(shape: tuple[bytes, bytes, bytes]) -> None:
    lead, middle, end = shape
    levels = MAX_DEPTH - 2
    assert feed(b'{"other": [' + lead * levels + middle + end * levels + b'], "data": []}') == []
    text = b'{"data": [{}], "other": [' + lead * (levels + 1)
    assert before_fault(text) == ([{}], "PARSE_ERROR: The file is nested more than 200 levels deep")


PAIR, LONE = r"\ud83d\ude00", r"\ud83d"


@pytest.mark.parametrize(
    "text", [LONE, LONE + r"\u0041", LONE + "x", LONE + LONE, r"\ude00", PAIR + LONE, r"\\" + LONE]
)
def test_an_unpaired_surrogate_is_not_replaced(text: str) -> None:
    document = f'{{"data": [{{"a": 1}}], "other": "{PAIR}{text}"}}'.encode()
    for cuts in (range(0), range(len(document))):
        found, fault = before_fault(document, cuts)
        assert (found, fault[:15]) == ([{"a": 1}], "ENCODING_ERROR:")


@pytest.mark.parametrize("text", [PAIR, PAIR + PAIR, r"\\ud83d", r"\\" + PAIR, r"\\\\ud83d", r"\"\u0041\ud7ff\ue000"])
def test_paired_surrogates_and_their_likes_are_read(text: str) -> None:
    document = f'{{"data": ["{text}"]}}'
    assert values(feed(document, cuts=range(len(document)))) == [json.loads(f'"{text}"')]


def test_surrogates_are_paired_wherever_a_piece_ends() -> None:
    for before in range(PIECE_BYTES - 40, PIECE_BYTES):
        lead = b'{"data": [1], "other": "' + b"x " * (before // 2) + b"x" * (before % 2)
        assert len(feed(lead + rf"\\{PAIR} \\\\ud83d".encode() + b'"}')) == 1
        lone = lead + rf"\\{LONE}\n".encode() + b'"}'
        assert before_fault(lone)[1].startswith("ENCODING_ERROR")


@pytest.mark.parametrize("bad", [b'"\xff"', b'"\xed\xa0\x80"', b"1e99999999999999999999"])
def test_values_that_cannot_be_represented_end_the_run(bad: bytes) -> None:
    assert before_fault(b'{"data": [{"a": 1}], "other": %b}' % bad)[0] == [{"a": 1}]


BAD_VALUES = [
    *(b'"\xff"', b'"\xed\xa0\x80"', LONE.join('""').encode(), rb'"\x"', b"1e99999999999999999999", b"1" * 5000),
    *(b"NaN", b"nope", b"01", b"{1}", b'{"a" 1}', b'{"a": [1,]}'),
    *(b'{"a": %b%b}' % (b"[" * levels, b"]" * levels) for levels in (300, 5000)),
]
SHAPES = [
    (b'{"data": [{}, ', b', {"a": 1}]}', "data"),
    (b'{"entry": [{"data": {}}, {"data": ', b'}, {"data": {"a": 1}}]}', "entry.data"),
]


@pytest.mark.parametrize("bad", BAD_VALUES, ids=range(len(BAD_VALUES)))
@pytest.mark.parametrize("is_member", [False, True], ids=["itself", "member"])
@pytest.mark.parametrize("shape", SHAPES, ids=["elements", "members"])
def test_a_record_has_the_same_fault_as_in_an_array(
    bad: bytes, is_member: bool, shape: tuple[bytes, bytes, str]
) -> None:
    lead, end, path = shape
    record = b'{"b": %b}' % bad if is_member else bad
    in_array = outcome(ArraySplitter(Place(), MAX), b'[{}, %b, {"a": 1}]' % record)
    assert outcome(NestedSplitter(path, Place(), MAX), lead + record + end) == in_array


def outcome(splitter: Splitter, text: bytes) -> list[RecordError | dict[str, bytes] | str]:
    """The fields or fault of every record, and the fault that ends the run."""
    parser, found = JsonParser(stops_at_broken_syntax=True), []
    try:
        for raw in [*splitter.feed(text), *splitter.finish()]:
            fields = parser.fields(raw.index, raw.data or b"")
            found.append(fields if isinstance(fields, RecordError) else dict(fields))
    except (BrokenJson, JobFailed) as fault:
        found.append(str(fault))
    return found
