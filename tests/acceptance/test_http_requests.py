"""How clients may ask: by HEAD, with packed bodies, with each parameter once."""

from __future__ import annotations

import gzip
import itertools
import json
from typing import Any

import httpx
import pytest

from tests.factories import SMALL_GRAPH
from tests.problems import problem_of
from tests.processes import finished, import_file

ROWS = b'{"email":"one@example.com","name":"One"}\n{"name":""}\n'
KEYS = map("request-{}".format, itertools.count())
NOT_OF_THE_ANSWER = {"date", "x-request-id", "transfer-encoding", "connection"}


@pytest.fixture(scope="module")
def imported(admin: httpx.Client) -> dict[str, Any]:
    """An import that ended as partial."""
    return finished(admin, import_file(admin, "users", ROWS, key="requests")["id"])


def _fields(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in NOT_OF_THE_ANSWER}


@pytest.mark.parametrize(
    "path",
    [
        "/api/user",
        "/api/v1/jobs",
        "/api/v1/exports?resource=users",
        "/api/v1/exports?resource=boats",
        "/api/v1/imports/{id}",
        "/api/v1/imports/{id}/errors",
        "/api/v1/imports/{id}/errors/download",
        "/api/v1/jobs?owner=all",
        "/api/v1/jobs/{id}",
        "/api/v1/jobs/{id}/events",
        "/api/v1/jobs/{id}/deliveries",
        "/api/v1/jobs/{id}/timeline",
        "/openapi.json",
        "/set-password",
    ],
)
def test_head_is_answered_as_get_is_without_the_body(admin: httpx.Client, imported: dict[str, Any], path: str) -> None:
    whole, head = [admin.request(method, path.format(id=imported["id"])) for method in ("GET", "HEAD")]
    assert (head.status_code, _fields(head)) == (whole.status_code, _fields(whole))
    assert head.content == b""
    assert whole.content


def test_head_of_capsule_routes(capsules: httpx.Client, admin: httpx.Client) -> None:
    assert capsules.head("/v1/exports/x").status_code == 404
    assert admin.head("/v1/exports/x").status_code == 401
    assert capsules.head("/v1/exports").status_code == 405


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/exports", {"resource": "users"}),
        ("/api/v1/imports", {"resource": "users", "url": "https://wherry.invalid/users.ndjson"}),
    ],
)
def test_json_may_be_packed_with_gzip_and_nothing_else(admin: httpx.Client, path: str, body: dict[str, str]) -> None:
    content = json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": next(KEYS)}
    for packed, coding in ((b"\xef\xbb\xbf" + content, "identity"), (gzip.compress(content), "gzip")):
        answer = admin.post(path, content=packed, headers={**headers, "Content-Encoding": coding})
        assert answer.status_code in (200, 202), "the same request, however it is packed"
    refused = admin.post(path, content=content, headers={**headers, "Content-Encoding": "br"})
    problem_of(refused, 415, "UNSUPPORTED_MEDIA_TYPE")
    assert refused.headers["Accept-Encoding"] == "gzip"


@pytest.mark.parametrize("coding", ["gzip", "x-gzip"])
def test_a_file_may_be_packed_with_gzip_by_both_its_names(admin: httpx.Client, coding: str) -> None:
    headers = {
        "Content-Type": "application/x-ndjson",
        "Content-Encoding": coding,
        "Idempotency-Key": next(KEYS),
    }
    params = {"resource": "users", "onConflict": "update"}
    answer = admin.post("/api/v1/imports", params=params, content=gzip.compress(ROWS), headers=headers)
    assert finished(admin, answer.json()["importJob"]["id"])["successCount"] == 1


def test_a_form_is_not_packed(admin: httpx.Client) -> None:
    headers = {"Content-Encoding": "gzip", "Idempotency-Key": next(KEYS)}
    refused = admin.post("/api/v1/imports", files={"file": ("a.ndjson", ROWS)}, headers=headers)
    problem_of(refused, 415, "UNSUPPORTED_MEDIA_TYPE")
    assert refused.headers["Accept-Encoding"] == "identity"


def test_every_json_body_may_be_packed_with_gzip(admin: httpx.Client, capsules: httpx.Client) -> None:
    paths = admin.get("/openapi.json").json()["paths"]
    routes = [
        (method, path, operation)
        for path, operations in paths.items()
        for method, operation in operations.items()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    ]
    assert len(routes) > 6
    for method, path, operation in routes:
        client = capsules if path.startswith("/v1/") else admin
        answers = [
            client.request(
                method,
                path,
                content=content,
                headers={**JSON, "Content-Encoding": coding, "Idempotency-Key": next(KEYS)},
            )
            for content, coding in ((b"{}", "identity"), (gzip.compress(b"{}"), "gzip"), (b"{}", "gzip"), (b"{}", "br"))
        ]
        plain, packed, damaged, unknown = answers
        assert packed.status_code == plain.status_code, path
        assert packed.json().get("errors") == plain.json().get("errors"), path
        problem_of(damaged, 400)
        problem_of(unknown, 415, "UNSUPPORTED_MEDIA_TYPE")
        assert "gzip" in unknown.headers["Accept-Encoding"]
        assert "Content-Encoding" in {parameter["name"] for parameter in operation["parameters"]}, path


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/v1/jobs?kind=import&kind=export", "kind"),
        ("/api/v1/jobs?limit=1&limit=2", "limit"),
        ("/api/v1/imports/{id}/errors?limit=1&limit=2", "limit"),
        ("/api/v1/imports/{id}/errors?cursor=a&cursor=b", "cursor"),
        ("/api/v1/exports?resource=users&limit=1&limit=2", "limit"),
    ],
)
def test_a_repeated_parameter_is_refused(admin: httpx.Client, imported: dict[str, Any], path: str, field: str) -> None:
    problem = problem_of(admin.get(path.format(id=imported["id"])), 422, field=field)
    assert problem["errors"] == {field: [f"{field} must be given once"]}


