"""Whole schemas survive an export of every table, a wipe, and an import of every file.

What a user does who restores a schema, this suite does: empty all of its tables at once, import the files in the order
that `wherry tables order` prints, and at the end those of the tables that triggers write, whose rows of the imports
before are thrown away first.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import psycopg
import pytest

from tests.postgres import TestServer
from tests.schemas.applications import APPLICATIONS
from tests.schemas.conftest import Filled
from tests.schemas.json_text import key_of, records
from tests.schemas.moves import (
    Running,
    count_rows,
    digests,
    dump,
    export_all,
    import_all,
    running,
    stale_sequences,
    wipe,
)
from tests.schemas.reports import report
from wherry.imports.readers import FORMATS

pytestmark = [pytest.mark.schemas, pytest.mark.timeout(600)]

CASES = [(name, format_) for name in APPLICATIONS for format_ in FORMATS]

Case = tuple[Running, str]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(
    request: pytest.FixtureRequest,
    postgres_server: TestServer,
    filled: Callable[[str], Filled],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Case]:
    """A service on a filled schema of its own, and the format to use."""
    name, format_ = request.param
    made = filled(name)
    folder = tmp_path_factory.mktemp(f"{name}-{format_}")
    with running(postgres_server, made.application, made.url, folder) as it:
        yield it, format_


def test_the_suite_has_at_least_sixty_tables_and_fills_all_of_them(filled: Callable[[str], Filled]) -> None:
    rows = {(name, table): count for name in APPLICATIONS for table, count in filled(name).rows.items()}
    assert len(rows) >= 60
    assert not [table for table, count in rows.items() if count == 0]


def test_add_accepts_every_table(case: Case) -> None:
    moved, _ = case
    assert moved.resources.keys() == moved.catalog.tables.keys(), moved.added
    assert set(moved.resources.values()) <= set(moved.order)


def test_an_export_has_what_postgresql_says(case: Case) -> None:
    moved, format_ = case
    exported = export_all(moved, format_)
    with moved.connection() as connection:
        expected = {name: records(connection, moved.catalog, table) for name, table in moved.catalog.tables.items()}
    if format_ == "csv":  # its values are compared when they have been imported
        report({name: f"{len(lines)} records" for name, lines in expected.items() if not has(exported[name], lines)})
    else:
        files = {name: in_format(lines, format_) for name, lines in expected.items()}
        report(difference(moved, files, exported, format_))
    assert dump(moved.url) == moved.before


def test_a_schema_that_was_wiped_is_restored_by_its_exports(case: Case) -> None:
    moved, format_ = case
    exported = export_all(moved, format_)
    files = {
        name: content
        for name, content in exported.items()
        if isinstance(content, bytes) and name not in moved.application.not_imported
    }
    problems = {name: found for name, found in exported.items() if isinstance(found, str)}
    with moved.connection() as connection, DefinitionsWatcher(moved) as watcher:

        def before_each(name: str) -> None:
            if name in moved.application.written_by_triggers:
                problems.update(missing_rows_of_triggers(moved, connection, name))
                wipe(connection, moved.catalog, [name])
            watcher.look()

        digests_before = digests(connection, moved.catalog)
        wipe(connection, moved.catalog, files)
        faults = import_all(moved, files, before_each, format_)
        digests_after = digests(connection, moved.catalog)
    again = export_all(moved, format_)
    problems |= {
        name: "its rows differ in PostgreSQL"
        for name, before in digests_before.items()
        if digests_after[name] != before
    }
    problems |= difference(moved, exported, again, format_)
    with moved.connection() as connection:
        problems |= dict(stale_sequences(connection, moved.catalog))
    report(problems | faults)
    assert {*watcher.seen, dump(moved.url)} == {moved.before}


def has(content: bytes | str, lines: list[str]) -> bool:
    """Whether a csv file has these fields and so many records."""
    if isinstance(content, str):
        return False
    header, *rows = csv.reader(io.StringIO(content.decode(), newline=""), strict=True)
    names = [*json.loads(lines[0])] if lines else header
    return header == names and len(rows) == len(lines) and all(len(row) == len(names) or not row for row in rows)


def missing_rows_of_triggers(moved: Running, connection: psycopg.Connection, name: str) -> Iterator[tuple[str, str]]:
    """Whether the triggers of other tables have added a row to this one for each row that was imported."""
    watched = moved.application.written_by_triggers[name]
    rows, expected = (
        sum(count_rows(connection, moved.catalog.tables[each]) for each in names) for names in ([name], watched)
    )
    if rows != expected:
        yield name, f"triggers added {rows} rows for {expected} rows of {', '.join(watched)}"


class DefinitionsWatcher:
    """Dumps the definitions of the user's schema again and again, while imports run."""

    def __init__(self, moved: Running) -> None:
        self.seen: list[str] = []
        self._url = moved.url
        self._threads = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def __enter__(self) -> DefinitionsWatcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()
        if self._last is not None:
            self._last.result()

    def look(self) -> None:
        """Begin a dump, unless one is running."""
        if self._last is None or self._last.done():
            self._last = self._threads.submit(lambda: self.seen.append(dump(self._url)))


def in_format(lines: list[str], format_: str) -> bytes:
    """The lines of records as a file."""
    text = "".join(f"{line}\n" for line in lines) if format_ == "ndjson" else f"[{','.join(lines)}]"
    return text.encode()


def difference(
    moved: Running, expected: Mapping[str, bytes | str], found: Mapping[str, bytes | str], format_: str
) -> dict[str, str]:
    """What differs, by the names of the tables."""
    return {
        name: text
        for name, one in expected.items()
        if (text := _difference(one, found[name], format_, bool(key_of(moved.catalog.tables[name]))))
    }


def _difference(expected: bytes | str, found: bytes | str, format_: str, is_ordered: bool) -> str | None:
    if isinstance(expected, str) or isinstance(found, str):
        return f"{expected!r:.300} and {found!r:.300}" if expected != found else None
    one, other = (records_in(content, format_) for content in (expected, found))
    if not is_ordered:
        one, other = sorted(one), sorted(other)
    if one == other:
        return None
    pairs = [(a, b) for a, b in zip(one, other, strict=False) if a != b] or [(expected[-80:], found[-80:])]
    place = next((n for n, (a, b) in enumerate(zip(*pairs[0], strict=False)) if a != b), 0)
    before, after = (line[max(0, place - 60) : place + 60] for line in pairs[0])
    return f"{len(one)} and {len(other)} records; {len(pairs)} differ; the first: {before!r} is now {after!r}"


def records_in(content: bytes, format_: str) -> list[bytes]:
    """The records of a file, roughly: a value with braces may be cut, but equal ones are cut equally."""
    return content[2:-2].split(b"},{") if format_ == "json" else content.splitlines()
