"""For any records, an import has the result of a simple model of the rules, error for error, and a dry run predicts it.

The model handles one record after the other. It has no batches, no lookups and no database.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.integration.imports.harness import Bench
from wherry.database.pools import make_pool
from wherry.imports.models import ImportOptions, OnConflict
from wherry.jobs.models import Job
from wherry.settings import load_settings
from wherry.storage.store import Store

PHASES = (Phase.generate,)  # an example takes two imports, so shrinking one takes minutes
CHECKS = list(HealthCheck)
ABSENT = object()
LATE = "2024-02-03T04:05:06+00:00"


@dataclass(frozen=True)
class Value:
    """The value of a field in a record, and its result: the stored value, or the name of the error."""

    given: Any
    kept: Any = None
    error: str | None = None


def ok(given: Any, kept: Any = ...) -> Value:
    return Value(given, given if kept is ... else kept)


def bad(given: Any, error: str) -> Value:
    return Value(given, error=error)


TYPE, FORM, SHORT, ENUM = "INVALID_FIELD_TYPE", "INVALID_FIELD_FORMAT", "FIELD_TOO_SHORT", "INVALID_ENUM_VALUE"
NOTHING = [Value(ABSENT), Value(None)]
BAD_IDS = [bad("1", TYPE), bad(1.0, TYPE), bad(True, TYPE), bad(0, FORM), bad(2**31, FORM), bad(10**30, FORM)]
BAD_TEXTS = [bad("", SHORT), bad(" \t", SHORT), bad(5, TYPE), bad({"a": 1}, TYPE), bad("a\0b", FORM)]
IDS = [ok(number) for number in (1, 2, 3, 4)]
TEXTS = [ok("x"), ok("  y ", "y"), ok('"\\ \u2028 \U0001f600')]
DATES = [ok("2024-02-03T04:05:06Z", LATE), ok(" 2024-02-03T06:05:06+02:00", LATE), bad("yesterday", FORM), bad(5, TYPE)]
REFERENCES = [ok(1), ok(2), ok(99)]

FIELDS: dict[str, dict[str, list[Value]]] = {
    "articles": {
        "id": NOTHING * 4 + IDS * 2 + BAD_IDS[:2],
        "slug": NOTHING + [ok("a"), ok("b"), ok(" C ", "c"), ok("d-1")] * 3 + [bad("a b", FORM), bad("", FORM)],
        "title": TEXTS * 4 + [*NOTHING, *BAD_TEXTS],
        "body": TEXTS * 4 + [*NOTHING, BAD_TEXTS[0]],
        "author_id": REFERENCES * 4 + [*NOTHING, *BAD_IDS],
        "tags": NOTHING * 3 + [ok([" p", "q", "p", ""], ["p", "q"]), ok([]), bad(["p", 1], TYPE), bad("p", TYPE)],
        "published_at": NOTHING * 6 + DATES,
        "status": NOTHING * 3 + [ok("Draft", "draft"), ok("published")] * 2 + [bad("gone", ENUM), bad(1, TYPE)],
    },
    "users": {
        "id": NOTHING * 4 + IDS * 2 + BAD_IDS[2:4],
        "email": NOTHING
        + [ok("a@x.y"), ok("b@x.y"), ok(" C@X.Y", "c@x.y"), ok("d@x.y"), ok("e@x.y")] * 3
        + [bad("a@x", FORM)],
        "name": TEXTS * 4 + [*NOTHING, *BAD_TEXTS],
        "role": NOTHING * 2 + [ok("ADMIN", "admin"), ok("user")] * 2 + [bad("root", ENUM)],
        "active": NOTHING * 2 + [ok(True), ok(False), ok(False), bad("true", TYPE)],
        "created_at": NOTHING * 6 + DATES,
        "updated_at": NOTHING * 6 + DATES,
    },
    "comments": {
        "id": IDS * 4 + [*NOTHING, *BAD_IDS],
        "body": TEXTS * 4 + [*NOTHING, *BAD_TEXTS, bad("w " * 501, "FIELD_TOO_LONG")],
        "article_id": REFERENCES * 4 + [*NOTHING, *BAD_IDS],
        "user_id": REFERENCES * 4 + NOTHING,
        "created_at": NOTHING * 6 + DATES,
    },
}
KEYS = {"articles": "slug", "users": "email", "comments": "id"}
REQUIRED = {
    "articles": ("title", "body", "author_id"),
    "users": ("name",),
    "comments": ("id", "body", "article_id", "user_id"),
}
REFERENCE_FIELDS = {"articles": ("author_id",), "users": (), "comments": ("article_id", "user_id")}
COLUMNS = {
    "articles": {"tags": [], "status": "draft", "published_at": None},
    "users": {"role": "user", "active": True, "created_at": "now", "updated_at": "now"},
    "comments": {"created_at": "now"},
}
NOT_JSON = b'{"id": 1, nope}'

Record = dict[str, Value] | None
"""A record by field, or a line that is not JSON."""


@dataclass
class Model:
    """The rules, one record at a time."""

    resource: str
    on_conflict: str
    by_admin: bool = True
    rows: list[dict[str, Any]] = field(default_factory=list)
    errors: list[tuple[int, str, str | None]] = field(default_factory=list)
    successes: int = 0

    def run(self, records: Sequence[Record]) -> None:
        for index, record in enumerate(records):
            faults = list(self.handle(record))
            self.errors += [(index, *fault) for fault in faults]
            self.successes += not faults

    def handle(self, record: Record) -> Iterator[tuple[str, str | None]]:
        if record is None:
            yield "PARSE_ERROR", None
            return
        given = {name: value for name, value in record.items() if value.given not in (ABSENT, None)}
        kept = {name: value.kept for name, value in given.items() if value.error is None}
        key = KEYS[self.resource]
        faults = [
            (given[name].error or "", name) if name in given else ("MISSING_REQUIRED_FIELD", name)
            for name in FIELDS[self.resource]
            if (name in given and given[name].error) or (name not in given and name in REQUIRED[self.resource])
        ]
        if kept.get("role") == "admin" and not self.by_admin:
            del kept["role"]
            before = [name for name in FIELDS["users"] if name not in ("role", "active", "created_at", "updated_at")]
            place = sum(name in before for _, name in faults)
            faults.insert(place, ("FORBIDDEN", "role"))
        if key != "id" and "id" not in given and key not in given:
            faults.append(("MISSING_REQUIRED_FIELD", "id"))
        if kept.get("status") == "draft" and kept.get("published_at"):
            faults.append((FORM, "published_at"))
        key_is_judged = not {"id", key} & {name for _, name in faults}
        target = next((row for row in self.rows if "id" in kept and row["id"] == kept["id"]), None)
        holder = next((row for row in self.rows if key in kept and row[key] == kept[key]), None)
        held = holder if holder is not target else None
        if key == "id":
            held = target if target and target["mine"] else None
        if held and self.on_conflict == "skip" and key_is_judged:
            yield from faults
            return
        row = target or holder
        if not key_is_judged:
            pass
        elif held and (self.on_conflict == "error" or held is not row or held["mine"]):
            faults.append(("DUPLICATE_VALUE", key))
        elif row is None and key not in kept:
            faults.append(("MISSING_REQUIRED_FIELD", key))
        elif row is None and any(other.get("username") == kept.get("email", ABSENT) for other in self.rows):
            faults.append(("DUPLICATE_VALUE", key))
        if row is not None and key_is_judged and self.resource == "users":
            faults += self.forbidden(row, kept)
        faults += [("INVALID_REFERENCE", name) for name in REFERENCE_FIELDS[self.resource] if kept.get(name) == 99]
        if faults:
            yield from faults
            return
        if row is None:
            row = {"id": kept.get("id"), **COLUMNS[self.resource]}
            if self.resource == "users":
                row["username"] = kept["email"]
            self.rows.append(row)
        elif self.resource == "users":
            row["updated_at"] = "now"
        if kept.get("published_at"):
            kept["status"] = "published"
        elif kept.get("status") == "draft":
            kept["published_at"] = None
        row.update({name: value for name, value in kept.items() if name != "id"}, mine=True)

    def forbidden(self, row: dict[str, Any], kept: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """Who may change whom: an admin's account, an account with a password, the last active admin."""
        if not self.by_admin:
            if row["role"] == "admin":
                yield "FORBIDDEN", "id" if "id" in kept else "email"
            return
        if kept.get("role") == "admin" != row["role"] and row.get("password"):
            yield "FORBIDDEN", "role"
        if [other for other in self.rows if other["role"] == "admin" and other["active"]] == [row]:
            yield from (
                ("FORBIDDEN", name) for name, end in (("role", "user"), ("active", False)) if kept.get(name) is end
            )


