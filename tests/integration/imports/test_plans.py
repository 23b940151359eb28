"""How PostgreSQL plans the statements of a batch."""

from __future__ import annotations

from tests.builtin_tables import ARTICLES
from tests.integration.imports.harness import Bench, article, lines
from wherry.accounts.authority import Authority
from wherry.imports.decode import Decoder
from wherry.imports.merge import Merger
from wherry.imports.models import OnConflict, Place
from wherry.imports.plan import Rules
from wherry.imports.readers.ndjson import LineSplitter
from wherry.imports.readers.records import JsonParser

PREPARED_AFTER = 5  # executions, by psycopg
GENERIC_AFTER = 5  # executions of the prepared statement, by PostgreSQL


async def test_lookups_are_planned_for_the_current_size_of_the_table(authored: Bench) -> None:
    """A generic plan that was made while the table was small would scan all of it for every batch once it is large."""
    records = [article(n) for n in range(1, 11)]
    job = await authored.submit("articles", lines(records))
    decoder = Decoder(ARTICLES, JsonParser(), caller_role="admin", max_bytes=1000)
    batch = [decoder.decode(raw) for raw in LineSplitter(Place(), 1000).feed(lines(records))]
    async with authored.pool.connection() as connection:
        for _ in range(PREPARED_AFTER + GENERIC_AFTER + 5):
            async with connection.transaction():
                merger = Merger(ARTICLES, job.id, Rules(OnConflict.UPDATE, Authority(None, "admin", ())))
                await merger.write(connection, batch, merger.care)
        cursor = await connection.execute("select statement from pg_prepared_statements where generic_plans > 0")
        statements = [statement for (statement,) in await cursor.fetchall()]
    assert [statement for statement in statements if "json_to_recordset" in statement] == []
