"""`/openapi.json` says what is accepted and what is answered: real requests and answers are held against it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.factories import SMALL_GRAPH
from tests.processes import Service, finished, import_file
from wherry.errors import CODES

ROWS = b'{"email":"one@example.com","name":"One"}\n{"name":""}\n'
EXPORT = {"resource": "users", "format": "ndjson"}
URL = {"resource": "users", "url": "https://wherry.invalid/users.ndjson"}
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}


Json = Any


def faults(document: Json, schema: Json, value: Json, place: str = "$") -> Iterator[str]:
    """Where a value is not what a schema says; knows the words of JSON Schema that the document uses."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        tried = [list(faults(document, choice, value, place)) for choice in schema["anyOf"]]
        if [] not in tried:
            yield f"{place} fits none of {len(tried)}: {tried}"
    if "oneOf" in schema:
        tried = [list(faults(document, choice, value, place)) for choice in schema["oneOf"]]
        if tried.count([]) != 1:
            yield f"{place} fits {tried.count([])} of {len(tried)}: {tried}"
    if "type" in schema:
        wrong_type = not isinstance(value, TYPES[schema["type"]])
        if wrong_type or (isinstance(value, bool) and schema["type"] != "boolean"):
            yield f"{place} is {value!r}, not {schema['type']}"
            return
    if value != schema.get("const", value) or value not in schema.get("enum", [value]):
        yield f"{place} is {value!r}"
    if isinstance(value, str) and (
        not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        or not re.search(schema.get("pattern", ""), value)
    ):
        yield f"{place} is {value!r}"
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            yield f"{place} is too short"
        for index, item in enumerate(value):
            yield from faults(document, schema.get("items", {}), item, f"{place}[{index}]")
    if isinstance(value, dict):
        yield from (f"{place}.{name} is missing" for name in schema.get("required", ()) if name not in value)
        for name, item in value.items():
            inner = schema.get("properties", {}).get(name, schema.get("additionalProperties", {}))
            yield from faults(document, inner, item, f"{place}.{name}")


@pytest.fixture(scope="module")
def document(running: Service) -> Json:
    with running.client() as client:
        return client.get("/openapi.json").raise_for_status().json()


def _operation(document: Json, method: str, path: str) -> Json:
    for template, operations in document["paths"].items():
        if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", template), path) and method.lower() in operations:
            return operations[method.lower()]
    raise AssertionError(f"{method} {path} is not described")


OWN_FIELDS = {"location", "idempotent-replayed", "ratelimit", "ratelimit-policy", "retry-after", "www-authenticate"}
OWN_FIELDS |= {"accept", "accept-encoding", "x-request-id"}


def assert_described(document: Json, answer: httpx.Response) -> None:
    """The status of an answer, its media type, its JSON, its code and its own header fields are in the document."""
    request = answer.request
    described = _operation(document, request.method, request.url.path)["responses"][str(answer.status_code)]
    media_type = answer.headers.get("Content-Type", "").partition(";")[0]
    assert media_type in described.get("content", {"": {}}), (request, answer.status_code, media_type)
    if media_type in ("application/json", "application/problem+json"):
        schema = described["content"][media_type]["schema"]
        assert schema, f"nothing is said of {request.method} {request.url.path} {answer.status_code}"
        assert list(faults(document, schema, answer.json())) == []
    if media_type == "application/problem+json":
        assert f"`{answer.json()['code']}`: " in described["description"], (request, answer.text)
    fields = {name.lower() for name in answer.headers} & OWN_FIELDS
    assert fields <= {name.lower() for name in described["headers"]}, f"{request} {answer.status_code}"


@pytest.fixture(scope="module")
def imported(admin: httpx.Client) -> Json:
    """An import that ended as partial."""
    return finished(admin, import_file(admin, "users", ROWS, key="document")["id"])


@pytest.fixture(scope="module")
def exported(admin: httpx.Client, imported: Json) -> Json:
    """An export that succeeded."""
    made = admin.post("/api/v1/exports", json=EXPORT, headers={"Idempotency-Key": "document"})
    return finished(admin, made.json()["exportJob"]["id"])


