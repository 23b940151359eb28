from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.builtin_tables import TABLES
from wherry.exports.requests import parse_export
from wherry.exports.view import export_job
from wherry.http.job_list import listed
from wherry.imports.view import import_job
from wherry.jobs.models import Job, new_job_id
from wherry.jobs.states import Kind, Status
from wherry.jobs.view import any_job, for_operator
from wherry.settings import Settings
from wherry.times import now

ERROR = {"code": "PARSE_ERROR", "number": 3001, "message": "broken", "detail": {"line": 7}}


def job(kind: Kind, **changes: Any) -> Job:
    values: dict[str, Any] = {
        **dict.fromkeys(Job.__annotations__),
        **{"id": new_job_id(), "kind": kind, "status": Status.RUNNING, "resource": "users", "format": "ndjson"},
        **{"options": {} if kind is Kind.IMPORT else parse_export({"resource": "users"}, TABLES).options()},
        **{"created_at": now(), "processed_records": 2, "success_count": 1, "error_count": 1},
        **{"error_summary": {}, "progress": 66.666, "stage": "running", "round": 1, "epoch": 1},
    }
    return Job(**{**values, **changes})


@pytest.fixture
def settings() -> Settings:
    return Settings(_env_file=None)


def test_progress_has_one_decimal_whatever_the_kind(settings: Settings) -> None:
    assert import_job(job(Kind.IMPORT)).progress == 66.7
    assert export_job(job(Kind.EXPORT), settings).progress == 66.7


@pytest.mark.parametrize("error", [ERROR, {"code": "INTERNAL_ERROR", "message": "broken"}], ids=["whole", "short"])
def test_the_error_of_a_job_is_shown_as_it_was_recorded(settings: Settings, error: dict[str, Any]) -> None:
    failed = {"status": Status.FAILED, "error": error}
    assert msgspec.to_builtins(import_job(job(Kind.IMPORT, **failed)).error) == error
    assert msgspec.to_builtins(export_job(job(Kind.EXPORT, **failed), settings).error) == error


@pytest.mark.parametrize("kind", [Kind.IMPORT, Kind.EXPORT])
def test_a_list_of_jobs_shows_each_as_its_own_route_does(settings: Settings, kind: Kind) -> None:
    made = job(kind)
    own = import_job(made) if kind is Kind.IMPORT else export_job(made, settings)
    assert msgspec.to_builtins(listed(made, settings)) == {"kind": kind.value, **msgspec.to_builtins(own)}


@pytest.mark.parametrize("kind", Kind)
def test_a_job_of_any_kind_has_the_same_members(kind: Kind) -> None:
    shown = msgspec.to_builtins(any_job(job(kind, artifact={"fileName": "a.mv2", "size": 3})))
    assert shown.keys() == msgspec.to_builtins(any_job(job(Kind.IMPORT))).keys()
    assert (shown["kind"], shown["entityType"], shown["progress"]) == (kind.value, "users", 66.7)


def test_a_job_shows_the_file_that_it_reads_or_writes() -> None:
    source, artifact = {"fileName": "sent.csv", "fileSize": 7}, {"fileName": "made.csv", "size": 9}
    shown = any_job(job(Kind.IMPORT, source=source, artifact=None))
    assert (shown.file_name, shown.file_size) == ("sent.csv", 7)
    shown = any_job(job(Kind.EXPORT, artifact=artifact))
    assert (shown.file_name, shown.file_size) == ("made.csv", 9)


def test_an_operator_sees_neither_names_nor_urls_nor_values(settings: Settings) -> None:
    secret = "s3cret"
    private: dict[str, Any] = {
        "idempotency_key": secret,
        "error": {**ERROR, "detail": {"x": secret}},
    }
    source = {"fileName": secret, "url": f"https://{secret}"}
    mapped = {"webhookUrl": secret, "columns": {secret: "name"}, "recordsAt": secret}
    done = {"status": Status.SUCCEEDED, "artifact": {"fileName": secret, "key": secret}}
    filtered = parse_export({"resource": "users", "filters": {"email": f"{secret}@example.com"}}, TABLES).options()
    options = {**filtered, "webhookUrl": secret}
    for shown in (
        for_operator(any_job(job(Kind.IMPORT, source=source, options=mapped, **private))),
        for_operator(any_job(job(Kind.EXPORT, options=options, **done, **private))),
        for_operator(import_job(job(Kind.IMPORT, source=source, options=mapped, **private))),
        for_operator(export_job(job(Kind.EXPORT, options=options, **done, **private), settings)),
    ):
        assert secret not in msgspec.json.encode(shown).decode()
        assert shown.error is not None
        assert shown.error.code == ERROR["code"]
