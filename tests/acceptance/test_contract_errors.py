"""Whatever a client gets wrong, the answer has one shape, and is never a failure of the server."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest

from tests.problems import NEVER, problem_of
from tests.processes import SECRET, Service

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def anyone(running: Service) -> Iterator[httpx.Client]:
    """A client without a credential."""
    with running.client() as client:
        yield client


@pytest.mark.parametrize(
    "path", ["/", "/nowhere", "/docs", "/a/b", "/api", "/api/nowhere", "/api/v1", "/api/v2/jobs", "/v1", "/v1/nowhere"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_path_is_a_404(anyone: httpx.Client, method: str, path: str) -> None:
    problem_of(anyone.request(method, path), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/healthz", {"GET", "HEAD"}),
        ("/openapi.json", {"GET", "HEAD"}),
        ("/api/users", {"POST"}),
        ("/api/user", {"GET", "HEAD", "PUT"}),
        ("/api/v1/exports", {"GET", "HEAD", "POST"}),
        (f"/api/v1/imports/{NEVER}", {"GET", "HEAD", "DELETE"}),
        ("/v1/exports", {"POST"}),
        (f"/v1/exports/{NEVER}/download", {"GET", "HEAD"}),
    ],
)
def test_an_unsupported_method_is_a_405_with_the_allowed_ones(
    admin: httpx.Client, capsules: httpx.Client, path: str, methods: set[str]
) -> None:
    client = capsules if path.startswith("/v1") else admin
    refused = client.patch(path)
    problem_of(refused, 405, "METHOD_NOT_ALLOWED")
    assert set(refused.headers["Allow"].split(", ")) == methods | {"OPTIONS"}
    asked = client.options(path)
    assert (asked.status_code, set(asked.headers["Allow"].split(", "))) == (204, methods | {"OPTIONS"})


@pytest.mark.parametrize("path", ["/api/user/", "/healthz/"])
def test_a_trailing_slash_changes_nothing(admin: httpx.Client, path: str) -> None:
    assert admin.get(path).status_code == 200


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b"nonsense", 400),
        (b"\xff\xfe", 400),
        (b'{"user": {"username": "\xff"}}', 400),
        (b'{"user": {"username": "\\ud800"}}', 400),
        (b"[" * 50_000, 400),
        (b"[]", 422),
        (b"null", 422),
        (b'{"user": []}', 422),
        (b'{"user": {"username": 1, "email": {}, "password": []}}', 422),
        (b"x" * 70_000, 413),
    ],
)
def test_a_malformed_invalid_or_too_large_body_is_refused(anyone: httpx.Client, content: bytes, status: int) -> None:
    problem_of(anyone.post("/api/users", content=content, headers=JSON), status)


@pytest.mark.parametrize(
    "path", ["/api/users", "/api/users/login", "/api/v1/exports", "/api/v1/imports", "/v1/exports"]
)
@pytest.mark.parametrize("content_type", ["text/html", "application/x-www-form-urlencoded", "nonsense", "\xff"])
def test_an_unsupported_content_type_is_a_415(
    running: Service, admin: httpx.Client, path: str, content_type: str
) -> None:
    headers = {b"Content-Type": content_type.encode("latin-1"), b"Idempotency-Key": b"type"}
    if path.startswith("/v1"):
        headers[b"Authorization"] = running.capsule_client().headers["Authorization"].encode()
    problem_of(admin.post(path, content=b"{}", headers=headers), 415, "UNSUPPORTED_MEDIA_TYPE")


ROUTES = [
    "/api/v1/imports/{id}",
    "/api/v1/imports/{id}/errors",
    "/api/v1/imports/{id}/errors/download",
    "/api/v1/exports/{id}",
    "/api/v1/exports/{id}/download",
    "/api/v1/jobs/{id}",
    "/api/v1/jobs/{id}/events",
    "/api/v1/jobs/{id}/deliveries",
    "/api/v1/jobs/{id}/timeline",
    "/v1/exports/{id}",
    "/v1/exports/{id}/events",
    "/v1/exports/{id}/events/stream",
    "/v1/exports/{id}/download",
]


@pytest.mark.parametrize("job_id", [NEVER, "x", "1", "%00", "%ff%fe", "%ed%a0%80", "%F0%9F%98%80", "%", "x" * 5000])
def test_every_route_responds_to_an_impossible_job_id_with_the_same_404(
    admin: httpx.Client, capsules: httpx.Client, job_id: str
) -> None:
    for route in ROUTES:
        client = capsules if route.startswith("/v1") else admin
        problem_of(client.get(route.format(id=job_id)), 404, "JOB_NOT_FOUND")
    for route in ("/api/v1/imports/{id}", "/api/v1/exports/{id}", "/api/v1/jobs/{id}"):
        problem_of(admin.delete(route.format(id=job_id)), 404, "JOB_NOT_FOUND")
    problem_of(admin.post(f"/api/v1/jobs/{job_id}/retry"), 404, "JOB_NOT_FOUND")
    problem_of(capsules.delete(f"/v1/exports/{job_id}"), 404, "JOB_NOT_FOUND")


def _token(algorithm: str = "HS256", secret: str = SECRET, **claims: Any) -> str:
    return jwt.encode({"sub": "1", "iat": 1_700_000_000, "exp": 4_000_000_000, **claims}, secret, algorithm)


@pytest.mark.parametrize("path", ["/api/user", "/api/v1/jobs", "/v1/exports/x"])
@pytest.mark.parametrize(
    "credential",
    [
        "",
        "Bearer",
        "Basic Zm9vOmJhcg==",
        "Bearer nonsense",
        "Bearer \xff",
        "Bearer " + "a." * 3000,
        "Bearer " + _token(algorithm="none", secret=""),
        "Bearer " + _token(algorithm="HS512", secret=SECRET * 2),
        "Bearer " + _token(secret=SECRET[::-1]),
        "Bearer " + _token(exp=1_700_000_001),
        "Bearer " + _token(sub="2147483647"),
        "Bearer " + _token(sub="1e0"),
        _token(),
    ],
)
def test_an_invalid_credential_is_a_401(anyone: httpx.Client, path: str, credential: str) -> None:
    problem_of(anyone.get(path, headers={b"Authorization": credential.encode("latin-1")}), 401, "UNAUTHORIZED")


@pytest.mark.parametrize("scheme", ["Bearer", "Token", "bearer", "TOKEN"])
def test_both_authorization_schemes_accept_a_token(admin: httpx.Client, anyone: httpx.Client, scheme: str) -> None:
    token = admin.headers["Authorization"].removeprefix("Bearer ")
    assert anyone.get("/api/user", headers={"Authorization": f"{scheme} {token}"}).status_code == 200


def test_credentials_for_records_and_capsules_are_not_interchangeable(
    admin: httpx.Client, capsules: httpx.Client
) -> None:
    problem_of(admin.get("/v1/exports/x"), 401)
    problem_of(capsules.get("/api/v1/jobs"), 401)


def test_account_errors_are_reported_by_field(anyone: httpx.Client, admin: httpx.Client) -> None:
    blank = {"username": " ", "email": "", "password": None}
    problem = problem_of(anyone.post("/api/users", json={"user": blank}), 422)
    assert problem["errors"] == {name: ["can't be blank"] for name in blank}
    taken = {"username": "captain", "email": "CAPTAIN@example.com", "password": "some long password"}
    problem = problem_of(anyone.post("/api/users", json={"user": taken}), 422)
    assert problem["errors"] == {name: ["has already been taken"] for name in ("username", "email")}
    nul = {"username": "a\0", "email": "a@example.com", "password": "some long password", "bio": "\0"}
    assert problem_of(anyone.post("/api/users", json={"user": nul}), 422)["errors"].keys() == {"username", "bio"}
    problem_of(admin.put("/api/user", json={"user": {"email": "no address"}}), 422, field="email")


def test_an_account_from_registration_to_change(anyone: httpx.Client, admin: httpx.Client) -> None:
    asked = {"username": "Bob", "email": " Bob@Example.com ", "password": "some long password", "unknown": 1}
    registered = anyone.post("/api/users", json={"user": asked})
    assert registered.status_code == 201
    user = registered.json()["user"]
    assert user.keys() == {"id", "email", "username", "bio", "image", "token"}
    assert (user["email"], user["username"], user["bio"], user["image"]) == ("bob@example.com", "Bob", None, None)
    login = {"user": {"email": "BOB@example.com", "password": "some long password"}}
    answer = anyone.post("/api/users/login", json=login)
    assert (answer.status_code, answer.json()["user"].keys()) == (200, user.keys())
    assert answer.headers["RateLimit"].startswith('"login-address";r=')
    assert answer.headers["RateLimit-Policy"].startswith('"login-address";q=')
    token = {"Authorization": f"Token {user['token']}"}
    changed = anyone.put("/api/user", json={"user": {"bio": "rows", "unknown": 1}}, headers=token)
    assert (changed.status_code, changed.json()["user"]["bio"]) == (200, "rows")
    problem_of(anyone.get("/api/v1/jobs", headers=token), 403, "FORBIDDEN")
    problem_of(anyone.post("/api/v1/users/1/onboarding-link", headers=token), 403, "FORBIDDEN")


def test_a_wrong_password_and_an_unknown_address_get_the_same_403(anyone: httpx.Client, admin: httpx.Client) -> None:
    answers = [
        anyone.post("/api/users/login", json={"user": {"email": email, "password": "wrong"}})
        for email in ("captain@example.com", "nobody@example.com", "a\0@example.com")
    ]
    problems = [problem_of(answer, 403) for answer in answers]
    assert problems[0]["errors"] == {"email or password": ["is invalid"]}
    assert problems[0] == problems[1] == problems[2]


def test_links_to_set_a_password(anyone: httpx.Client, admin: httpx.Client) -> None:
    for email in ("captain@example.com", "nobody@example.com", "no address\0"):
        assert anyone.post("/api/users/password/reset", json={"email": email}).status_code == 202
    for token in ("nonsense", "\0", "x" * 5000):
        problem_of(anyone.post("/api/users/password", json={"token": token, "password": "a long password"}), 410)
    for user_id in ("0", "-1", "2147483648", "99999999999999999999", "9" * 5000, "x", "%00"):
        problem_of(admin.post(f"/api/v1/users/{user_id}/onboarding-link"), 404)


def test_the_health_routes_report_the_state(anyone: httpx.Client) -> None:
    alive = anyone.get("/healthz").json()
    assert (alive["ok"], alive["status"]) == (True, "ok")
    assert alive["timestamp"].endswith("Z")
    for path in ("/healthz", "/readyz"):
        asked = anyone.head(path)
        assert (asked.status_code, asked.content) == (200, b""), "what balances load may ask by HEAD"
    ready = anyone.get("/readyz").raise_for_status().json()
    assert ready["status"] in ("ok", "degraded"), "its worker may not have started yet"
    assert {**ready["checks"], "workers": "ok"} == dict.fromkeys(("database", "migrations", "storage", "workers"), "ok")


def test_the_description_names_every_route_and_its_refusals(anyone: httpx.Client) -> None:
    described = anyone.get("/openapi.json").raise_for_status().json()["paths"]
    assert {path.replace("job_id", "id") for path in described} >= {
        *ROUTES,
        "/api/v1/imports",
        "/v1/exports",
        "/readyz",
    }
    for path, operations in described.items():
        for method, operation in operations.items():
            guarded = path.startswith(("/api/v1", "/v1", "/api/user/"))
            assert not guarded or {"401", "503"} <= operation["responses"].keys(), f"{method} {path}"
    page = {parameter["name"] for parameter in described["/api/v1/exports"]["get"]["parameters"]}
    assert page == {"resource", "format", "limit", "cursor", "filters", "fields", "references"}
    assert described["/api/v1/imports"]["post"]["requestBody"]["content"].keys() >= {"multipart/form-data"}


def test_no_route_of_the_api_is_open_to_anonymous_requests(anyone: httpx.Client) -> None:
    described = anyone.get("/openapi.json").raise_for_status().json()["paths"]
    routes = [
        (method, path) for path, methods in described.items() if path.startswith("/api/v1/") for method in methods
    ]
    assert ("post", "/api/v1/queue/{kind}/pause") in routes
    for method, path in routes:
        refused = anyone.request(method, re.sub(r"\{\w+\}", "1", path))
        assert refused.status_code == 401, (method, path)
        if method != "head":
            problem_of(refused, 401, "UNAUTHORIZED")


def test_no_description_loads_anything_from_elsewhere(anyone: httpx.Client) -> None:
    for path in ("/swagger", "/redoc", "/rapidoc", "/scalar", "/elements"):
        problem_of(anyone.get(path), 404)


@pytest.mark.parametrize(
    "fields",
    [b"X-Junk: \xff\xfe", b"Cookie: \xff=\xfe; ;;", b"X-Request-Id: \xff", b"Accept: \xff", b"Content-Length: 0"],
)
def test_a_header_that_is_not_text_causes_no_server_error(running: Service, fields: bytes) -> None:
    url = httpx.URL(running.url)
    with socket.create_connection((url.host, url.port or 80), timeout=10) as connection:
        connection.sendall(b"GET /api/nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + fields + b"\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 ")
    assert json.loads(body)["code"] == "NOT_FOUND"
