"""Each application's schema, made by its own migrations and filled once per process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import psycopg
import pytest

from tests.postgres import TestServer
from tests.schemas.applications import APPLICATIONS, Application
from tests.schemas.catalog import read_catalog
from tests.schemas.filler import Filler


@dataclass(frozen=True)
class Filled:
    """A database with an application's schema.

    Attributes:
        application: whose schema it is.
        url: of the database, which tests copy and leave as it is.
        rows: how many rows were added to each table.
    """

    application: Application
    url: str
    rows: dict[str, int]


@pytest.fixture(scope="session")
def filled(postgres_server: TestServer) -> Iterator[Callable[[str], Filled]]:
    """Makes and fills the schema of an application, when it is first asked for."""
    made: list[str] = []

    @cache
    def fill(name: str) -> Filled:
        made.append(postgres_server.create_empty())
        application = APPLICATIONS[name]
        application.make(made[-1])
        with psycopg.connect(made[-1]) as connection:
            rows = Filler(connection, read_catalog(connection, application.schema), name).fill()
        return Filled(application, made[-1], rows)

    yield fill
    for url in made:
        postgres_server.drop(url)