def rows_of(resource: str) -> st.SearchStrategy[Record]:
    sound = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in FIELDS[resource].items()})
    return st.one_of(*[sound] * 20, st.none())


def as_line(record: Record) -> bytes:
    if record is None:
        return NOT_JSON
    return json.dumps({name: value.given for name, value in record.items() if value.given is not ABSENT}).encode()


START = {
    "articles": (
        "insert into wherry.articles (id, slug, title, body, description, author_id, status) values "
        "(1, 'a', 't', 'b', 't', 1, 'draft'), (2, 'b', 't', 'b', 't', 1, 'draft')",
        [
            {"id": 1, "slug": "a", "title": "t", "body": "b", "author_id": 1, **COLUMNS["articles"], "mine": False},
            {"id": 2, "slug": "b", "title": "t", "body": "b", "author_id": 1, **COLUMNS["articles"], "mine": False},
        ],
    ),
    "users": (
        "insert into wherry.users (id, email, username, name, role, active, password_hash) values "
        "(2, 'e@x.y', 'e', 'n', 'admin', true, 'h'), (3, 'a@x.y', 'a@x.y', 'n', 'user', true, null), "
        "(4, 'b@x.y', 'd@x.y', 'n', 'user', true, 'h')",
        [
            {**COLUMNS["users"], **row, "name": "n", "mine": False}
            for row in (
                {"id": 2, "email": "e@x.y", "username": "e", "role": "admin", "password": True},
                {"id": 3, "email": "a@x.y", "username": "a@x.y"},
                {"id": 4, "email": "b@x.y", "username": "d@x.y", "password": True},
            )
        ],
    ),
    "comments": (
        "insert into wherry.comments (id, body, article_id, user_id) values (1, 'b', 1, 1)",
        [{"id": 1, "body": "b", "article_id": 1, "user_id": 1, **COLUMNS["comments"], "mine": False}],
    ),
}
AUTHORS = (
    "insert into wherry.users (id, email, username, name) "
    "select n, n || '@a.b', n || '@a.b', 'A' from generate_series(1, 2) n"
)
ARTICLES = (
    "insert into wherry.articles (id, slug, title, body, description, author_id, status) "
    "select n, 's' || n, 't', 'b', 't', 1, 'draft' from generate_series(1, 2) n"
)


