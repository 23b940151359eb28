"""How many round trips to PostgreSQL a run of a tiny import makes, which limits how many such jobs a worker can do."""

from __future__ import annotations

from dataclasses import dataclass

from tests.integration.imports.harness import Bench, lines, user
from tests.integration.imports.test_interruptions import claimed
from tests.round_trips import counting
from wherry.database.pools import make_pool
from wherry.jobs.states import Status
from wherry.tables.registry import Tables

SEVERAL = 7
"""psycopg prepares a statement, which takes a round trip, when a connection has executed it five times."""

MOST = 9
"""One for the owner's role, one for the sequence; then BEGIN, the role again, two keys, COPY, the job, and COMMIT."""


@dataclass
class _Process(Bench):
    """What one process knows of the tables."""

    def __post_init__(self) -> None:
        self._tables = Tables(self.pool, self.declarations)

    @property
    def tables(self) -> Tables:
        """The tables, from the cache."""
        return self._tables


async def test_a_tiny_import_takes_few_round_trips(authored: Bench, database_url: str) -> None:
    await authored.do("update wherry.users set role = 'admin' where id = 1")
    with counting(database_url) as proxy:
        async with make_pool(proxy.url, name="tiny", max_size=1) as pool:
            process = _Process(pool, authored.store, authored.settings)
            runner = process.runner()
            for number in range(SEVERAL):
                job = await process.submit("users", lines([user(100 + number)]), owner_id=1, role="admin")
                run = await claimed(process, job)
                before = proxy.counts["tiny"]
                outcome = await runner.run(run)
                taken = proxy.counts["tiny"] - before
                assert outcome.status is Status.SUCCEEDED, outcome.error
    assert taken <= MOST
