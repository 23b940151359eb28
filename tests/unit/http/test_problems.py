"""Every error has one shape, wherever it comes from."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import msgspec
import psycopg
import pytest
import structlog
from litestar import Litestar, get, post
from litestar.params import FromPath, JSONBody
from psycopg_pool import PoolTimeout

from wherry import errors
from wherry.http.framework import litestar_options
from wherry.http.problems import responses

SECRET_DETAIL = 'relation "users" at /srv/wherry/accounts.py'
RAISED: dict[str, Exception] = {
    "malformed": errors.Malformed("cannot be read"),
    "unauthenticated": errors.Unauthenticated("who are you"),
    "forbidden": errors.Forbidden("not you"),
    "notfound": errors.JobNotFound("no such job"),
    "conflict": errors.JobFinished("it is finished"),
    "gone": errors.Gone("its time is over"),
    "toolarge": errors.TooLarge("too many bytes", field="file"),
    "unsupported": errors.UnsupportedMedia("not that type"),
    "range": errors.RangeNotSatisfiable("no such bytes", headers={"Content-Range": "bytes */5"}),
    "invalid": errors.Invalid("resource must be one of users, articles, comments", field="resource"),
    "limit": errors.LimitReached("slow down", headers={"Retry-After": "7"}),
    "unavailable": errors.QueueUnavailable("later", headers={"Retry-After": "9"}),
    "database": psycopg.OperationalError(SECRET_DETAIL),
    "pool": PoolTimeout(SECRET_DETAIL),
    "bug": RuntimeError(SECRET_DETAIL),
    "sql": psycopg.errors.SyntaxError(SECRET_DETAIL),
    "schema": psycopg.errors.UndefinedTable(SECRET_DETAIL),
}
EXPECTED = {
    "malformed": (400, "Bad Request", "BAD_REQUEST"),
    "unauthenticated": (401, "Unauthorized", "UNAUTHORIZED"),
    "forbidden": (403, "Forbidden", "FORBIDDEN"),
    "notfound": (404, "Not Found", "JOB_NOT_FOUND"),
    "conflict": (409, "Conflict", "JOB_FINISHED"),
    "gone": (410, "Gone", "GONE"),
    "toolarge": (413, "Content Too Large", "FILE_TOO_LARGE"),
    "unsupported": (415, "Unsupported Media Type", "UNSUPPORTED_MEDIA_TYPE"),
    "range": (416, "Range Not Satisfiable", "RANGE_NOT_SATISFIABLE"),
    "invalid": (422, "Unprocessable Content", "VALIDATION_FAILED"),
    "limit": (429, "Too Many Requests", "RATE_LIMITED"),
    "unavailable": (503, "Service Unavailable", "QUEUE_UNAVAILABLE"),
    "database": (503, "Service Unavailable", "DATABASE_ERROR"),
    "pool": (503, "Service Unavailable", "DATABASE_ERROR"),
    "bug": (500, "Internal Server Error", "INTERNAL_ERROR"),
    "sql": (500, "Internal Server Error", "INTERNAL_ERROR"),
    "schema": (503, "Service Unavailable", "MIGRATIONS_PENDING"),
}


class Inner(msgspec.Struct):
    name: str
    size: int = 0


class Body(msgspec.Struct):
    user: Inner
    tags: list[str] = []


@get("/{base:str}/raise/{name:str}", responses=responses(errors.Unauthenticated, errors.NotFound))
async def raising(name: FromPath[str]) -> None:
    raise RAISED[name]


@post("/api/body", request_max_body_size=5000)
async def body(data: JSONBody[Body]) -> str:
    return data.user.name


@get("/api/page")
async def page() -> None:
    return


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=Litestar([raising, body, page], **litestar_options()))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as speaking:
        yield speaking


def assert_problem(answer: httpx.Response, status: int, title: str, code: str) -> dict[str, Any]:
    problem: dict[str, Any] = answer.json()
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert {name: problem[name] for name in ("type", "title", "status", "code")} == {
        "type": "about:blank",
        "title": title,
        "status": status,
        "code": code,
    }
    assert isinstance(problem["detail"], str)
    assert problem["detail"]
    return problem


@pytest.mark.parametrize("name", RAISED)
async def test_each_error_of_the_tree_has_the_shape_under_api(client: httpx.AsyncClient, name: str) -> None:
    problem = assert_problem(await client.get(f"/api/raise/{name}"), *EXPECTED[name])

    assert isinstance(problem["errors"], dict)
    assert "error" not in problem


@pytest.mark.parametrize("name", RAISED)
async def test_each_error_of_the_tree_has_the_shape_under_v1(client: httpx.AsyncClient, name: str) -> None:
    problem = assert_problem(await client.get(f"/v1/raise/{name}"), *EXPECTED[name])

    assert problem["error"] == {"code": problem["code"], "message": problem["detail"]}
    assert "errors" not in problem


async def test_a_fault_of_one_field_is_under_its_name(client: httpx.AsyncClient) -> None:
    problem = (await client.get("/api/raise/invalid")).json()

    assert problem["detail"] == "resource must be one of users, articles, comments"
    assert problem["errors"] == {"resource": [problem["detail"]]}


@pytest.mark.parametrize(
    ("name", "header", "value"),
    [
        ("unauthenticated", "www-authenticate", "Bearer"),
        ("limit", "retry-after", "7"),
        ("unavailable", "retry-after", "9"),
        ("database", "retry-after", "5"),
        ("range", "content-range", "bytes */5"),
    ],
)
async def test_an_error_carries_the_headers_that_belong_to_it(
    client: httpx.AsyncClient, name: str, header: str, value: str
) -> None:
    assert (await client.get(f"/api/raise/{name}")).headers[header] == value


@pytest.mark.parametrize("name", ["bug", "sql", "schema", "database", "pool"])
async def test_a_failure_tells_only_the_request_id_and_the_log_has_the_rest_under_it(
    client: httpx.AsyncClient, logged: list[Any], name: str
) -> None:
    answer = await client.get(f"/api/raise/{name}")

    assert "users" not in answer.text
    assert "/srv" not in answer.text
    request_id = answer.json()["requestId"]
    assert answer.headers["x-request-id"] == request_id
    [entry] = [entry for entry in logged if entry.get("requestId") == request_id]
    assert entry["exc_info"] is RAISED[name]
    assert entry["path"] == f"/api/raise/{name}"


async def test_a_refusal_is_not_logged_as_a_failure(
    client: httpx.AsyncClient, logged: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        await client.get("/api/raise/notfound")

    assert logged == []
    assert [record for record in caplog.records if record.name.startswith("litestar")] == []


@pytest.mark.parametrize("path", ["/api/nowhere", "/v1/nowhere", "/nowhere", "/"])
async def test_an_unknown_address_is_a_problem(client: httpx.AsyncClient, path: str) -> None:
    problem = assert_problem(await client.get(path), 404, "Not Found", "NOT_FOUND")

    assert ("errors" in problem, "error" in problem) == (path.startswith("/api"), path.startswith("/v1"))


async def test_a_method_that_an_address_does_not_take_is_answered_with_those_it_does(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.delete("/api/body")

    assert_problem(answer, 405, "Method Not Allowed", "METHOD_NOT_ALLOWED")
    assert set(answer.headers["allow"].split(", ")) == {"POST", "OPTIONS"}


@pytest.mark.parametrize(
    "content",
    [b"{", b"nonsense", b'{"user": NaN}', b'"\xff"', b"[" * 4000, b'{"user": {"name": "\\ud800"}}'],
)
async def test_a_body_that_is_no_json_is_400(client: httpx.AsyncClient, content: bytes) -> None:
    answer = await client.post("/api/body", content=content, headers={"Content-Type": "application/json"})

    assert_problem(answer, 400, "Bad Request", "MALFORMED_JSON")


@pytest.mark.parametrize(
    ("value", "faults"),
    [
        ([], {"body": ["must be an object"]}),
        (None, {"body": ["must be an object"]}),
        ({}, {"user": ["is required"]}),
        ({"user": 5}, {"user": ["must be an object"]}),
        ({"user": {}}, {"name": ["is required"]}),
        (
            {"user": {"name": 5, "size": "big"}, "tags": {}},
            {"name": ["must be a string"], "size": ["must be an integer"], "tags": ["must be an array"]},
        ),
        ({"user": {"name": "a"}, "tags": ["a", 1]}, {"tags": ["must be a string"]}),
    ],
)
async def test_a_body_of_the_wrong_shape_is_422_with_every_fault(
    client: httpx.AsyncClient, value: object, faults: dict[str, list[str]]
) -> None:
    problem = assert_problem(
        await client.post("/api/body", json=value), 422, "Unprocessable Content", "VALIDATION_FAILED"
    )

    assert problem["errors"] == faults


async def test_no_body_where_one_is_needed_is_422(client: httpx.AsyncClient) -> None:
    problem = (await client.post("/api/body")).json()

    assert problem["status"] == 422
    assert problem["errors"] == {"body": ["must be an object"]}


async def test_unknown_members_of_a_body_are_ignored(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/body", json={"user": {"name": "a", "more": 1}, "more": 2})

    assert answer.status_code == 201


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_another_type_than_json_is_415(client: httpx.AsyncClient, media_type: str) -> None:
    answer = await client.post("/api/body", content=b"{}", headers={"Content-Type": media_type})

    assert_problem(answer, 415, "Unsupported Media Type", "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "application/merge-patch+json", None])
async def test_json_by_another_name_or_by_none_is_read(client: httpx.AsyncClient, media_type: str | None) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    answer = await client.post("/api/body", content=b'{"user": {"name": "a"}}', headers=headers)

    assert answer.status_code == 201


async def test_a_body_over_the_limit_is_413(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/body", json={"user": {"name": "a" * 6000}})

    assert_problem(answer, 413, "Content Too Large", "FILE_TOO_LARGE")


async def test_a_plain_request_id_is_kept_and_any_other_replaced(client: httpx.AsyncClient) -> None:
    async def answered(given: str) -> str:
        return (await client.get("/api/page", headers={"X-Request-Id": given})).headers["x-request-id"]

    assert await answered("trace-0123.abc") == "trace-0123.abc"
    for junk in ("short", "a" * 65, "white space here", "<script>alert(1)", "semi;colon;semi"):
        replaced = await answered(junk)
        assert len(replaced) == 32
        assert replaced != junk
