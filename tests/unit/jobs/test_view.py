from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.builtin_tables import TABLES
from wherry.exports.requests import parse_export
from wherry.exports.view import export_job
from wherry.http.jobs import listed
from wherry.imports.view import import_job
from wherry.jobs.models import Job, new_job_id
from wherry.jobs.states import Kind, Status
from wherry.settings import Settings
from wherry.times import now

ERROR = {"code": "PARSE_ERROR", "number": 3001, "message": "broken", "detail": {"line": 7}}


def job(kind: Kind, **changes: Any) -> Job:
    values: dict[str, Any] = {
        **dict.fromkeys(Job.__annotations__),
        **{"id": new_job_id(), "kind": kind, "status": Status.RUNNING, "resource": "users", "format": "ndjson"},
        **{"options": {} if kind is Kind.IMPORT else parse_export({"resource": "users"}, TABLES).options()},
        **{"created_at": now(), "processed_records": 2, "success_count": 1, "error_count": 1},
        **{"error_summary": {}, "progress": 66.666},
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
