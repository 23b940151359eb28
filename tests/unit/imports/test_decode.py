"""Records are decoded by the rules of their resource, and the fast path never differs from them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builtin_tables import TABLES
from wherry.errors import BrokenJson, ErrorCode
from wherry.imports.decode import Decoder
from wherry.imports.models import DecodedRecord, RawRecord
from wherry.imports.readers.records import JsonParser
from wherry.tables.builtin.rules import parse_instant
from wherry.tables.derivation import shape_of
from wherry.tables.model import Table

USER = {"id": 1, "email": "a@b.c", "name": "A"}
ARTICLE = {"id": 1, "slug": "a", "title": "T", "body": "B", "author_id": 1}
COMMENT = {"id": 1, "body": "B", "article_id": 1, "user_id": 1}
SOUND: dict[str, dict[str, Any]] = {"users": USER, "articles": ARTICLE, "comments": COMMENT}


def decode(resource: str, record: Any, *, role: str = "admin") -> DecodedRecord:
    data = record if isinstance(record, bytes) else json.dumps(record).encode()
    decoder = Decoder(TABLES[resource], JsonParser(), caller_role=role, max_bytes=1000)
    return decoder.decode(RawRecord(3, 100, data, len(data)))


def faults(entry: DecodedRecord) -> list[tuple[int, str | None]]:
    return [(int(error.code), error.field) for error in entry.errors]


CASES: list[tuple[str, dict[str, Any], tuple[int, str]]] = [
    ("users", {"name": None}, (1001, "name")),
    ("users", {"name": "\u3000\n"}, (1005, "name")),
    ("users", {"name": ""}, (1005, "name")),
    ("users", {"name": 5}, (1002, "name")),
    ("users", {"email": "a@b"}, (1003, "email")),
    ("users", {"email": "a b@c.d"}, (1003, "email")),
    ("users", {"email": "a@b@c.d"}, (1003, "email")),
    ("users", {"email": ""}, (1003, "email")),
    ("users", {"email": ["a@b.c"]}, (1002, "email")),
    ("users", {"email": f"{'a' * 251}@b.c"}, (1004, "email")),
    ("users", {"email": "a" * 255}, (1004, "email")),
    ("users", {"role": "root"}, (1006, "role")),
    ("users", {"role": True}, (1002, "role")),
    ("users", {"active": "true"}, (1002, "active")),
    ("users", {"active": 1}, (1002, "active")),
    ("users", {"created_at": "2024-13-01"}, (1003, "created_at")),
    ("users", {"created_at": 1700000000}, (1002, "created_at")),
    ("users", {"id": None, "email": None}, (1001, "id")),
    ("articles", {"id": None, "slug": None}, (1001, "id")),
    ("users", {"id": 0}, (1003, "id")),
    ("users", {"id": -1}, (1003, "id")),
    ("users", {"id": 2**31}, (1003, "id")),
    ("users", {"id": 1.0}, (1002, "id")),
    ("users", {"id": "1"}, (1002, "id")),
    ("users", {"id": True}, (1002, "id")),
    ("users", {"id": {}}, (1002, "id")),
    ("articles", {"slug": "a--b"}, (1003, "slug")),
    ("articles", {"slug": "-a"}, (1003, "slug")),
    ("articles", {"slug": "ä"}, (1003, "slug")),
    ("articles", {"slug": "a\nb"}, (1003, "slug")),
    ("articles", {"slug": "a" * 501}, (1004, "slug")),
    ("articles", {"slug": "!" * 501}, (1004, "slug")),
    ("articles", {"status": "gone"}, (1006, "status")),
    ("articles", {"tags": "a"}, (1002, "tags")),
    ("articles", {"tags": ["a", None]}, (1002, "tags")),
    ("articles", {"tags": ["a", "b\0"]}, (1003, "tags")),
    ("articles", {"status": "Draft", "published_at": "2024-01-01"}, (1003, "published_at")),
    ("articles", {"author_id": None}, (1001, "author_id")),
    ("articles", {"body": "a\0"}, (1003, "body")),
    ("articles", {"status": "draft", "published_at": "2024-01-01T00:00:00Z"}, (1003, "published_at")),
    ("articles", {"body": "\n"}, (1005, "body")),
    ("comments", {"body": ""}, (1005, "body")),
    ("comments", {"body": "w " * 501}, (1004, "body")),
    ("comments", {"body": "w " * 500 + "w"}, (1004, "body")),
    ("comments", {"id": None}, (1001, "id")),
]


@pytest.mark.parametrize(("resource", "change", "fault"), CASES)
def test_a_fault_has_its_code_and_its_field(resource: str, change: dict[str, Any], fault: tuple[int, str]) -> None:
    assert faults(decode(resource, {**SOUND[resource], **change})) == [fault]


@pytest.mark.parametrize(
    ("resource", "field", "value", "kept"),
    [
        ("users", "name", "N ", "N"),
        ("users", "email", "A@b.c", "a@b.c"),
        ("users", "email", "a@b.c\n", "a@b.c"),
        ("users", "email", f"{'a' * 250}@b.c", f"{'a' * 250}@b.c"),
        ("users", "created_at", "2024-01-01T01:00:00", datetime(2024, 1, 1, 1, tzinfo=UTC)),
        ("users", "created_at", "2024-01-01T01:00:00+01:00", datetime(2024, 1, 1, tzinfo=UTC)),
        ("articles", "slug", "a\n", "a"),
        ("articles", "slug", "a" * 500, "a" * 500),
        ("articles", "title", "\tT", "T"),
        ("articles", "tags", ["a", "b", "a"], ["a", "b"]),
        ("articles", "tags", ["a", ""], ["a"]),
        ("articles", "tags", ["a", " b"], ["a", "b"]),
        ("comments", "body", "w " * 499 + "w", "w " * 499 + "w"),
        ("comments", "body", "B\n", "B"),
    ],
)
def test_a_value_is_normalised_even_if_the_rest_of_its_record_is_clean(
    resource: str, field: str, value: object, kept: object
) -> None:
    entry = decode(resource, {**SOUND[resource], field: value})
    assert entry.errors == ()
    assert getattr(entry.record, field) == kept
    assert str(getattr(entry.record, field)) == str(kept)  # moments are equal in any zone


@pytest.mark.parametrize("resource", SOUND)
def test_a_valid_record_has_no_faults(resource: str) -> None:
    entry = decode(resource, SOUND[resource])
    assert (entry.index, entry.offset, entry.errors) == (3, 100, ())
    assert {name: getattr(entry.record, name) for name in SOUND[resource]} == SOUND[resource]


def test_every_fault_is_reported_with_the_records_name() -> None:
    entry = decode("articles", {"id": [1], "slug": " Sl-Ug ", "title": "", "body": 1, "author_id": "x", "tags": {}})
    assert faults(entry) == [(1002, "id"), (1005, "title"), (1002, "body"), (1002, "author_id"), (1002, "tags")]
    assert {error.record_id for error in entry.errors} == {"Sl-Ug"}
    assert [error.message for error in entry.errors][3] == "Author id must be an integer"


def test_a_record_is_named_by_its_id_or_else_by_its_key() -> None:
    def name(**fields: Any) -> str | None:
        return decode("articles", {"title": "", **fields}).errors[0].record_id

    assert name(id=7, slug="a") == "7"
    assert name(id=None, slug="a") == "a"
    assert name(id=True, slug="a") == "a"
    assert name() is None


def test_strings_are_trimmed_and_keys_are_lowercased() -> None:
    user = decode("users", {"email": " A@B.Cd ", "name": " N ", "role": " ADMIN "}).record
    assert (user.email, user.name, user.role) == ("a@b.cd", "N", "admin")
    assert decode("users", {**USER, "email": "e\u0301@b.c"}).record.email == "\u00e9@b.c"
    article = decode("articles", {**ARTICLE, "slug": " A-B ", "status": "PUBLISHED", "tags": [" x ", "", "x", "y"]})
    assert (article.record.slug, article.record.status, article.record.tags) == ("a-b", "published", ["x", "y"])


def test_five_hundred_words_are_not_too_many() -> None:
    assert decode("comments", {**COMMENT, "body": "word\u00a0 " * 500}).errors == ()


def test_only_an_admin_may_import_an_admin() -> None:
    record = {**USER, "role": "admin"}
    assert decode("users", record).errors == ()
    assert faults(decode("users", record, role="user")) == [(4003, "role")]
    assert faults(decode("users", {**record, "name": ""}, role="user")) == [(1005, "name"), (4003, "role")]
    assert decode("users", {**USER, "role": "user"}, role="user").errors == ()


def test_an_error_has_the_value_as_sent() -> None:
    def values(**fields: Any) -> list[object]:
        return [error.value for error in decode("comments", {"id": 1, "article_id": 1, **fields}).errors]

    assert values(body=" ", user_id=0) == [" ", 0]
    assert values(body=None) == [None, None]


def test_long_values_are_shortened_in_errors() -> None:
    def shown(field: str, value: Any) -> object:
        return decode("articles", {**ARTICLE, field: value}).errors[0].value

    assert shown("title", {"a": 1}) == "[object]"
    assert shown("title", list(range(20))) == list(range(10))
    assert shown("title", ["x" * 2000, [1], {}]) == ["x" * 1000, "[array]", "[object]"]
    assert shown("slug", "x " * 2000) == "x " * 500
    assert shown("title", "a\0b") == "a\ufffdb"
    assert shown("id", 10**30) == 10**30

    def whole(data: bytes) -> object:
        return decode("articles", data).errors[0].value

    assert whole(json.dumps(list(range(20))).encode()) == list(range(10))
    assert whole(b"x" * 2000) == "x" * 1000
    assert whole(b"[" * 100_000) == "[" * 1000
    assert whole(b"\xff" * 2000) == "\ufffd" * 1000
    assert whole(b'"\\ud800' + b"x" * 2000 + b'"') == '"\\ud800' + "x" * 993


def test_the_error_of_a_too_long_record_names_the_limit() -> None:
    entry = Decoder(TABLES["users"], JsonParser(), caller_role="admin", max_bytes=10).decode(RawRecord(0, 50, None, 50))
    assert faults(entry) == [(1004, None)]
    assert entry.errors[0].details == {"bytes": 50, "limit": 10}


def test_broken_syntax_can_be_raised_instead_of_reported() -> None:
    decoder = Decoder(TABLES["users"], JsonParser(stops_at_broken_syntax=True), caller_role="admin", max_bytes=10)
    with pytest.raises(BrokenJson):
        decoder.decode(RawRecord(0, 5, b"{nope", 5))
    assert decoder.decode(RawRecord(0, 5, b'"\\ud800"', 8)).errors[0].code is ErrorCode.ENCODING_ERROR


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-02-03", datetime(2024, 2, 3, tzinfo=UTC)),
        ("20240203", datetime(2024, 2, 3, tzinfo=UTC)),
        ("2024-W05-6", datetime(2024, 2, 3, tzinfo=UTC)),
        ("2024-02-03T04", datetime(2024, 2, 3, 4, tzinfo=UTC)),
        ("2024-02-03 04:05", datetime(2024, 2, 3, 4, 5, tzinfo=UTC)),
        ("2024-02-03t04:05:06z", datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)),
        ("2024-02-03T04:05:06,5+0230", datetime(2024, 2, 3, 1, 35, 6, 500000, tzinfo=UTC)),
        ("2024-02-03T04:05:06.1234567Z", datetime(2024, 2, 3, 4, 5, 6, 123457, tzinfo=UTC)),
        ("20240203T040506-0100", datetime(2024, 2, 3, 5, 5, 6, tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:00:00-02:00", None),
        ("2024-02-30", None),
        ("2024-02-03x04:05", None),
        ("24-02-03", None),
        ("2024-02", None),
        ("infinity", None),
        ("\u0662024-02-03", None),
        ("2024-02-03T04:05:06Z ", None),
    ],
)
def test_dates_are_iso_8601(text: str, moment: datetime | None) -> None:
    assert parse_instant(text) == moment


TEXTS = st.sampled_from(
    ["a", " a", "a ", "", "A@B.C", "a@b.c", "e\u0301@b.c", "Draft", "draft", "admin", "x-y", "\0", "\u00e9 ", "a\n"]
)
ANY = st.one_of(
    TEXTS,
    st.none(),
    st.integers(-1, 3),
    st.sampled_from([True, 1.0, 2**31, {}, [], ["a", "a"], [" a"], ["a", ""], ["a", 1]]),
    st.sampled_from(["2024-01-01T00:00:00Z", "2024-01-01T00:00:00", "2024-01-01", "2024-01-01T00:00:00+01:00"]),
)


@settings(deadline=None)
@given(resource=st.sampled_from(list(TABLES.values())), data=st.data())
def test_the_fast_path_accepts_nothing_that_the_rules_would_change(resource: Table, data: st.DataObject) -> None:
    shape = shape_of(resource)
    names = [field.name for field in shape.fields]
    record = {**SOUND[resource.name], **data.draw(st.dictionaries(st.sampled_from(names), ANY, max_size=4))}
    rules_only = replace(resource, policy=replace(shape, is_clean=lambda _: False))
    raw = RawRecord(0, 0, json.dumps(record).encode(), 0)
    quick, slow = (
        Decoder(kind, JsonParser(), caller_role="user", max_bytes=9).decode(raw) for kind in (resource, rules_only)
    )
    assert quick == slow