def test_a_repeated_capsule_parameter_is_refused(capsules: httpx.Client) -> None:
    for path in ("events", "events/stream"):
        problem_of(capsules.get(f"/v1/exports/x/{path}?sinceSeq=1&sinceSeq=2"), 422)


@pytest.mark.parametrize("name", ["resource", "format", "onConflict", "dryRun", "atomic"])
def test_a_repeated_import_field_is_refused(admin: httpx.Client, name: str) -> None:
    twice = [("resource", "users"), *[(name, "users")] * 2]
    headers = {"Idempotency-Key": next(KEYS)}
    form: Any = [*((field, (None, value)) for field, value in twice), ("file", ("a.ndjson", ROWS))]
    by_form = admin.post("/api/v1/imports", files=form, headers=headers)
    headers["Content-Type"] = "application/x-ndjson"
    by_query = admin.post("/api/v1/imports", params=twice, content=ROWS, headers=headers)
    for answer in (by_form, by_query):
        assert problem_of(answer, 422, field=name)["errors"] == {name: [f"{name} must be given once"]}


@pytest.mark.parametrize("name", ["dryrun", "dry_run", "onconflict", "colour"])
def test_an_unknown_field_of_an_import_is_refused(admin: httpx.Client, name: str) -> None:
    headers = {"Idempotency-Key": next(KEYS)}
    by_form = admin.post(
        "/api/v1/imports", data={"resource": "users", name: "x"}, files={"file": ("a.ndjson", ROWS)}, headers=headers
    )
    by_form_and_query = admin.post(
        "/api/v1/imports", params={name: "x"}, data={"resource": "users"}, files={"file": ROWS}, headers=headers
    )
    url = {"resource": "users", "url": "https://wherry.invalid/"}
    by_url = admin.post("/api/v1/imports", params={name: "x"}, json=url, headers=headers)
    headers["Content-Type"] = "application/x-ndjson"
    by_body = admin.post("/api/v1/imports", params={"resource": "users", name: "x"}, content=ROWS, headers=headers)
    for answer in (by_form, by_form_and_query, by_url, by_body):
        [message] = problem_of(answer, 422, field=name)["errors"][name]
        assert message.startswith(f"{name} is not a known parameter; ")


def test_an_option_in_the_query_counts_whatever_the_body_is(admin: httpx.Client) -> None:
    headers = {"Idempotency-Key": next(KEYS)}
    by_form = admin.post(
        "/api/v1/imports",
        params={"dryRun": "true", "atomic": ""},
        data={"resource": "users"},
        files={"file": ("a.ndjson", ROWS)},
        headers=headers,
    )
    url = {"resource": "users", "url": "https://wherry.invalid/a.ndjson"}
    headers = {"Idempotency-Key": next(KEYS)}
    by_url = admin.post("/api/v1/imports", params={"dryRun": "true"}, json=url, headers=headers)
    assert [answer.json()["importJob"]["dryRun"] for answer in (by_form, by_url)] == [True, True]
    twice = admin.post("/api/v1/imports", params={"dryRun": "true"}, json={**url, "dryRun": False}, headers=headers)
    assert problem_of(twice, 422, field="dryRun")["errors"] == {"dryRun": ["dryRun must be given once"]}


@pytest.mark.parametrize(
    "query",
    [
        "fields[]=name&fields[]=id&filters[active]=true&limit=&cursor=",
        "fields%5B0%5D=name&fields%5B1%5D=id&filters%5Bactive%5D=true&filters%5BcreatedAt%5D%5Bgte%5D=2020-01-01",
        "fields=Name,ID&filters=%7B%22Active%22:true%7D&format=",
        "fields=name&fields=id&format=NDJSON",
    ],
)
def test_a_page_is_requested_in_any_spelling(admin: httpx.Client, imported: dict[str, Any], query: str) -> None:
    lines = admin.get(f"/api/v1/exports?resource=Users&{query}").raise_for_status().text.splitlines()
    assert [list(json.loads(line)) for line in lines[:-1]] == [["name", "id"]] * 2


def test_numbers_and_choices_are_read_by_one_rule(admin: httpx.Client) -> None:
    for path in ("/api/v1/jobs?limit=01", "/api/v1/exports?resource=users&limit=01"):
        assert admin.get(path).status_code == 200
    problem = problem_of(admin.get("/api/v1/jobs?kind=IMPORT"), 422, field="kind")
    assert problem["detail"] == "kind must be one of import, export, capsule"


def test_an_empty_last_event_id_counts_as_absent(admin: httpx.Client, imported: dict[str, Any]) -> None:
    assert admin.get(f"/api/v1/jobs/{imported['id']}/events", headers={"Last-Event-ID": ""}).status_code == 200


def test_the_error_for_an_invalid_key_says_what_it_must_be(admin: httpx.Client, capsules: httpx.Client) -> None:
    headers = {"Idempotency-Key": '""'}
    for answer in (
        admin.post("/api/v1/exports", json={"resource": "users"}, headers=headers),
        capsules.post("/v1/exports", json=SMALL_GRAPH, headers=headers),
    ):
        assert "idempotencyKey must be 1 to 255 characters" in problem_of(answer, 422)["detail"]
