"""What comes by name is read by one rule on every route."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from litestar import Request

from wherry.errors import Invalid
from wherry.http.parameters import Query, once
from wherry.jobs.states import Kind

SOME_ID = "01a20417-695f-7830-9884-8ed81eef0000"


def _query(text: str, *names: str) -> Query:
    scope: Any = {"type": "http", "query_string": text.encode(), "headers": []}
    return Query.of(Request(scope), *names)


def test_what_is_given_once_is_read_and_what_is_not_known_is_ignored() -> None:
    query = _query(f"kind=import&id={SOME_ID}&limit=7&text=&more=1&more=2", "kind", "id", "limit", "text")
    assert query.choice("kind", Kind) is Kind.IMPORT
    assert query.uuid("id") == UUID(SOME_ID)
    assert query.whole("limit", least=1, default=5) == 7
    assert query.text("text") == ""


def test_what_is_not_given_is_none_or_the_default() -> None:
    query = _query("", "kind", "id", "limit")
    assert (query.choice("kind", Kind), query.uuid("id"), query.text("text")) == (None, None, None)
    assert query.whole("limit", least=1, default=5) == 5


def test_every_name_that_is_given_more_than_once_is_named() -> None:
    given = {"resource": ["users", "users"], "atomic": ["true", "false"], "format": ["json"], "other": ["1", "2"]}
    with pytest.raises(Invalid) as refused:
        once(given, ("resource", "atomic", "format"))
    assert refused.value.fields == {name: [f"{name} must be given once"] for name in ("resource", "atomic")}


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("01", 1), ("200", 200), ("000000000000000200", 200)])
def test_digits_are_a_number(text: str, number: int) -> None:
    assert _query(f"limit={text}", "limit").whole("limit", least=1, most=200, default=5) == number


@pytest.mark.parametrize("text", ["", "0", "201", "-1", "%2B1", "1e2", "1.0", "%201", "%D9%A1", "9" * 5000])
def test_anything_else_is_refused_with_the_bounds(text: str) -> None:
    with pytest.raises(Invalid, match="limit must be an integer from 1 to 200"):
        _query(f"limit={text}", "limit").whole("limit", least=1, most=200, default=5)


@pytest.mark.parametrize("text", ["IMPORT", "", "boat"])
def test_another_word_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(Invalid, match=r"^kind must be one of import, export, capsule$"):
        _query(f"kind={text}", "kind").choice("kind", Kind)


@pytest.mark.parametrize("text", ["", "1", "x", SOME_ID[:-1]])
def test_what_is_no_uuid_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="cursor must be a UUID"):
        _query(f"cursor={text}", "cursor").uuid("cursor")
