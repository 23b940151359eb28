"""A service that is up, for a whole module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import TestServer
from tests.processes import Service, service


@pytest.fixture(scope="module")
def running(postgres_server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """An API and a worker on an empty database."""
    url = postgres_server.create()
    folder: Path = tmp_path_factory.mktemp("service")
    with service(url, folder) as up:
        yield up
    postgres_server.drop(url)