class FreshDatabase:
    """A database that is emptied before every example."""

    def __init__(self, bench: Bench, resource: str) -> None:
        self.bench = bench
        self.resource = resource

    async def reset(self) -> None:
        await self.bench.do(
            "truncate wherry.users, wherry.articles, wherry.comments, wherry.import_errors, wherry.jobs cascade"
        )
        if self.resource != "users":
            await self.bench.do(AUTHORS)
        if self.resource == "comments":
            await self.bench.do(ARTICLES)
        await self.bench.do(START[self.resource][0])
        await self.bench.do(f"select setval('wherry.{self.resource}_id_seq', 999)")

    async def rows(self, job: Job) -> list[dict[str, Any]]:
        found = await self.bench.rows(f"select * from wherry.{self.resource} order by id")
        return [self._plain(row, job) for row in found]

    def _plain(self, row: dict[str, Any], job: Job) -> dict[str, Any]:
        names = ["id", *FIELDS[self.resource], *(["username"] if self.resource == "users" else [])]
        plain = {name: row[name] for name in names}
        for name in ("created_at", "updated_at", "published_at"):
            if plain.get(name) is not None:
                plain[name] = LATE if plain[name].isoformat() == LATE else "now"
        plain["id"] = row["id"] if row["id"] < 1000 else None
        return {**plain, "mine": row["import_job_id"] == job.id}


async def check(place: FreshDatabase, records: list[Record], on_conflict: OnConflict, batch: int, role: str) -> None:
    await place.reset()
    bench = place.bench.with_settings(import_batch_size=batch)
    before = await bench.rows(f"select * from wherry.{place.resource} order by id")
    data = b"\n".join(map(as_line, records))

    foretold = await bench.run(place.resource, data, options=ImportOptions(on_conflict, dry_run=True), role=role)
    assert await bench.rows(f"select * from wherry.{place.resource} order by id") == before
    job = await bench.run(place.resource, data, options=ImportOptions(on_conflict), role=role)

    model = Model(place.resource, on_conflict, role == "admin", [dict(row) for row in START[place.resource][1]])
    model.run(records)
    assert await bench.faults(job) == model.errors
    expected = [{name: row[name] for name in row if name != "password"} for row in model.rows]
    assert await place.rows(job) == sorted(expected, key=lambda row: (row["id"] is None, row["id"] or 0))
    assert (job.success_count, job.error_count, job.processed_records) == (
        model.successes,
        len({index for index, *_ in model.errors}),
        len(records),
    )
    assert (foretold.status, foretold.success_count, foretold.error_count, foretold.error_summary) == (
        job.status,
        job.success_count,
        job.error_count,
        job.error_summary,
    )
    shown = [[{**error, "createdAt": None} for error in await bench.errors(reported)] for reported in (foretold, job)]
    assert shown[0] == shown[1]


@pytest.mark.parametrize("examples", [15, pytest.param(1000, marks=pytest.mark.long)])
@pytest.mark.parametrize("resource", list(FIELDS))
def test_an_import_behaves_like_the_model(resource: str, examples: int, database_url: str, tmp_path: Path) -> None:
    limits = load_settings(_env_file=None)

    with asyncio.Runner() as runner:
        pool = make_pool(database_url, name="model", max_size=4)
        runner.run(pool.open())
        place = FreshDatabase(Bench(pool, Store(str(tmp_path)), limits), resource)

        @settings(
            max_examples=examples,
            phases=PHASES,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        )
        @given(
            records=st.lists(rows_of(resource), min_size=1, max_size=12),
            on_conflict=st.sampled_from(OnConflict),
            batch=st.sampled_from([1, 2, 3, 100]),
            role=st.sampled_from(["admin", "admin", "user"]),
        )
        def example(records: list[Record], on_conflict: OnConflict, batch: int, role: str) -> None:
            runner.run(check(place, records, on_conflict, batch, role))

        try:
            example()
        finally:
            runner.run(pool.close())
