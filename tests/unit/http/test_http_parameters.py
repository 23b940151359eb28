"""Parameters are read by the same rules on every route."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import pytest
from litestar import Request
from msgspec import Meta, Struct

from wherry.errors import Invalid
from wherry.http.parameters import object_in, once, query_of, read_query, refuse_unknown
from wherry.jobs.states import Kind

SOME_ID = "01a20417-695f-7830-9884-8ed81eef0000"


def _request(text: str) -> Request[Any, Any, Any]:
    scope: Any = {"type": "http", "query_string": text.encode(), "headers": []}
    return Request(scope)


class Given(Struct, rename="camel"):
    kind: Annotated[Kind | None, Meta(description="Described.")] = None
    some_id: UUID | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 5
    since: Annotated[int, Meta(ge=0, description="Described.")] | None = 0
    text: str | None = None


def _query(text: str) -> Given:
    return read_query(_request(text), Given)


def test_what_is_given_once_is_read_and_what_is_not_known_is_ignored() -> None:
    query = _query(f"kind=import&someId={SOME_ID}&limit=7&since=9&text=&more=1&more=2")
    assert query == Given(Kind.IMPORT, UUID(SOME_ID), 7, 9, None)
    assert _query("text=7") == Given(text="7")


@pytest.mark.parametrize("text", ["", "fields=", "fields[]=", "fields=&fields="])
def test_an_empty_parameter_is_absent(text: str) -> None:
    assert query_of(_request(text)) == {}


@pytest.mark.parametrize(
    "text",
    [
        "fields[]=id&fields[]=slug",
        "fields[0]=id&fields[1]=slug",
        "fields=id&fields=slug",
        "fields%5B%5D=id&fields=slug",
    ],
)
def test_an_array_may_be_written_in_brackets(text: str) -> None:
    assert query_of(_request(text)) == {"fields": ["id", "slug"]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("filters=", None),
        ("filters[id]=", None),
        ('filters={"id":1}', '{"id":1}'),
        ("filters[authorId]=100", {"authorId": "100"}),
        ("filters[id]=1&filters[slug]=a", {"id": "1", "slug": "a"}),
        ("filters%5BcreatedAt%5D%5Bgte%5D=2026-01-01&filters[createdAt][lt]=2026-02-01",
         {"createdAt": {"gte": "2026-01-01", "lt": "2026-02-01"}}),
    ],
)  # fmt: skip
def test_an_object_may_be_written_in_brackets(text: str, expected: object) -> None:
    assert object_in(query_of(_request(text)), "filters") == expected


@pytest.mark.parametrize(
    "text",
    [
        "filters[id]=1&filters[id]=2",
        "filters={}&filters={}",
        "filters={}&filters[id]=1",
        "filters[id]=1&filters[id][gt]=2",
        "filters[id][gt]=2&filters[id]=1",
        "filters[a][b][c]=1",
        "filters[id=1",
        "filters[id]x=1",
        "filters[[id]]=1",
        "filters[" + "[" * 20_000 + "=1",
    ],
)
def test_an_object_that_is_written_wrongly_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="filters") as refused:
        object_in(query_of(_request(text)), "filters")
    assert list(refused.value.fields) == ["filters"]
    assert len(refused.value.detail) < 300


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("dryrun", "dryrun is not a known parameter; did you mean dryRun?"),
        ("dry_run", "dry_run is not a known parameter; did you mean dryRun?"),
        ("on-conflict", "on-conflict is not a known parameter; did you mean onConflict?"),
        ("colour", "colour is not a known parameter; those are dryRun, onConflict"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_known_one(given: str, advice: str) -> None:
    with pytest.raises(Invalid) as refused:
        refuse_unknown(["dryRun", given], ("onConflict", "dryRun"))
    assert refused.value.fields == {given: [advice]}


def test_what_is_not_given_is_none_or_the_default() -> None:
    assert _query("") == Given(None, None, 5, 0, None)


def test_every_name_that_is_given_more_than_once_is_named() -> None:
    given = {"resource": ["users", "users"], "atomic": ["true", "false"], "format": ["json"], "other": ["1", "2"]}
    with pytest.raises(Invalid) as refused:
        once(given, ("resource", "atomic", "format"))
    assert refused.value.fields == {name: [f"{name} must be given once"] for name in ("resource", "atomic")}


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("01", 1), ("200", 200), ("000000000000000200", 200)])
def test_digits_are_a_number(text: str, number: int) -> None:
    assert _query(f"limit={text}").limit == number


@pytest.mark.parametrize("text", ["0", "201", "-1", "%2B1", "1e2", "1.0", "%201", "%D9%A1", "9" * 5000])
def test_anything_else_is_refused_with_the_bounds(text: str) -> None:
    with pytest.raises(Invalid, match="limit must be an integer from 1 to 200"):
        _query(f"limit={text}")


@pytest.mark.parametrize("text", ["-1", "x", "9" * 19])
def test_without_an_upper_bound_the_lower_one_is_named(text: str) -> None:
    with pytest.raises(Invalid, match="since must be an integer of at least 0"):
        _query(f"since={text}")


@pytest.mark.parametrize("text", ["IMPORT", "boat"])
def test_another_word_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(Invalid, match=r"^kind must be one of import, export, capsule$"):
        _query(f"kind={text}")


@pytest.mark.parametrize("text", ["1", "x", SOME_ID[:-1]])
def test_what_is_no_uuid_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="someId must be a UUID"):
        _query(f"someId={text}")
