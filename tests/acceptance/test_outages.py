"""A PostgreSQL that is stopped, or hangs: every request is answered soon, and served again soon after it is back."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.outages import frozen, shut_down
from tests.processes import PASSWORD, forked_service
from wherry.database.migrations import migrate
from wherry.local.embedded import EmbeddedPostgres

LIMIT_SECONDS = 5
Outage = Callable[[EmbeddedPostgres], AbstractContextManager[None]]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds and watches the server's processes in /proc")


async def _timed(client: httpx.AsyncClient, method: str, path: str, **more: object) -> tuple[httpx.Response, float]:
    started = time.monotonic()
    response = await client.request(method, path, **more)  # type: ignore[arg-type]
    return response, time.monotonic() - started


@pytest.mark.parametrize("outage", [shut_down, frozen])
async def test_a_database_outage_is_reported_in_time_and_service_resumes_after_it(
    own_postgres: EmbeddedPostgres, tmp_path: Path, outage: Outage
) -> None:
    await migrate(own_postgres.url)
    with (
        forked_service(own_postgres.url, tmp_path, workers=0) as up,
        up.admin() as admin,
        up.capsule_client() as capsules,
    ):
        options = {"base_url": up.url, "timeout": 60, "trust_env": False}
        async with (
            httpx.AsyncClient(headers=admin.headers, **options) as user,  # type: ignore[arg-type]
            httpx.AsyncClient(headers=capsules.headers, **options) as gitnexus,  # type: ignore[arg-type]
        ):
            assert (await user.get("/api/user")).status_code == 200
            login = {"user": {"email": "captain@example.com", "password": PASSWORD}}
            with outage(own_postgres):
                asked = [
                    *(_timed(user, "GET", "/api/user") for _ in range(12)),  # more than there are connections
                    _timed(user, "GET", "/api/v1/exports", params={"resource": "users"}),
                    _timed(user, "POST", "/api/v1/exports", json={"resource": "users"}),
                    _timed(user, "POST", "/api/users/login", json=login),
                    _timed(gitnexus, "GET", f"/v1/exports/{uuid4()}"),
                    _timed(user, "GET", "/readyz"),
                ]
                alive, took = await _timed(user, "GET", "/healthz")
                assert (alive.status_code, took < 1) == (200, True)
                for response, seconds in await asyncio.gather(*asked):
                    assert response.status_code == 503
                    assert seconds < LIMIT_SECONDS, response.url
                    problem = response.json()
                    assert problem["code"] == "DATABASE_ERROR"
                    assert "database does not answer" in problem["detail"]
                    assert int(response.headers["Retry-After"]) > 0
            back = time.monotonic()
            while (await user.get("/api/user")).status_code != 200:
                assert time.monotonic() - back < 10
                await asyncio.sleep(0.1)
            assert (await user.get("/readyz")).status_code == 200


async def test_the_openapi_document_is_served_without_a_database(
    own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    await migrate(own_postgres.url)
    with forked_service(own_postgres.url, tmp_path, workers=0) as up, up.client() as anybody:
        with shut_down(own_postgres):
            without = anybody.get("/openapi.json").raise_for_status().json()
        back = time.monotonic()
        while anybody.get("/readyz").status_code != 200:
            assert time.monotonic() - back < 10
            await asyncio.sleep(0.1)
        document = anybody.get("/openapi.json").raise_for_status().json()
    schemas, others = document["components"].pop("schemas"), without["components"].pop("schemas")
    assert without == document
    assert others.items() <= schemas.items()
    assert schemas.keys() - others.keys() >= {"UsersImport", "CommentsExport"}
