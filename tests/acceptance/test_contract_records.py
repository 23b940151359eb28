"""Imports, exports and the list of jobs, as clients of the older service send them, and as nobody should."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.problems import NEVER, problem_of
from tests.processes import Service, finished

USERS = b'{"email":"one@example.com","name":"One"}\n{"email":"two@example.com","name":"Two"}\n{"name":""}\n'
KEYS = map("key-{}".format, itertools.count())
IMPORT_FIELDS = {
    *("id", "status", "entityType", "format", "totalRecords", "processedRecords", "successCount", "errorCount"),
    *("createdAt", "startedAt", "completedAt", "idempotencyKey", "fileName", "fileSize", "sourceUrl", "onConflict"),
    *("dryRun", "atomic", "progress", "errorSummary"),
}
EXPORT_FIELDS = {
    *("id", "status", "entityType", "format", "totalRecords", "processedRecords", "progress", "createdAt"),
    *("startedAt", "completedAt", "expiresAt", "idempotencyKey", "downloadUrl", "fileSize", "sha256"),
}
ERROR_FIELDS = [
    *("recordIndex", "recordId", "errorCode", "errorName", "message", "field", "value", "details", "createdAt"),
]


def _post(client: httpx.Client, key: str | None = "", **request: Any) -> httpx.Response:
    headers = {**request.pop("headers", {}), **({} if key is None else {"Idempotency-Key": key or next(KEYS)})}
    return client.post("/api/v1/imports", headers=headers, **request)


def _form(client: httpx.Client, content: bytes = USERS, key: str | None = "", **fields: str) -> httpx.Response:
    files = {"file": ("users.ndjson", content)}
    return _post(client, key, files=files, data={"resource": "users", "onConflict": "update", **fields})


@pytest.fixture(scope="module")
def imported(admin: httpx.Client) -> dict[str, Any]:
    """An import that ended as partial."""
    return finished(admin, _form(admin).json()["importJob"]["id"])


@pytest.fixture(scope="module")
def exported(admin: httpx.Client, imported: dict[str, Any]) -> dict[str, Any]:
    """An export of all users that succeeded."""
    job = admin.post("/api/v1/exports", json={"export": {"resource": "users", "fields": ["name", "id"]}}).json()
    return finished(admin, job["exportJob"]["id"])


def test_an_import_is_accepted_with_everything_that_a_client_reads(admin: httpx.Client) -> None:
    answer = _form(admin, key="import-users-001")
    assert answer.status_code == 202
    job = answer.json()["importJob"]
    assert UUID(job["id"]).version == 7
    assert answer.headers["Location"] == f"/api/v1/imports/{job['id']}"
    assert answer.headers["RateLimit-Policy"] == '"imports";q=1000;w=3600'
    assert answer.headers["RateLimit"].startswith('"imports";r=')
    assert job.keys() >= IMPORT_FIELDS
    assert (job["status"], job["entityType"], job["format"], job["fileName"]) == (
        "queued",
        "users",
        "ndjson",
        "users.ndjson",
    )
    assert (job["fileSize"], job["idempotencyKey"], job["totalRecords"]) == (len(USERS), "import-users-001", None)
    again = _form(admin, key="import-users-001")
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert (again.headers["Location"], again.json()["importJob"]["id"]) == (answer.headers["Location"], job["id"])


def test_a_finished_import_and_its_report(admin: httpx.Client, imported: dict[str, Any]) -> None:
    path = f"/api/v1/imports/{imported['id']}"
    status = admin.get(path).json()
    job = status["importJob"]
    assert (job["status"], job["processedRecords"], job["successCount"], job["errorCount"]) == ("partial", 3, 2, 1)
    assert status["errorReportUrl"] == f"{path}/errors/download"
    assert status["errorReportStatus"] == "ready"
    assert all(job[name].endswith("Z") and len(job[name]) == 24 for name in ("createdAt", "startedAt", "completedAt"))
    report = admin.get(status["errorReportUrl"])
    assert report.headers["Content-Type"] == "application/x-ndjson"
    errors = [json.loads(line) for line in report.text.splitlines()]
    assert {(error["errorCode"], error["field"]) for error in errors} == {(1005, "name"), (1001, "id")}
    assert all(list(error) == ERROR_FIELDS for error in errors)
    assert sum(job["errorSummary"].values()) == len(errors) == 2  # `lastError` is absent: nothing ended the job
    first = admin.get(f"{path}/errors", params={"limit": 1}).json()
    second = admin.get(f"{path}/errors", params={"limit": 1, "cursor": first["nextCursor"]}).json()
    assert [*first["errors"], *second["errors"]] == errors
    assert second["nextCursor"] is None
    problem_of(admin.delete(path), 409, "JOB_FINISHED")


def test_an_import_without_an_error_has_no_report(admin: httpx.Client) -> None:
    job = finished(admin, _form(admin, USERS.partition(b"\n")[0]).json()["importJob"]["id"])
    assert (job["status"], job["errorSummary"]) == ("succeeded", None)
    assert admin.get(f"/api/v1/imports/{job['id']}").json().keys() == {"importJob"}
    problem_of(admin.get(f"/api/v1/imports/{job['id']}/errors/download"), 404)
    assert admin.get(f"/api/v1/imports/{job['id']}/errors").json() == {"errors": [], "nextCursor": None}


@pytest.mark.parametrize("wrap", [lambda body: body, lambda body: {"import": body}])
def test_a_url_is_taken_bare_and_inside_import(
    admin: httpx.Client, wrap: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    url = "https://wherry.invalid/users.json"
    answer = _post(admin, json=wrap({"resource": "users", "url": url, "unknown": 1}))
    job = answer.json()["importJob"]
    assert (answer.status_code, job["sourceUrl"], job["format"], job["fileSize"]) == (202, url, "json", None)


def test_one_key_belongs_to_one_resource_and_one_request(admin: httpx.Client) -> None:
    first, other = (_form(admin, key="shared", resource=name) for name in ("users", "articles"))
    assert (first.status_code, other.status_code) == (202, 202)
    assert first.json()["importJob"]["id"] != other.json()["importJob"]["id"]
    for changed in (_form(admin, USERS * 2, key="shared"), _form(admin, key="shared", dryRun="true")):
        problem_of(changed, 422, "IDEMPOTENCY_KEY_REUSED", field="idempotencyKey")


@pytest.mark.parametrize("key", [None, b"", b'""', b"k" * 256])
def test_an_import_needs_a_key_of_1_to_255_characters(admin: httpx.Client, key: bytes | None) -> None:
    headers = {} if key is None else {b"Idempotency-Key": key}
    answer = admin.post("/api/v1/imports", headers=headers, files={"file": ("a.ndjson", USERS)})
    problem_of(answer, 422, field="idempotencyKey")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"resource": "boats"}, "resource"),
        ({"resource": None}, "resource"),
        ({"resource": {}}, "resource"),
        ({"resource": "users\0"}, "resource"),
        ({"format": "xml"}, "format"),
        ({"format": []}, "format"),
        ({"url": "https://wherry.invalid/a.ndjson.gz", "format": "json"}, "format"),
        ({"onConflict": {}}, "onConflict"),
        ({"dryRun": "perhaps"}, "dryRun"),
        ({"atomic": 7}, "atomic"),
        ({"url": None}, "source"),
        ({"url": ""}, "source"),
        ({"url": 5}, "url"),
        ({"url": "ftp://wherry.invalid/"}, "url"),
        ({"url": "http://u:p@wherry.invalid/"}, "url"),
        ({"url": "http://127.0.0.1/"}, "url"),
        ({"url": "http://[::ffff:10.0.0.1]/"}, "url"),
        ({"url": "http://[::1"}, "url"),
        ({"url": "http://wherry.invalid:99999/"}, "url"),
        ({"url": "http://wherry.invalid/\0.json"}, "url"),
    ],
)
def test_what_is_wrong_with_a_url_import_is_named(admin: httpx.Client, change: dict[str, Any], field: str) -> None:
    body = {"resource": "users", "url": "https://wherry.invalid/users", **change}
    for wrapped in (body, {"import": body}):
        problem_of(_post(admin, json=wrapped), 422, field=field)


@pytest.mark.parametrize(
    ("content", "status"), [(b"{", 400), (b"\xff", 400), (b"[" * 100_000, 400), (b"[]", 422), (b'"x"', 422)]
)
def test_a_malformed_json_body_is_a_400_and_another_type_a_422(
    admin: httpx.Client, content: bytes, status: int
) -> None:
    problem_of(_post(admin, content=content, headers={"Content-Type": "application/json"}), status)


def test_a_streamed_json_body_over_the_limit_is_refused(admin: httpx.Client) -> None:
    pieces = itertools.chain([b'{"url": "'], itertools.repeat(b"x" * 65536, 20))
    problem_of(_post(admin, content=pieces, headers={"Content-Type": "application/json"}), 413)


def _part(name: bytes, value: bytes, more: bytes = b"") -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="' + name + b'"' + more + b"\r\n\r\n" + value + b"\r\n"


@pytest.mark.parametrize(
    ("content", "status", "field"),
    [
        (b"", 400, None),
        (b"garbage", 400, None),
        (_part(b"resource", b"users"), 400, None),
        (_part(b"\xff", b"x") + b"--b--\r\n", 400, None),
        (b"--b--\r\n", 422, "source"),
        (_part(b"resource", b"users") + b"--b--\r\n", 422, "source"),
        (_part(b"resource", b"\xff") + b"--b--\r\n", 422, "resource"),
        (_part(b"file", b"{}", b'; filename="a\x00.ndjson"') + b"--b--\r\n", 422, "file"),
        (_part(b"file", b"{}", b'; filename="a.exe"') + b"--b--\r\n", 422, "file"),
        (_part(b"file", b"", b'; filename="a.ndjson"') + b"--b--\r\n", 422, "file"),
        (2 * _part(b"file", b"{}", b'; filename="a.ndjson"') + b"--b--\r\n", 422, "file"),
    ],
)
def test_a_form_that_is_broken_or_wrong(admin: httpx.Client, content: bytes, status: int, field: str | None) -> None:
    answer = _post(admin, content=content, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert "Error(" not in problem_of(answer, status, field=field)["detail"]


def test_a_file_name_that_cannot_be_stored_is_named(admin: httpx.Client) -> None:
    params = {"resource": "users", "fileName": "a\0.ndjson"}
    answer = _post(admin, params=params, content=USERS, headers={"Content-Type": "application/x-ndjson"})
    problem_of(answer, 422, field="fileName")


def test_a_page_of_records(admin: httpx.Client, imported: dict[str, Any]) -> None:
    query: dict[str, Any] = {"resource": "users", "limit": 2, "fields": ["name", "id"], "filters": '{"active": "true"}'}
    page = admin.get("/api/v1/exports", params=query)
    assert (page.headers["Content-Type"], page.headers["Cache-Control"]) == ("application/x-ndjson", "no-store")
    *records, last = map(json.loads, page.text.splitlines())
    assert [list(record) for record in records] == [["name", "id"]] * 2
    assert last == {"_type": "cursor", "nextCursor": records[-1]["id"]}
    assert page.headers["Link"].endswith('; rel="next"')
    following = admin.get(page.headers["Link"].partition(">")[0].removeprefix("<"))
    assert json.loads(following.text.splitlines()[0])["id"] > last["nextCursor"]
    whole = admin.get("/api/v1/exports", params={"resource": "users", "format": "json"})
    assert whole.headers["Content-Type"] == "application/json"
    assert (len(whole.json()["data"]), whole.json()["nextCursor"], whole.headers.get("Link")) == (3, None, None)


PAGE_FAULTS = [
    *(("limit", text) for text in ("0", "1001", "-1", "2abc", "1e3", "1.0", "+1", "\u0661", "\0", "9" * 5000)),
    *(("cursor", text) for text in ("-1", "abc", "2147483648", "9" * 5000, "\0")),
    *(("filters", text) for text in ("[]", "5", "{", '{"nope": 1}', '{"id": "1e3"}', '{"id": 1.5}', "[" * 20_000)),
    *(
        ("filters", text)
        for text in ('{"active": 1}', '{"role": ["admin"]}', '{"name": "\\u0000"}', '{"created_at": {}}')
    ),
    ("filters", '{"createdAt": "9999-12-31T23:59:59-14:00"}'),
    ("filters", '{"createdAt": {"gt": "2021-01-01", "lt": "2020-01-01"}}'),
    *(("fields", text) for text in ("[]", "[1]", "nope", "password_hash", "\0")),
    *(("format", text) for text in ("csv", "mv2", "xml")),
    *(("resource", text) for text in ("boats", "", "\0")),
]


@pytest.mark.parametrize(("name", "text"), PAGE_FAULTS)
def test_what_is_wrong_with_a_page_is_named(admin: httpx.Client, name: str, text: str) -> None:
    problem_of(admin.get("/api/v1/exports", params={"resource": "users", name: text}), 422, field=name)


def test_an_export_is_accepted_and_replayed(admin: httpx.Client) -> None:
    asked = {"resource": "users", "format": "json", "filters": {"createdAt": {"gte": "2020-01-01"}}, "unknown": 1}
    answers = [
        admin.post("/api/v1/exports", json=body, headers={"Idempotency-Key": "export-1"})
        for body in (asked, {"export": asked})
    ]
    assert [answer.status_code for answer in answers] == [202, 200]
    assert answers[1].headers["Idempotent-Replayed"] == "true"
    job = answers[0].json()["exportJob"]
    assert job.keys() >= EXPORT_FIELDS
    assert (job["status"], job["downloadUrl"], job["idempotencyKey"]) == ("queued", None, "export-1")
    assert {answer.headers["Location"] for answer in answers} == {f"/api/v1/exports/{job['id']}"}
    assert answers[0].headers["RateLimit-Policy"] == '"exports";q=1000;w=3600'
    other = admin.post("/api/v1/exports", json={"resource": "articles"}, headers={"Idempotency-Key": "export-2"})
    assert other.status_code == 202
    changed = admin.post("/api/v1/exports", json={"resource": "users"}, headers={"Idempotency-Key": "export-1"})
    problem_of(changed, 422, "IDEMPOTENCY_KEY_REUSED", field="idempotencyKey")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"resource": "boats"}, "resource"),
        ({"resource": []}, "resource"),
        ({"format": "xml"}, "format"),
        ({"format": {}}, "format"),
        ({"compression": "br"}, "compression"),
        ({"compression": []}, "compression"),
        ({"fields": []}, "fields"),
        ({"fields": {}}, "fields"),
        ({"fields": ["nope"]}, "fields"),
        ({"filters": []}, "filters"),
        ({"filters": {"author_id": 1}}, "filters"),
        ({"filters": {"id": 10**30}}, "filters"),
    ],
)
def test_what_is_wrong_with_an_export_is_named(admin: httpx.Client, change: dict[str, Any], field: str) -> None:
    body = {"resource": "users", **change}
    for wrapped in (body, {"export": body}):
        problem_of(admin.post("/api/v1/exports", json=wrapped), 422, field=field)


def test_a_download_and_its_headers(admin: httpx.Client, exported: dict[str, Any]) -> None:
    url = exported["downloadUrl"]
    assert url == f"/api/v1/exports/{exported['id']}/download"
    whole = admin.get(url)
    digest = hashlib.sha256(whole.content).digest()
    assert (exported["sha256"], exported["fileSize"]) == (digest.hex(), len(whole.content))
    expected = {
        "Content-Type": "application/x-ndjson",
        "Content-Disposition": f'attachment; filename="{exported["id"]}.ndjson"',
        "Content-Length": str(len(whole.content)),
        "ETag": f'"{digest.hex()}"',
        "Accept-Ranges": "bytes",
        "Repr-Digest": f"sha-256=:{base64.b64encode(digest).decode()}:",
    }
    assert expected.items() <= {name: whole.headers.get(name) for name in expected}.items()
    head = admin.head(url)
    assert (head.status_code, head.content, head.headers["ETag"]) == (200, b"", whole.headers["ETag"])
    part = admin.get(url, headers={"Range": "bytes=2-5", "If-Range": whole.headers["ETag"]})
    assert (part.status_code, part.content) == (206, whole.content[2:6])
    assert part.headers["Content-Range"] == f"bytes 2-5/{len(whole.content)}"
    assert admin.get(url, headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304
    problem_of(admin.get(url, headers={"Range": "bytes=999999999-"}), 416)
    for ignored in (b"bytes=\xff", b"lines=1-2", b"bytes=5-2"):
        assert admin.get(url, headers={b"Range": ignored}).content == whole.content


def test_a_deleted_artifact_is_gone_and_its_job_stays(admin: httpx.Client, imported: dict[str, Any]) -> None:
    job = admin.post("/api/v1/exports", json={"resource": "users"}).json()["exportJob"]
    done = finished(admin, job["id"])
    for _ in range(2):
        assert admin.delete(f"/api/v1/exports/{job['id']}").status_code == 200
    problem_of(admin.get(done["downloadUrl"]), 410, "DOWNLOAD_EXPIRED")
    assert admin.get(f"/api/v1/exports/{job['id']}").json()["exportJob"]["status"] == "succeeded"


def test_a_job_is_found_under_its_own_kind_only(
    admin: httpx.Client, imported: dict[str, Any], exported: dict[str, Any]
) -> None:
    problem = problem_of(admin.get(f"/api/v1/exports/{imported['id']}"), 404, "JOB_NOT_FOUND")
    assert problem["errors"] == {"job": ["export job not found"]}
    problem = problem_of(admin.get(f"/api/v1/imports/{exported['id']}"), 404, "JOB_NOT_FOUND")
    assert problem["errors"] == {"job": ["import job not found"]}
    problem_of(admin.delete(f"/api/v1/exports/{imported['id']}"), 404, "JOB_NOT_FOUND")
    for path in (f"/api/v1/jobs/{NEVER}/events", "/api/v1/jobs/x/events"):
        assert problem_of(admin.get(path), 404, "JOB_NOT_FOUND")["errors"] == {"job": ["job not found"]}


def test_the_jobs_are_listed_newest_first_page_by_page(
    admin: httpx.Client, imported: dict[str, Any], exported: dict[str, Any]
) -> None:
    everything = admin.get("/api/v1/jobs", params={"limit": 200}).json()
    ids = [job["id"] for job in everything["jobs"]]
    assert ids == sorted(ids, reverse=True)
    assert {imported["id"], exported["id"]} <= set(ids)
    first = admin.get("/api/v1/jobs", params={"limit": 2}).json()
    second = admin.get("/api/v1/jobs", params={"limit": 2, "cursor": first["nextCursor"]}).json()
    assert [job["id"] for job in [*first["jobs"], *second["jobs"]]] == ids[:4]
    some = admin.get("/api/v1/jobs", params={"kind": "import", "status": "partial"}).json()["jobs"]
    assert {(job["kind"], job["status"]) for job in some} == {("import", "partial")}
    assert {job["entityType"] for job in everything["jobs"]} > {"articles"}
    articles = admin.get("/api/v1/jobs", params={"resource": " Articles", "limit": 200}).json()["jobs"]
    assert articles == [job for job in everything["jobs"] if job["entityType"] == "articles"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("limit", text) for text in ("0", "201", "abc", "1e1", "1.0", "\0", "9" * 5000)),
        *(("cursor", text) for text in ("abc", "\0", "1")),
        ("kind", "boat"),
        ("status", "done"),
        ("resource", "\0"),
        *(("owner", text) for text in ("everybody", "-1", "1e1", "\0", "2147483648", "9" * 5000)),
    ],
)
def test_what_is_wrong_with_a_list_of_jobs_is_named(admin: httpx.Client, name: str, text: str) -> None:
    assert name in problem_of(admin.get("/api/v1/jobs", params={name: text}), 422, field=name)["detail"]


@pytest.mark.parametrize("text", ["0", "1001", "abc", "1e2", "1.0", "9" * 5000])
def test_a_page_of_errors_takes_whole_numbers_only(admin: httpx.Client, imported: dict[str, Any], text: str) -> None:
    path = f"/api/v1/imports/{imported['id']}/errors"
    problem_of(admin.get(path, params={"limit": text}), 422, field="limit")


@pytest.mark.parametrize("text", ["abc", "\0", "\u00ff", "MS4x4pGg"])
def test_a_page_of_errors_takes_its_own_cursors_only(admin: httpx.Client, imported: dict[str, Any], text: str) -> None:
    path = f"/api/v1/imports/{imported['id']}/errors"
    problem_of(admin.get(path, params={"cursor": text}), 422, field="cursor")


def test_the_events_of_a_job_end_with_finished_and_resume(admin: httpx.Client, exported: dict[str, Any]) -> None:
    path = f"/api/v1/jobs/{exported['id']}/events"
    answer = admin.get(path)
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.text.endswith("\n\n")
    assert "\r" not in answer.text, "clients of every kind split on line feeds"
    fields = dict(line.split(": ", 1) for line in answer.text.splitlines() if line)
    assert (fields["event"], json.loads(fields["data"])["id"]) == ("finished", exported["id"])
    assert admin.get(path, headers={"Last-Event-ID": fields["id"]}).status_code == 204
    for junk in ("abc", "-1", "1e3", "9" * 5000):
        problem_of(admin.get(path, headers={"Last-Event-ID": junk}), 422)


def test_no_response_was_a_server_error(running: Service) -> None:
    """Runs last: what the tests before it sent is in the log."""
    entries = [json.loads(line) for line in running.log.read_text().splitlines() if line.startswith("{")]
    assert entries
    assert [entry for entry in entries if entry.get("event") == "request failed"] == []
