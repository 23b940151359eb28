from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builtin_tables import ARTICLES, COMMENTS, TABLES, USERS
from wherry.errors import Invalid
from wherry.exports.filters import Condition, conditions, format_instant, parse_filters
from wherry.tables.model import Table

DAY = "2024-05-01T00:00:00Z"


@pytest.mark.parametrize(
    ("resource", "given", "expected"),
    [
        (USERS, {"id": 7}, {"id": 7}),
        (USERS, {"id": "7"}, {"id": 7}),
        (USERS, {"id": "0007"}, {"id": 7}),
        (USERS, {"id": 2147483647}, {"id": 2147483647}),
        (USERS, {"email": "Ada@Example.ORG"}, {"email": "ada@example.org"}),
        (USERS, {"name": "Ada Lovelace"}, {"name": "Ada Lovelace"}),
        (USERS, {"role": "ADMIN"}, {"role": "admin"}),
        (USERS, {"active": True}, {"active": True}),
        (USERS, {"active": "false"}, {"active": False}),
        (USERS, {"createdAt": "2024-05-01"}, {"created_at": DAY}),
        (ARTICLES, {"authorId": "12"}, {"author_id": 12}),
        (ARTICLES, {"published_at": None}, {"published_at": None}),
        (ARTICLES, {"publishedAt": {"gte": "2024-05-01"}}, {"published_at": {"gte": DAY}}),
        (ARTICLES, {"publishedAt": {"gt": DAY, "lt": "2024-05-01T00:00:00.000001Z"}}, None),
        (ARTICLES, {"publishedAt": {"gte": DAY, "lte": DAY}}, None),
        (COMMENTS, {"articleId": 1, "user_id": "2"}, {"article_id": 1, "user_id": 2}),
        (COMMENTS, {}, {}),
        (COMMENTS, None, {}),
    ],
)
def test_filters_may_be_spelled_in_camel_case_and_snake_case(resource: Table, given: Any, expected: Any) -> None:
    parsed = parse_filters(resource, given)
    if expected is not None:
        assert parsed == expected


@pytest.mark.parametrize(
    "number", [0, -1, 2147483648, 1.0, 1.5, True, "", "-1", "+1", " 1", "1.0", "1e3", "٣", "9" * 5000]
)
def test_an_id_is_an_integer_in_range_or_a_string_of_digits(number: object) -> None:
    with pytest.raises(Invalid, match=r"^filters\.id must be an integer from 1 to 2147483647$"):
        parse_filters(USERS, {"id": number})


@pytest.mark.parametrize(
    ("resource", "given", "message"),
    [
        (USERS, [], "filters must be a valid JSON object"),
        (USERS, "id", "filters must be a valid JSON object"),
        (USERS, {"slug": "a"}, r"filters\.slug is not a filter of users; use one of id, email, role, name, active, cr"),
        (USERS, {"created at": DAY}, "created at is not a filter"),
        (USERS, {"password_hash": "x"}, "password_hash is not a filter"),
        (USERS, {"id; drop table users": 1}, "is not a filter"),
        (USERS, {"created_at": DAY, "createdAt": DAY}, r"filters\.created_at is given twice"),
        (USERS, {"id": None}, r"filters\.id must not be null"),
        (USERS, {"email": 7}, r"filters\.email must be a string"),
        (USERS, {"name": "a\0b"}, r"filters\.name must not contain NUL"),
        (USERS, {"name": "\ud800"}, r"filters\.name must not contain NUL or lone surrogates"),
        (USERS, {"role": "owner"}, r"filters\.role must be one of user, admin"),
        (USERS, {"role": 1}, r"filters\.role must be one of"),
        (USERS, {"role": []}, r"filters\.role must be one of"),
        (USERS, {"active": 1}, r"filters\.active must be true or false"),
        (USERS, {"active": "TRUE"}, r"filters\.active must be true or false"),
        (USERS, {"active": []}, r"filters\.active must be true or false"),
        (USERS, {"created_at": None}, r"filters\.created_at must not be null"),
        (USERS, {"created_at": 1714521600}, r"filters\.created_at must be an ISO 8601"),
        (USERS, {"created_at": "yesterday"}, r"filters\.created_at must be an ISO 8601"),
        (USERS, {"created_at": "2024-02-30"}, r"filters\.created_at must be an ISO 8601"),
        (USERS, {"created_at": {}}, "must be an ISO 8601 date or date-time, or an object of gt, gte, lt, lte"),
        (USERS, {"created_at": {"eq": DAY}}, "must be an ISO 8601 date or date-time, or an object of gt, gte, lt, lte"),
        (USERS, {"created_at": {"gte": None}}, r"filters\.created_at\.gte must be an ISO 8601"),
        (USERS, {"created_at": {"gte": DAY, "lt": DAY}}, r"filters\.created_at is an empty range"),
        (USERS, {"created_at": {"gt": DAY, "lte": DAY}}, r"filters\.created_at is an empty range"),
        (USERS, {"created_at": {"gt": DAY, "lt": DAY}}, r"filters\.created_at is an empty range"),
        (USERS, {"created_at": {"gte": "2024-05-02", "lte": "2024-05-01"}}, r"filters\.created_at is an empty range"),
        (USERS, {"created_at": {"gte": "2024-05-01T00:30+01:00", "lt": "2024-04-30T23:30Z"}}, "is an empty range"),
    ],
)
def test_an_invalid_filter_is_refused_by_name(resource: Table, given: Any, message: str) -> None:
    with pytest.raises(Invalid, match=message) as refused:
        parse_filters(resource, given)
    assert list(refused.value.fields) == ["filters"]


