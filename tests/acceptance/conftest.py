"""A service that is up, for a whole module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.postgres import TestServer
from tests.processes import Service, forked_service


@pytest.fixture(scope="module")
def running(postgres_server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """An API and a worker on an empty database."""
    url = postgres_server.create()
    folder: Path = tmp_path_factory.mktemp("service")
    with forked_service(url, folder) as up:
        yield up
    postgres_server.drop(url)


@pytest.fixture(scope="module")
def admin(running: Service) -> Iterator[httpx.Client]:
    """The administrator of the module's service, logged in once."""
    with running.admin() as client:
        yield client


@pytest.fixture(scope="module")
def capsules(running: Service) -> Iterator[httpx.Client]:
    """A capsule client of the module's service."""
    with running.capsule_client() as client:
        yield client
