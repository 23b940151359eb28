from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builtin_tables import ARTICLES, TABLES, USERS
from wherry.errors import Invalid
from wherry.exports import requests
from wherry.exports.requests import ExportRequest
from wherry.exports.selection import Selection, parse_selection
from wherry.tables.registry import find_table

parse_export = partial(requests.parse_export, tables=TABLES)
parse_page = partial(requests.parse_page, tables=TABLES)


@pytest.mark.parametrize(
    "fields",
    [
        "slug,id",
        " slug , id ,",
        ["slug", "id"],
        ["slug,id"],
        '["slug", "id"]',
        ["slug", "id", "slug"],
        ['["slug"]', "id"],
        "SLUG, Id",
        ["slug ", " ID"],
    ],
)
def test_fields_keep_the_requested_order(fields: Any) -> None:
    assert parse_selection(ARTICLES, None, fields).fields == ("slug", "id")


@pytest.mark.parametrize(
    "name", ["author_id", "authorId", "author-id", "AuthorID", "AUTHOR_ID", "authorid", " author_id "]
)
def test_fields_and_filters_may_be_spelled_in_any_way(name: str) -> None:
    selection = parse_selection(ARTICLES, {name: 7}, [name, "author_id"])
    assert (selection.fields, selection.filters) == (("author_id",), {"author_id": 7})


def test_all_fields_are_selected_by_default() -> None:
    assert parse_selection(ARTICLES, None, None).fields == ARTICLES.fields


@pytest.mark.parametrize(
    "fields",
    ["password_hash", "id,nope", ["id", 7], 7, {"id": 1}, "", [], ",", "[]", '["id"', "[1]", "author",
     '["id", "nope"]', "author__ids", "id slug", "i" * 100_000, "*", 'id"; drop table users; --', "[" * 100_000],
)  # fmt: skip
def test_invalid_fields_are_refused(fields: Any) -> None:
    with pytest.raises(Invalid) as refused:
        parse_selection(ARTICLES, None, fields)
    assert list(refused.value.fields) == ["fields"]


