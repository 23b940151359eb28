"""What every test can ask for: a PostgreSQL, a database of its own, the sample data."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.object_store import ObjectStore, object_store
from tests.postgres import CHOICES, Plan, TestServer, plan, quick_folder
from wherry.local.binaries import Binaries, find_binaries
from wherry.local.embedded import EmbeddedPostgres

REPOSITORY = Path(__file__).resolve().parents[1]


class Postgres:
    """Starts the run's server when it is first needed, in the process that pytest was called in.

    Worker processes of xdist get its address from there.
    """

    def __init__(self, chosen: Plan) -> None:
        self.chosen = chosen
        self.used: TestServer | None = None
        self._held = ExitStack()

    def server(self) -> TestServer:
        if self.used is None:
            self.used = self._held.enter_context(self.chosen.open())
        return self.used

    def pytest_report_header(self) -> str:
        return f"postgresql: {self.chosen.name} ({self.chosen.reason})"

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        used = self.used.description if self.used else "not needed"
        terminalreporter.write_line(f"postgresql: {used}")  # -q hides the header, but not this

    def pytest_unconfigure(self) -> None:
        self._held.close()


class HandOver:
    """Gives each xdist worker the address of the one server; registered only where xdist is."""

    def __init__(self, postgres: Postgres) -> None:
        self.postgres = postgres

    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["postgres"] = asdict(self.postgres.server())


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pg", choices=CHOICES, default="auto", help="the PostgreSQL to test with: %(choices)s (default: %(default)s)"
    )


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    postgres = Postgres(plan(config.getoption("--pg")))
    config.pluginmanager.register(postgres, "wherry-postgres")
    if config.pluginmanager.has_plugin("xdist"):
        config.pluginmanager.register(HandOver(postgres), "wherry-postgres-handover")


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> TestServer:
    """The run's PostgreSQL: `create()`, `create_empty()` and `drop(url)` make and remove databases on it."""
    handed_over = getattr(pytestconfig, "workerinput", None)
    if handed_over is not None:
        return TestServer(**handed_over["postgres"])
    postgres: Postgres = pytestconfig.pluginmanager.get_plugin("wherry-postgres")
    return postgres.server()


@pytest.fixture
def database_url(postgres_server: TestServer) -> Iterator[str]:
    """The URL of a migrated, empty database for this test alone."""
    url = postgres_server.create()
    yield url
    postgres_server.drop(url)


@pytest.fixture
def empty_database_url(postgres_server: TestServer) -> Iterator[str]:
    """The URL of a database for this test alone that no migration has touched."""
    url = postgres_server.create_empty()
    yield url
    postgres_server.drop(url)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A temporary folder that other accounts may walk through: pytest's own `tmp_path` shuts them out."""
    with quick_folder("wherry-test-") as folder:
        yield folder


@pytest.fixture(scope="session")
def binaries() -> Binaries:
    """The server programs that tests of the embedded server run."""
    return find_binaries(os.environ.get("PG_BINDIR"))


@pytest.fixture(scope="session")
def cluster(binaries: Binaries) -> Iterator[Path]:
    """A data directory as it is after the first start and a clean stop. Copy it, do not use it."""
    with quick_folder("wherry-cluster-") as folder:
        with EmbeddedPostgres(folder / "pg", binaries=binaries, options={"fsync": "off"}):
            pass
        yield folder / "pg"


@pytest.fixture
def data_dir(open_folder: Path, cluster: Path) -> Path:
    """A data directory for this test alone: a copy, which takes a tenth of the time that `initdb` does."""
    subprocess.run(["cp", "-a", str(cluster), str(open_folder / "pg")], check=True)
    return open_folder / "pg"


@pytest.fixture
def own_postgres(data_dir: Path, binaries: Binaries) -> Iterator[EmbeddedPostgres]:
    """A server for this test alone, to stop, kill and restart as it likes."""
    with EmbeddedPostgres(data_dir, binaries=binaries, options={"fsync": "off"}) as server:
        yield server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """An S3-compatible server."""
    with object_store(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of sample code graphs; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("WHERRY_SHARED_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no sample data: set WHERRY_SHARED_DATA")
    return folder