def test_imports_are_answered_as_described(admin: httpx.Client, document: Json, imported: Json) -> None:
    path = f"/api/v1/imports/{imported['id']}"
    for _ in range(2):  # the second is a replay
        files, key = {"file": ("a.ndjson", ROWS)}, {"Idempotency-Key": "described"}
        posted = admin.post("/api/v1/imports", files=files, data={"resource": "users"}, headers=key)
        assert_described(document, posted)
    failed = finished(admin, posted.json()["importJob"]["id"])
    waiting = admin.post("/api/v1/imports", json=URL, headers={"Idempotency-Key": "url"})
    answers = [
        waiting,
        admin.delete(waiting.headers["Location"]),
        admin.get(f"/api/v1/imports/{failed['id']}"),
        admin.get(path),
        admin.get(f"{path}/errors"),
        admin.get(f"{path}/errors", params={"limit": 1}),
        admin.delete(path),
        admin.get(f"{path}0"),
        admin.post("/api/v1/imports", json=URL),
        admin.post("/api/v1/imports", content=b"x", headers={"Idempotency-Key": "k", "Content-Type": "text/html"}),
    ]
    for answer in answers:
        assert_described(document, answer)


def test_exports_are_answered_as_described(admin: httpx.Client, document: Json, exported: Json) -> None:
    path = f"/api/v1/exports/{exported['id']}"
    answers = [
        admin.post("/api/v1/exports", json=EXPORT, headers={"Idempotency-Key": "document"}),
        admin.post("/api/v1/exports", json=EXPORT, headers={"Idempotency-Key": "other"}),
        admin.get(path),
        admin.get(f"{path}/download"),
        admin.get(f"{path}/download", headers={"Range": "bytes=0-0"}),
        admin.get(f"{path}/download", headers={"Range": "bytes=0-0,400-"}),
        admin.get(f"{path}/download", headers={"Range": "bytes=99999-"}),
        admin.head(f"{path}/download"),
        admin.get("/api/v1/exports", params={"resource": "users"}),
        admin.delete(path),
        admin.get(path),
        admin.get(f"{path}/download"),
    ]
    for answer in answers:
        if answer.request.method != "HEAD":
            assert answer.status_code < 500, (answer.request, answer.text)
            assert_described(document, answer)


def test_jobs_and_accounts_are_answered_as_described(
    running: Service, admin: httpx.Client, document: Json, imported: Json, exported: Json
) -> None:
    user = {"username": "document", "email": "document@example.com", "password": "some long password"}
    with running.client() as anyone:
        answers = [
            anyone.post("/api/users", json={"user": user}),
            anyone.post("/api/users", json={"user": user}),
            anyone.post("/api/users/login", json={"user": user}),
            anyone.post("/api/users/password/reset", json={"email": "nobody@example.com"}),
            anyone.get("/api/v1/jobs"),
        ]
    made = admin.post("/api/user/tokens", json={"name": "document", "expiresAt": "2999-01-31T12:00:00Z"})
    tokens = f"/api/user/tokens/{made.json()['apiToken']['id']}"
    answers += [made, admin.get("/api/user/tokens"), admin.delete(tokens), admin.delete(tokens)]
    answers += [admin.post("/api/user/tokens", json={}), admin.put("/api/user", json={"user": {"email": ""}})]
    answers += [admin.get("/api/user"), admin.get("/api/v1/jobs"), admin.get("/api/v1/jobs", params={"limit": 1})]
    assert {job["kind"] for job in answers[-2].json()["jobs"]} == {"import", "export"}
    for job in (imported, exported):
        path = f"/api/v1/jobs/{job['id']}"
        answers += [admin.get(path), admin.get(f"{path}/timeline"), admin.post(f"{path}/retry"), admin.delete(path)]
    waiting = admin.post("/api/v1/imports", json=URL, headers={"Idempotency-Key": "jobs"}).json()["importJob"]["id"]
    answers += [admin.delete(f"/api/v1/jobs/{waiting}"), admin.get("/api/v1/jobs", params={"owner": "all"})]
    answers += [admin.get("/api/v1/jobs", params={"owner": "x"}), admin.get("/api/v1/queue")]
    answers += [admin.post(f"/api/v1/queue/{kind}/{verb}") for kind in ("export", "x") for verb in ("pause", "resume")]
    for answer in answers:
        assert_described(document, answer)


def test_capsules_are_answered_as_described(capsules: httpx.Client, document: Json) -> None:
    made = capsules.post("/v1/exports", json=SMALL_GRAPH, headers={"Idempotency-Key": "document"})
    again = capsules.post("/v1/exports", json=SMALL_GRAPH, headers={"Idempotency-Key": "document"})
    path = made.headers["Location"]
    with capsules.stream("GET", f"{path}/events/stream") as events:
        events.read()
    ended = capsules.get(path)
    assert ended.json()["status"] == "completed"
    download = f"{path}/download"
    for answer in [made, again, ended, capsules.get(f"{path}/events"), capsules.get(download), capsules.delete(path)]:
        assert_described(document, answer)
    assert_described(document, capsules.get(download, headers={"Range": "bytes=0-0,4000-4001"}))