@pytest.mark.parametrize("filters", ["", "{", "[]", "7", '"id"', '{"id":}', "{'id': 1}", "[" * 100_000, '{"id": 1}x'])
def test_filters_that_are_not_a_json_object_are_refused(filters: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_selection(USERS, filters, None)
    assert list(refused.value.fields) == ["filters"]


@pytest.mark.parametrize("resource", [None, "", "user s", "jobs", "users;", 7, ["users"]])
def test_an_unknown_resource_is_refused(resource: Any) -> None:
    with pytest.raises(Invalid) as refused:
        find_table(TABLES, resource)
    assert refused.value.code == "UNSUPPORTED_RESOURCE"


def test_a_resource_and_a_format_may_be_in_any_case() -> None:
    asked = parse_export({"resource": " Users ", "format": "CSV "})
    assert (asked.selection.table.name, asked.format) == ("users", "csv")


def test_a_body_may_be_wrapped_and_unknown_members_are_ignored() -> None:
    body = {"resource": "users", "format": "csv", "compression": "gzip", "filters": {"role": "admin"}, "colour": "red"}
    assert parse_export(body) == parse_export({"export": body})
    asked = parse_export(body)
    assert (asked.format, asked.compression, asked.escape_formulas) == ("csv", "gzip", False)
    assert asked.selection == Selection(USERS, USERS.fields, {"role": "admin"})


def test_only_the_resource_is_needed() -> None:
    asked = parse_export({"resource": "comments", "format": None, "compression": None, "filters": None, "fields": None})
    assert asked == parse_export({"resource": "comments"})
    assert (asked.format, asked.compression) == ("ndjson", None)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (None, "export"),
        ([], "export"),
        ("users", "export"),
        ({}, "resource"),
        ({"export": {}}, "resource"),
        ({"resource": "users", "format": "xml"}, "format"),
        ({"resource": "users", "format": ["json"]}, "format"),
        ({"resource": "users", "compression": "br"}, "compression"),
        ({"resource": "users", "compression": True}, "compression"),
        ({"resource": "users", "filters": []}, "filters"),
        ({"resource": "users", "fields": {}}, "fields"),
        ({"resource": "users", "csvEscapeFormulas": "no"}, "csvEscapeFormulas"),
        ({"resource": "users", "webhookUrl": 5}, "webhookUrl"),
    ],
)
def test_a_body_of_the_wrong_shape_is_refused_by_member(body: Any, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_export(body)
    assert list(refused.value.fields) == [field]


def test_the_fingerprint_does_not_depend_on_the_spelling() -> None:
    def fingerprint(**members: Any) -> str:
        return parse_export({"resource": "articles", **members}).fingerprint

    same = [
        fingerprint(filters={"authorId": "7", "createdAt": "2024-05-01"}, fields="id,SLUG", format="NDJSON"),
        fingerprint(filters={"created_at": "2024-05-01T00:00:00Z", "author_id": 7}, fields=["id", "slug"]),
    ]
    assert len(set(same)) == 1
    others = [
        fingerprint(),
        fingerprint(format="json"),
        fingerprint(compression="zstd"),
        fingerprint(csvEscapeFormulas=True),
        fingerprint(webhookUrl="https://a.example/"),
        fingerprint(webhookUrl="https://b.example/"),
        fingerprint(fields=["slug", "id"]),
        fingerprint(filters={"author_id": 7}),
        parse_export({"resource": "users"}).fingerprint,
    ]
    assert len({*same, *others}) == 1 + len(others)


def test_without_a_webhook_the_fingerprint_is_that_of_older_versions() -> None:
    for members in ({}, {"webhookUrl": None}, {"webhookUrl": ""}):
        asked = parse_export({"resource": "comments", **members})
        assert asked.fingerprint == "0dcb3fd80f24befb8c060e842034e708d4f34e8f98e2d890e5e8b1c2a265bbd5"
        assert "webhookUrl" not in asked.options()


def test_a_request_can_be_restored_from_its_job() -> None:
    asked = parse_export(
        {"resource": "articles", "filters": {"published_at": None, "id": 3}, "fields": "id", "csvEscapeFormulas": False}
    )
    stored = json.loads(json.dumps(asked.options()))
    assert Selection.from_json(ARTICLES, stored) == asked.selection
    assert (stored["compression"], stored["csvEscapeFormulas"]) == (None, False)


def test_a_page_has_its_defaults() -> None:
    page = parse_page({"resource": ["users"]}, max_limit=1000)
    assert (page.format, page.limit, page.after) == ("ndjson", 1000, None)
    assert parse_page({"resource": ["users"]}, max_limit=20).limit == 20
    assert parse_page({"resource": ["users"]}, max_limit=5000).limit == 1000


def test_a_page_reads_repeated_fields() -> None:
    query = {
        "resource": ["users"],
        "fields": ["name", "id,email"],
        "limit": ["5"],
        "cursor": ["12"],
        "format": ["json"],
    }
    page = parse_page(query, max_limit=1000)
    assert page.selection.fields == ("name", "id", "email")
    assert (page.format, page.limit, page.after) == ("json", 5, ("12",))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("limit", text) for text in ("0", "-1", "1001", "2abc", "1e3", "1.0", "", " 1", "+1", "٣", "²", "9" * 9999)),
        *(("cursor", text) for text in ("-1", "2abc", "1e3", "2147483648", "null", "", "9" * 9999)),
        ("format", "csv"),
        ("format", "mv2"),
        ("fields", "nope"),
        ("resource", "jobs"),
    ],
)
def test_an_invalid_query_is_refused_by_parameter(name: str, text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_page({"resource": ["users"], name: [text]}, max_limit=1000)
    assert list(refused.value.fields) == [name]


def test_filters_of_a_page_must_be_an_object() -> None:
    with pytest.raises(Invalid, match=r"^filters must be a valid JSON object$") as refused:
        parse_page({"resource": ["users"]}, filters="{", max_limit=1000)
    assert list(refused.value.fields) == ["filters"]


def test_a_parameter_that_is_given_twice_is_refused() -> None:
    with pytest.raises(Invalid) as refused:
        parse_page({"resource": ["users"], "limit": ["1", "2"]}, max_limit=1000)
    assert list(refused.value.fields) == ["limit"]


@given(st.text(max_size=20))
def test_any_text_as_limit_is_a_number_within_bounds_or_refused(text: str) -> None:
    try:
        limit = parse_page({"resource": ["users"], "limit": [text]}, max_limit=1000).limit
    except Invalid:
        return
    assert 1 <= limit <= 1000
    assert int(text) == limit


def test_the_default_request_is_uncompressed_ndjson() -> None:
    selection = parse_selection(USERS, None, None)
    assert ExportRequest(selection=selection) == parse_export({"resource": "users"})
