"""A Python client generated from `/openapi.json` moves records in and out.

The generated package exists only while these tests run, so each of them imports what it needs itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.processes import PASSWORD, Service

PACKAGE = "wherry_client"
POLL_SECONDS = 60
KNOWN_BODIES = {"multipart/form-data", "application/json"}
"""The generator supports these; every other type of a body must be declared as bytes in its configuration."""

ROWS = b'{"email":"ada@example.com","name":"Ada"}\n{"email":"grace@example.com","name":"Grace"}\n'
FAULTY = b'{"email":"alan@example.com","name":"Alan"}\n{"email":"alan","name":""}\n'

Json = dict[str, Any]


@pytest.fixture(scope="module")
def document(running: Service) -> Json:
    with running.client() as client:
        return dict(client.get("/openapi.json").raise_for_status().json())


def operations(document: Json) -> list[Json]:
    return [operation for path in document["paths"].values() for operation in path.values()]


@pytest.fixture(scope="module")
def package(document: Json, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The generated package, ready to be imported. A warning of the generator is an error."""
    folder = tmp_path_factory.mktemp("generated")
    bodies = {name for each in operations(document) for name in each.get("requestBody", {}).get("content", ())}
    overrides = dict.fromkeys(bodies - KNOWN_BODIES, "application/octet-stream")
    (folder / "config.json").write_text(json.dumps({"content_type_overrides": overrides, "post_hooks": []}))
    (folder / "openapi.json").write_text(json.dumps(document))
    options = ["--path", "openapi.json", "--config", "config.json", "--output-path", PACKAGE, "--meta", "none"]
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning", *options]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder / PACKAGE


@pytest.fixture(scope="module")
def client(running: Service, package: Path) -> Iterator[Any]:
    """The generated client, logged in as the administrator, who registered with it."""
    from wherry_client import AuthenticatedClient, Client
    from wherry_client.api.accounts import log_in, register
    from wherry_client.models import LoginBody, RegistrationBody

    options: Json = {"raise_on_unexpected_status": True, "httpx_args": {"trust_env": False}}
    login = {"email": "captain@example.com", "password": PASSWORD}
    registration = RegistrationBody.from_dict({"user": {"username": "captain", **login}})
    with Client(running.url, **options) as anyone:
        register.sync(client=anyone, body=registration)
        account = log_in.sync(client=anyone, body=LoginBody.from_dict({"user": login})).user
    with AuthenticatedClient(running.url, account.token, **options) as captain:
        yield captain


def polled(get_job: Callable[[], Any]) -> Any:
    """Requests a job until it has ended; returns it."""
    deadline = time.monotonic() + POLL_SECONDS
    while (job := get_job()).status in ("queued", "running"):
        assert time.monotonic() < deadline, job
    return job


def imported(client: Any, content: bytes, key: str, **options: Any) -> Any:
    """Uploads a file of users and polls the import; returns the finished job."""
    from wherry_client.api.imports import get_import, import_records
    from wherry_client.models import ImportForm, ResourceName
    from wherry_client.types import File

    form = ImportForm(File(BytesIO(content), "people.ndjson"), ResourceName.USERS, **options)
    job = import_records.sync(client=client, body=form, idempotency_key=key).import_job
    return polled(lambda: get_import.sync(str(job.id), client=client).import_job)


def test_no_operation_is_left_out(document: Json, package: Path) -> None:
    generated = [path for path in (package / "api").glob("*/*.py") if path.name != "__init__.py"]
    assert len(generated) == len(operations(document)) > 0


def test_an_imported_file_is_exported_and_downloaded_unchanged(client: Any) -> None:
    from wherry_client.api.exports import create_export, download_export, get_export
    from wherry_client.models import NewExport

    job = imported(client, ROWS, "round trip")
    assert (job.status, job.success_count, job.error_count) == ("succeeded", 2, 0)

    wanted = NewExport.from_dict({"resource": "users", "fields": ["email", "name"], "filters": {"role": "user"}})
    created = create_export.sync(client=client, body=wanted).export_job
    job = polled(lambda: get_export.sync(str(created.id), client=client).export_job)
    assert (job.status, job.processed_records) == ("succeeded", 2)
    assert download_export.sync(str(job.id), client=client).payload.read() == ROWS


def test_the_errors_of_an_import_are_listed_and_downloaded(client: Any) -> None:
    from wherry_client.api.imports import download_import_errors, list_import_errors
    from wherry_client.models import ReportedError

    job = imported(client, FAULTY, "errors", dry_run=True)
    assert (job.status, job.success_count, job.error_count) == ("partial", 1, 1)

    listed = list_import_errors.sync(str(job.id), client=client).errors
    assert [(each.record_index, each.field, each.error_code) for each in listed] == [
        (1, "email", 1003),
        (1, "name", 1005),
    ]
    report = download_import_errors.sync(str(job.id), client=client).payload.read()
    assert [ReportedError.from_dict(json.loads(line)) for line in report.splitlines()] == listed


def test_values_have_the_types_that_the_document_declares(client: Any) -> None:
    from wherry_client.models import ImportFormat, OnConflict, Status

    job = imported(client, ROWS, "types", dry_run=True, on_conflict=OnConflict.SKIP)
    assert (type(job.id), type(job.created_at), type(job.progress)) == (UUID, datetime, float)
    assert (job.status, job.format_, job.on_conflict) == (Status.SUCCEEDED, ImportFormat.NDJSON, OnConflict.SKIP)
    assert (job.dry_run, job.source_url, job.error) == (True, None, None)


def test_the_list_of_jobs_tells_imports_from_exports(client: Any) -> None:
    from wherry_client.api.exports import create_export
    from wherry_client.api.jobs import list_jobs
    from wherry_client.models import ListedExport, ListedImport, NewExport

    imported(client, ROWS, "listed", dry_run=True)
    create_export.sync(client=client, body=NewExport.from_dict({"resource": "users"}))
    newest = list_jobs.sync(client=client, limit=2).jobs
    assert [type(job) for job in newest] == [ListedExport, ListedImport]