def test_every_declared_filter_may_be_spelled_both_ways() -> None:
    for resource in TABLES.values():
        for declared in resource.filters:
            first, *others = declared.column.split("_")
            for name in {declared.column, first + "".join(map(str.capitalize, others))}:
                with pytest.raises(Invalid, match=rf"filters\.{declared.column} must"):
                    parse_filters(resource, {name: 1.5})


def test_an_instant_in_milliseconds_selects_the_whole_millisecond() -> None:
    """Exports show milliseconds, the database stores microseconds: what an export shows can be used as a filter."""
    found = list(conditions(USERS, parse_filters(USERS, {"created_at": "2024-05-01T10:00:00.123Z"})))
    assert found == [
        Condition("created_at", ">=", "2024-05-01T10:00:00.123000Z"),
        Condition("created_at", "<", "2024-05-01T10:00:00.124000Z"),
    ]
    exact = list(conditions(USERS, parse_filters(USERS, {"created_at": "2024-05-01T10:00:00.123456Z"})))
    assert exact == [Condition("created_at", "=", "2024-05-01T10:00:00.123456Z")]


def test_the_last_possible_instant_can_be_requested() -> None:
    found = list(conditions(USERS, parse_filters(USERS, {"created_at": "9999-12-31T23:59:59.999Z"})))
    assert found == [Condition("created_at", ">=", "9999-12-31T23:59:59.999000Z")]


def test_conditions_are_on_declared_columns_and_null_has_its_own_operator() -> None:
    parsed = parse_filters(
        ARTICLES, {"published_at": None, "author_id": 3, "created_at": {"gt": DAY, "lte": "2025-01-01"}}
    )
    assert list(conditions(ARTICLES, parsed)) == [
        Condition("author_id", "=", 3),
        Condition("published_at", "is null"),
        Condition("created_at", ">", DAY),
        Condition("created_at", "<=", "2025-01-01T00:00:00Z"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-01", DAY),
        ("2024-05-01T00:00", DAY),
        ("2024-05-01 02:00:00+02:00", DAY),
        ("2024-05-01t02:00:00+0200", DAY),
        ("2024-05-01T02:00:00+02", DAY),
        ("2024-05-01T00:00:00.1z", "2024-05-01T00:00:00.100000Z"),
        ("2024-05-01T00:00:00.123456789Z", "2024-05-01T00:00:00.123457Z"),  # as an import keeps it
        ("20240501", DAY),
        ("2024-W18-3", DAY),
        ("0001-01-01", "0001-01-01T00:00:00Z"),
    ],
)
def test_an_instant_is_iso_8601_and_defaults_to_utc(text: str, expected: str) -> None:
    assert parse_filters(USERS, {"created_at": {"gte": text}}) == {"created_at": {"gte": expected}}


@pytest.mark.parametrize(
    "text",
    ["", "now", "2024", "2024-05", "2024-122", "2024-13-01", "2024-05-01T24:30", "0000-01-01",
     "2024-05-01T00:00:60Z", "2024-05-01T00:00:00 02:00", "0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00",
     "2024-05-01T00:00:00.Z", "٢٠٢٤-٠٥-٠١", "2024-05-01\n", "infinity", "12024-05-01"],
)  # fmt: skip
def test_text_that_is_not_an_instant_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="ISO 8601"):
        parse_filters(USERS, {"created_at": text})


AWARE = st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9999, 12, 1)).map(
    lambda at: at.replace(tzinfo=UTC)
)


@given(AWARE)
def test_an_instant_is_formatted_without_loss(moment: datetime) -> None:
    assert datetime.fromisoformat(format_instant(moment)) == moment


BOUNDS = st.dictionaries(
    st.sampled_from(["gt", "gte", "lt", "lte"]),
    st.integers(0, 5).map(lambda days: format_instant(datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=days))),
    min_size=1,
)


@given(BOUNDS)
def test_a_range_is_refused_if_and_only_if_it_is_empty(period: dict[str, str]) -> None:
    tests = {"gt": "__gt__", "gte": "__ge__", "lt": "__lt__", "lte": "__le__"}
    # Days are the bounds, so half days are the only other instants that could tell two ranges apart.
    moments = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=12 * half) for half in range(-2, 14)]
    possible = any(
        all(getattr(moment, tests[bound])(datetime.fromisoformat(text)) for bound, text in period.items())
        for moment in moments
    )
    try:
        parse_filters(USERS, {"created_at": period})
    except Invalid:
        assert not possible
    else:
        assert possible


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([DAY, "7", "true"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.sampled_from(["gte", "lt"]), inner)
    ),
    max_leaves=6,
)
COLUMNS = {each.column for resource in TABLES.values() for each in resource.filters}
NAMES = st.sampled_from(sorted(COLUMNS | {column.replace("_", "-").upper() for column in COLUMNS}))


@given(st.sampled_from(list(TABLES.values())), st.dictionaries(NAMES | st.text(max_size=6), JSON, max_size=4))
def test_any_filter_is_parsed_or_refused_and_parsing_is_idempotent(resource: Table, given: Any) -> None:
    try:
        parsed = parse_filters(resource, given)
    except Invalid:
        return
    assert parse_filters(resource, json.loads(json.dumps(parsed))) == parsed
    for condition in conditions(resource, parsed):
        assert condition.column in {declared.column for declared in resource.filters}
