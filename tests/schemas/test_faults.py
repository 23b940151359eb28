"""Every constraint of whole schemas is judged by an import as PostgreSQL judges it, and reported where it belongs.

Valid records come from the filler; some are broken, all are imported in one file. A record is refused if, and only if,
an INSERT of that record alone would be, and the constraint that PostgreSQL names is among the reported ones.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.postgres import TestServer
from tests.schemas import json_text
from tests.schemas.applications import APPLICATIONS
from tests.schemas.catalog import Table
from tests.schemas.conftest import Filled
from tests.schemas.filler import Filler
from tests.schemas.moves import Running, count_rows, imported, running
from tests.schemas.mutations import (
    DUPLICATE,
    ENUM,
    FORMAT,
    MISSING,
    REFERENCE,
    TOO_LONG,
    Fault,
    Mutations,
    Record,
    Value,
)
from tests.schemas.reports import report
from tests.schemas.values import Values

pytestmark = [pytest.mark.schemas, pytest.mark.timeout(900)]

GOOD = 2
EXAMPLES = 30
CODES = {"23502": MISSING, "23503": REFERENCE, "23505": DUPLICATE, "23P01": DUPLICATE, "23514": FORMAT}
CODES |= {"22001": TOO_LONG, "22003": FORMAT, "22P02": ENUM}


@dataclass(frozen=True)
class Case:
    """A record of a file.

    Attributes:
        record: its fields.
        faults: what is wrong with it.
        intended: what was meant to be wrong with it.
        refusal: what PostgreSQL says to an INSERT of it alone.
    """

    record: Record
    faults: Sequence[Fault]
    intended: Sequence[Fault]
    refusal: psycopg.Error | None

    @property
    def line(self) -> str:
        """The record as a line of ndjson."""
        return "{" + ", ".join(f"{json.dumps(name)}: {value.json}" for name, value in self.record.items()) + "}"


@pytest.fixture(scope="module", params=APPLICATIONS)
def moved(
    request: pytest.FixtureRequest,
    postgres_server: TestServer,
    filled: Callable[[str], Filled],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    """A service on a filled schema of its own."""
    made = filled(request.param)
    with running(postgres_server, made.application, made.url, tmp_path_factory.mktemp(request.param)) as it:
        for table in tables(it).values():
            make_room(it, table)
        yield it


def test_every_fault_alone_is_reported_under_its_field(moved: Running) -> None:
    problems = {name: found for name, table in tables(moved).items() if (found := problems_of_each(moved, table))}
    report(problems)


def test_faults_together_are_all_reported(moved: Running) -> None:
    by_name = tables(moved)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def check(data: st.DataObject) -> None:
        table = by_name[data.draw(st.sampled_from(sorted(by_name)), "table")]
        seed = data.draw(st.integers(0, 1_000_000), "seed")

        def choose(faults: list[Fault]) -> list[list[Fault]]:
            several = st.lists(st.sampled_from(faults), min_size=1, max_size=2, unique=True).filter(are_apart)
            return data.draw(st.lists(several, min_size=1, max_size=4), "faults")

        problems = problems_of(moved, table, seed, choose)
        report({table.name: "\n".join(problems)} if problems else {})

    check()


def tables(moved: Running) -> dict[str, Table]:
    """The tables that can be imported."""
    return {name: table for name, table in moved.catalog.tables.items() if name not in moved.application.not_imported}


def make_room(moved: Running, table: Table) -> None:
    """Delete some rows that nothing refers to if a table can have no more, such as one with all values of an enum."""
    needed = GOOD + 1
    with moved.connection() as connection:
        filler = Filler(connection, moved.catalog, table.name)
        with connection.transaction(force_rollback=True):
            needed -= len(list(new_records(moved, filler, table, needed)))
        places = connection.execute(f"select ctid from {table.sql.as_string()}".encode()).fetchall()
        while needed and places:
            needed -= deleted(connection, table, *places.pop())


def deleted(connection: psycopg.Connection, table: Table, place: str) -> bool:
    """Delete the row at a place, if nothing refers to it. Returns whether it did."""
    try:
        connection.execute(f"delete from {table.sql.as_string()} where ctid = '{place}'".encode())
    except psycopg.errors.ForeignKeyViolation:
        return False
    return True


def are_apart(faults: Sequence[Fault]) -> bool:
    """Whether no column is changed twice."""
    columns = Counter(name for fault in faults for name in fault.columns)
    return max(columns.values()) == 1


def problems_of_each(moved: Running, table: Table) -> str:
    """What is wrong with the report of a file that has a record for each fault of the table."""
    return "".join(f"\n  {each}" for each in problems_of(moved, table, 0, lambda faults: [[fault] for fault in faults]))


def problems_of(
    moved: Running, table: Table, seed: int, choose: Callable[[list[Fault]], list[list[Fault]]]
) -> list[str]:
    """Import some good records and some broken ones, and compare the report with what PostgreSQL says."""
    cases = make_cases(moved, table, seed, choose)
    if not cases:
        return []  # the table can have no more rows
    content = "".join(f"{case.line}\n" for case in cases).encode()
    with moved.connection() as connection:
        before = count_rows(connection, table)
    try:
        job = imported(moved.client, moved.resources[table.name], content, "ndjson", key=uuid.uuid4().hex)
    except httpx.HTTPStatusError as refused:
        return [f"the import was refused: {refused.response.text[:300]}"]
    answer = moved.client.get(f"/api/v1/imports/{job['id']}/errors/download")
    reported = [json.loads(line) for line in answer.content.splitlines()] if answer.status_code == 200 else []
    good = sum(case.refusal is None for case in cases)
    found = [f"{job['successCount']} of {good} good records were imported"] if job["successCount"] != good else []
    with moved.connection() as connection:
        added = count_rows(connection, table) - before
    if added != good:
        found.append(f"{added} of {good} good rows were added")
    for index, case in enumerate(cases):
        errors = [error for error in reported if error["recordIndex"] == index]
        found += [f"{problem}: in {case.line:.300}: {errors!r:.600}" for problem in judge(table, case, errors)]
    return found


def make_cases(
    moved: Running, table: Table, seed: int, choose: Callable[[list[Fault]], list[list[Fault]]]
) -> list[Case]:
    """Good records and broken ones, in a random order. Leaves the database as it was."""
    with moved.connection() as connection, connection.transaction(force_rollback=True):
        filler = Filler(connection, moved.catalog, f"{table.name} {seed}")
        filler.remember_references(table)
        mutations = Mutations(connection, moved.catalog, table, Values(f"{seed}", moved.catalog.types, connection))
        chosen = choose(list(mutations.faults()))
        with connection.transaction(force_rollback=True):  # so that each record alone can be judged below
            records = list(new_records(moved, filler, table, GOOD + len(chosen)))
        cases = [Case(record, [], [], filler.refusal(table, texts(record))) for record in records[:GOOD]]
        for record, faults in zip(cycle(records[GOOD:]), chosen, strict=False):
            changes = [(fault, fault.change(mutations, record)) for fault in faults]
            for _, change in changes:
                record = mutations.apply(record, change or {})
            broken = [fault for fault, change in changes if change is not None]
            cases.append(Case(record, broken, faults, filler.refusal(table, texts(record))))
        filler.values.random.shuffle(cases)
        return cases


def texts(record: Record) -> dict[str, str | None]:
    """The values of a record as texts of PostgreSQL."""
    return {name: value.text for name, value in record.items()}


def new_records(moved: Running, filler: Filler, table: Table, count: int) -> Iterator[Record]:
    """Valid records that do not get in each other's way: rows that were inserted one after the other."""
    written = [column for column in table.columns.values() if not column.is_generated]
    names = [f"r.{json_text.quoted(column.name)}" for column in written]
    values = [json_text.value(moved.catalog, each.type, name) for each, name in zip(written, names, strict=True)]
    pairs = [f"{name}::text, coalesce({value}, 'null')" for name, value in zip(names, values, strict=True)]
    for _ in range(count):
        row = filler.try_row(table, ", ".join(pairs))
        if row is None:
            return
        found = map(Value, row[::2], row[1::2])
        yield {column.name: value for column, value in zip(written, found, strict=True)}