ACCEPTED = [
    ("/api/v1/exports", EXPORT),
    ("/api/v1/exports", {"export": EXPORT}),
    ("/api/v1/exports", {**EXPORT, "fields": "id,name"}),
    ("/api/v1/exports", {**EXPORT, "fields": ["id"], "filters": {"active": True}, "csvEscapeFormulas": False}),
    ("/api/v1/exports", {"resource": "users", **dict.fromkeys(("format", "fields", "filters", "compression"))}),
    ("/api/v1/imports", URL),
    ("/api/v1/imports", {"import": URL}),
    ("/api/v1/imports", {**URL, "dryRun": "true", "atomic": False, "onConflict": "skip", "format": None}),
]
REFUSED = [
    ("/api/v1/exports", {}),
    ("/api/v1/exports", {"export": {}}),
    ("/api/v1/exports", {**EXPORT, "fields": []}),
    ("/api/v1/exports", {**EXPORT, "fields": ""}),
    ("/api/v1/exports", {**EXPORT, "filters": []}),
    ("/api/v1/imports", {}),
    ("/api/v1/imports", {"resource": "users"}),
    ("/api/v1/imports", {**URL, "dryRun": "perhaps"}),
    ("/api/users", {"user": {"username": None, "email": "null@example.com", "password": "a long password"}}),
    ("/api/users", {"user": {"email": "null@example.com", "password": "a long password"}}),
    ("/api/user/tokens", {}),
    ("/api/user/tokens", {"name": ""}),
    ("/api/user/tokens", {"apiToken": {"name": "n" * 101}}),
]


@pytest.mark.parametrize(
    ("path", "body", "accepted"), [(*pair, True) for pair in ACCEPTED] + [(*pair, False) for pair in REFUSED]
)
def test_a_body_is_accepted_where_the_description_says_so(
    admin: httpx.Client, document: Json, path: str, body: Json, accepted: bool
) -> None:
    schema = _operation(document, "POST", path)["requestBody"]["content"]["application/json"]["schema"]
    answer = admin.post(path, json=body, headers={"Idempotency-Key": f"body-{abs(hash(json.dumps(body)))}"})
    assert (answer.status_code, list(faults(document, schema, body)) == []) == (202 if accepted else 422, accepted)


def test_every_type_of_a_records_file_is_described_and_read(admin: httpx.Client, document: Json) -> None:
    described = _operation(document, "POST", "/api/v1/imports")
    content = described["requestBody"]["content"]
    assert {"multipart/form-data", "application/json", "application/x-ndjson", "application/gzip"} <= content.keys()
    assert "Content-Encoding" in {parameter["name"] for parameter in described["parameters"]}
    for media_type in content.keys() - {"multipart/form-data", "application/json"}:
        headers = {"Idempotency-Key": f"type {media_type}".replace(" ", "-"), "Content-Type": media_type}
        params = {"resource": "users", "onConflict": "update"}
        answer = admin.post("/api/v1/imports", params=params, content=ROWS, headers=headers)
        assert answer.status_code == 202, media_type


def test_waiting_times_and_limits_are_described_wherever_they_are_sent(document: Json) -> None:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, answer in operation["responses"].items():
                expected = {"429": {"Retry-After", "RateLimit", "RateLimit-Policy"}, "503": {"Retry-After"}}
                assert expected.get(status, set()) <= answer["headers"].keys(), f"{method} {path} {status}"
    refs = re.findall(r'"#/components/(\w+)/([\w-]+)"', json.dumps(document))
    assert all(name in document["components"][kind] for kind, name in refs)


def _operations(document: Json) -> Iterator[Json]:
    return (operation for operations in document["paths"].values() for operation in operations.values())


def test_every_operation_has_a_name_of_its_own(document: Json) -> None:
    names = [operation["operationId"] for operation in _operations(document)]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", name) for name in names), names


def test_every_json_body_and_response_has_an_example_that_fits_its_schema(document: Json) -> None:
    examples = 0
    for operation in _operations(document):
        answers = [answer for status, answer in operation["responses"].items() if status < "300"]
        for part in [operation.get("requestBody", {}), *answers]:
            content = part.get("content", {}).get("application/json", {"schema": {"type": "null"}})
            if content["schema"] != {"type": "null"}:
                examples += 1
                assert list(faults(document, content["schema"], content["example"])) == [], operation["operationId"]
    assert examples > 30


def test_head_is_described_only_where_it_is_declared(document: Json) -> None:
    described = {path for path, operations in document["paths"].items() if "head" in operations}
    assert "/api/user" not in described
    assert {"/readyz", "/api/v1/exports/{job_id}/download"} <= described


def test_every_code_that_an_error_can_have_is_listed(document: Json) -> None:
    assert document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"] == list(CODES)
