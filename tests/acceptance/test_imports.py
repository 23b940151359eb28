"""Imports, as a client sees them."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest
import zstandard

from tests.processes import Service, finished, import_file

USERS = b"".join(
    json.dumps({"email": f"user{number}@example.com", "name": f"User {number}"}).encode() + b"\n"
    for number in range(50)
)


KEYS = map("import {}".format, itertools.count())


def as_array(lines: bytes) -> bytes:
    return b"[" + b",".join(lines.splitlines()) + b"]"


def test_two_hundred_concurrent_requests_with_one_key_create_one_job(running: Service) -> None:
    with running.admin(limits=httpx.Limits(max_connections=40)) as client:

        def ask(_: int) -> tuple[int, str, str | None]:
            answer = client.post(
                "/api/v1/imports",
                headers={"Idempotency-Key": "race"},
                files={"file": ("users.ndjson", USERS)},
                data={"resource": "users"},
            )
            job = answer.raise_for_status().json()["importJob"]
            return answer.status_code, job["id"], answer.headers.get("Idempotent-Replayed")

        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(ask, range(200)))
        assert len({job_id for _, job_id, _ in answers}) == 1
        assert sorted(answers)[-1][0] == 202
        assert [(status, replayed) for status, _, replayed in answers].count((202, None)) == 1
        assert [(status, replayed) for status, _, replayed in answers].count((200, "true")) == 199
        job = finished(client, answers[0][1])
        assert (job["status"], job["successCount"]) == ("succeeded", 50)
    stored = [path for path in (running.data_dir / "imports").rglob("*") if path.is_file()]
    assert len(stored) == 1, "a replay must leave no file behind"


def test_a_key_that_was_used_for_another_file_is_refused(running: Service) -> None:
    with running.admin() as client:
        import_file(client, "users", b'{"email": "a@example.com", "name": "A"}\n', key="reused")
        with pytest.raises(httpx.HTTPStatusError) as refused:
            import_file(client, "users", b'{"email": "b@example.com", "name": "B"}\n', key="reused")
    assert refused.value.response.status_code == 422
    assert refused.value.response.json()["code"] == "IDEMPOTENCY_KEY_REUSED"


@pytest.mark.parametrize(
    ("content_type", "named", "encode"),
    [
        ("application/x-ndjson", {}, bytes),
        ("application/x-ndjson", {"fileName": "u.ndjson.gz"}, gzip.compress),
        ("application/x-ndjson", {"fileName": "u.ndjson.zst"}, zstandard.compress),
        ("application/json", {}, bytes),
        ("application/json", {}, as_array),
        ("application/json", {"fileName": "u.json.gz"}, lambda lines: gzip.compress(as_array(lines))),
        ("application/json", {"format": "json"}, as_array),
        ("application/json", {"fileName": "u.json"}, as_array),
    ],
)
def test_a_file_may_be_the_request_body(
    running: Service, content_type: str, named: dict[str, str], encode: Callable[[bytes], bytes]
) -> None:
    lines = b'{"email": "raw@example.com", "name": "Raw"}\n{"email": "raw", "name": 1}\n'
    with running.admin() as client:
        answer = client.post(
            "/api/v1/imports",
            params={"resource": "users", "onConflict": "update", **named},
            headers={"Idempotency-Key": f"raw {content_type} {next(KEYS)}", "Content-Type": content_type},
            content=encode(lines),
        )
        assert answer.status_code == 202, answer.text
        job = finished(client, answer.json()["importJob"]["id"])
    assert (job["successCount"], job["errorCount"], job["status"]) == (1, 1, "partial")


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"headers": {}}, 422, "idempotencyKey"),
        ({"headers": {"Idempotency-Key": "k" * 256}}, 422, "idempotencyKey"),
        ({"data": {"resource": "boats"}}, 422, "resource"),
        ({"data": {"resource": "users", "format": "xml"}}, 422, "format"),
        ({"data": {"resource": "users", "format": "json"}}, 422, "format"),
        ({"data": {"resource": "users", "dryRun": "perhaps"}}, 422, "dryRun"),
        ({"files": {"file": ("users.ndjson", b"")}}, 422, "file"),
        ({"files": {"file": ("users.exe", b"x", "application/octet-stream")}}, 422, "file"),
        ({"files": {"resource": (None, "users")}, "data": {}}, 422, "source"),
    ],
)
def test_the_error_names_what_is_wrong_with_the_request(
    running: Service, change: dict[str, object], status: int, field: str
) -> None:
    request: dict[str, object] = {
        "headers": {"Idempotency-Key": "refused"},
        "files": {"file": ("users.ndjson", USERS)},
        "data": {"resource": "users"},
        **change,
    }
    with running.admin() as client:
        answer = client.post("/api/v1/imports", **request)  # type: ignore[arg-type]
    assert answer.status_code == status, answer.text
    assert field in answer.json()["errors"]
    assert answer.headers["Content-Type"].startswith("application/problem+json")


def test_an_import_without_a_body_is_an_error_on_source(running: Service) -> None:
    with running.admin() as client:
        answer = client.post("/api/v1/imports", headers={"Idempotency-Key": "nothing"})
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["source"])


def test_nobody_sees_anybody_elses_job(running: Service) -> None:
    with running.admin() as alice, running.client() as client:
        job = import_file(alice, "users", b'{"email": "mine@example.com", "name": "Mine"}\n', key="mine")
        user = {"username": "stranger", "email": "stranger@example.com", "password": "another salty password"}
        token = client.post("/api/users", json={"user": user}).json()["user"]["token"]
        stranger = client.get(f"/api/v1/imports/{job['id']}", headers={"Authorization": f"Bearer {token}"})
        assert stranger.status_code == 403
        with psycopg.connect(running.environment["DATABASE_URL"]) as connection:
            connection.execute("update wherry.users set role = 'admin' where email = 'stranger@example.com'")
        stranger = client.get(f"/api/v1/imports/{job['id']}", headers={"Authorization": f"Bearer {token}"})
        never = client.get(
            "/api/v1/imports/00000000-0000-7000-8000-000000000000", headers={"Authorization": f"Token {token}"}
        )
    assert stranger.status_code == never.status_code == 404
    assert stranger.json() == never.json()


CSV = """name;Mail;shoe size
"Ada; Countess";ada@example.com;38
;bob@example.com;44
Cleo;cleo-at-example.com;40
"""


def test_a_csv_file_is_imported_its_rejects_corrected_and_imported(running: Service) -> None:
    columns = json.dumps({"Mail": "email"})
    with running.admin() as client:

        def send(content: bytes, **data: str) -> httpx.Response:
            files = {"file": ("people.csv", content, "application/octet-stream")}
            headers = {"Idempotency-Key": next(KEYS)}
            return client.post(
                "/api/v1/imports", headers=headers, files=files, data={"resource": "users", "columns": columns, **data}
            )

        answer = send(CSV.encode(), unknownFields="warn", maxErrors="10")
        assert answer.status_code == 202, answer.text
        job = answer.json()["importJob"]
        assert (job["format"], job["maxErrors"], job["unknownFields"], job["warnings"]) == ("csv", 10, "warn", [])
        assert job["columns"] == {"Mail": "email"}
        job = finished(client, job["id"])
        assert (job["status"], job["successCount"], job["errorCount"]) == ("partial", 1, 2)
        assert [(each["code"], each["field"], each["count"]) for each in job["warnings"]] == [
            ("UNKNOWN_FIELD", "shoe size", 3)
        ]
        rejects = client.get(f"/api/v1/imports/{job['id']}/rejects/download")
        assert rejects.headers["Content-Type"].startswith("text/csv")
        assert rejects.headers["Content-Disposition"] == f'attachment; filename="{job["id"]}-rejects.csv"'
        assert rejects.text == "".join(line for line in CSV.splitlines(keepends=True) if "Ada" not in line)
        corrected = rejects.text.replace(";bob", "Bob;bob").replace("-at-", "@")
        job = finished(client, send(corrected.encode()).json()["importJob"]["id"])
        assert (job["status"], job["successCount"], job["errorCount"]) == ("succeeded", 2, 0)
        answer = client.get(f"/api/v1/imports/{job['id']}/rejects/download")
        assert (answer.status_code, answer.json()["code"]) == (404, "NO_ERRORS")


def test_rejects_are_gone_with_the_file(running: Service) -> None:
    with running.admin() as client:
        job = import_file(client, "users", b'{"email": "nobody"}\n', key=next(KEYS))
        job = finished(client, job["id"])
        assert job["errorCount"] == 1
        (running.data_dir / "imports" / job["id"] / "source").unlink()
        answer = client.get(f"/api/v1/imports/{job['id']}/rejects/download")
    assert (answer.status_code, answer.json()["code"]) == (410, "DOWNLOAD_EXPIRED")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"maxErrors": "-1"}, "maxErrors"),
        ({"maxErrors": "many"}, "maxErrors"),
        ({"unknownFields": "drop"}, "unknownFields"),
        ({"columns": "{}"}, "columns"),
        ({"columns": "[1]", "format": "csv"}, "columns"),
        ({"columns": '{"a": "emial"}', "format": "csv"}, "columns"),
        ({"recordsAt": "data", "format": "csv"}, "recordsAt"),
        ({"recordsAt": "a..b"}, "recordsAt"),
        ({"format": "xml"}, "format"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(running: Service, options: dict[str, str], field: str) -> None:
    with running.admin() as client:
        answer = client.post(
            "/api/v1/imports",
            headers={"Idempotency-Key": next(KEYS)},
            files={"file": ("people", b"a,b\n", "text/plain")},
            data={"resource": "users", **options},
        )
    assert (answer.status_code, list(answer.json()["errors"])) == (422, [field]), answer.text


def test_an_unknown_charset_is_refused_before_the_file_is_read(running: Service) -> None:
    with running.admin() as client:
        answer = client.post(
            "/api/v1/imports?resource=users",
            headers={"Idempotency-Key": next(KEYS), "Content-Type": "text/csv; charset=klingon"},
            content=b"name,email\n",
        )
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["file"])
