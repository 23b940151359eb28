"""Only the ledger writes the table of jobs."""

from __future__ import annotations

import re
from pathlib import Path

import wherry
from wherry.database.queries import sql_root

WRITES = re.compile(r"\b(?:update|insert\s+into|delete\s+from)\s+(?:wherry\.)?jobs\b", re.IGNORECASE)


def test_only_the_ledgers_queries_write_jobs() -> None:
    package = Path(wherry.__file__).parent
    files = [*package.rglob("*.py"), *(sql_root() / "queries").glob("*.sql")]
    writing = {path.name for path in files if WRITES.search(path.read_text())}
    assert writing == {"jobs.sql"}


def test_only_the_ledger_and_the_events_run_them() -> None:
    package = Path(wherry.__file__).parent
    loading = {path.name for path in package.rglob("*.py") if 'load("jobs")' in path.read_text()}
    assert loading == {"ledger.py", "events.py"}