def judge(table: Table, case: Case, errors: list[dict[str, object]]) -> Iterator[str]:
    """What is wrong with the errors of a record."""
    if len(case.faults) < len(case.intended):
        yield f"no values were found for {case.intended}"
    if case.refusal is None:
        if case.faults:
            yield f"PostgreSQL accepts {case.faults}"
        if errors:
            yield "a good record was refused"
        return
    if not case.faults:
        yield f"PostgreSQL refuses a good record: {case.refusal}"
    for fault in case.faults:
        if not any(fault.is_reported_by(error) for error in errors):
            yield f"{fault} was not reported with {fault.code} on {fault.field}"
    if not any(agrees(table, case.refusal, error) for error in errors):
        yield f"what PostgreSQL says was not reported: {case.refusal.diag.message_primary}"


def agrees(table: Table, refusal: psycopg.Error, error: dict[str, object]) -> bool:
    """Whether an error is what PostgreSQL refused the record for."""
    if error["errorCode"] != CODES.get(str(refusal.sqlstate)):
        return False
    if refusal.diag.column_name:
        return error["field"] == refusal.diag.column_name
    named = [each for each in table.constraints if each.name == refusal.diag.constraint_name]
    if not named:  # of a domain, or of a partition
        return True
    if len(named[0].columns) == 1:
        return error["field"] == named[0].columns[0]
    details = error["details"]
    return isinstance(details, dict) and details.get("constraint") == named[0].name
