"""An import has the rights that its owner has now, and can neither lock anybody out nor let anybody in."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.integration.imports.harness import Bench, article, lines, user
from tests.integration.imports.test_interruptions import until_committed
from tests.integration.imports.test_urls import CONTENT, URL, Remote, runner
from wherry.imports.models import ImportOptions, OnConflict
from wherry.jobs.models import Job

LOST = ["role = 'user'", "active = false"]
BOTH_ROLES: dict[str, Any] = {"transfer_roles": ("user", "admin")}


@pytest.fixture
async def captained(bench: Bench) -> Bench:
    """A bench with admin 1, who has a password, and authors 2 and 3."""
    for number, role, password in ((1, "admin", "a hash"), (2, "user", "a hash"), (3, "user", None)):
        await bench.do(
            "insert into wherry.users (id, email, username, name, role, password_hash) "
            "values (%s, %s, %s, 'N', %s, %s)",
            *(number, f"user{number}@example.com", f"user{number}", role, password),
        )
    return bench


def forbidden(job: Job) -> bool:
    error = job.error or {}
    return (job.status, error.get("code"), error.get("number")) == ("failed", "FORBIDDEN", 4003)


@pytest.mark.parametrize("options", [ImportOptions(), ImportOptions(atomic=True), ImportOptions(dry_run=True)])
@pytest.mark.parametrize("change", LOST)
async def test_a_queued_import_creates_no_admin_after_its_owner_lost_the_role(
    captained: Bench, change: str, options: ImportOptions
) -> None:
    job = await captained.submit("users", lines([user(9, role="admin")]), owner_id=1, options=options)
    await captained.do(f"update wherry.users set {change} where id = 1")
    done = await captained.execute(job)

    assert forbidden(done)
    assert await captained.faults(done) == [(-1, "FORBIDDEN", None)]
    assert await captained.rows("select id from wherry.users where id = 9") == []


@pytest.mark.parametrize("change", LOST)
async def test_no_url_is_fetched_for_an_owner_who_lost_the_role(captained: Bench, change: str) -> None:
    remote = Remote(CONTENT)
    job = await captained.submit("users", None, url=URL, owner_id=1)
    await captained.do(f"update wherry.users set {change} where id = 1")
    done = await captained.execute(job, runner(captained, remote))

    assert forbidden(done)
    assert remote.requests == []


@pytest.mark.parametrize("change", LOST)
async def test_a_running_import_fails_at_the_next_batch_after_its_owner_lost_the_role(
    captained: Bench, change: str
) -> None:
    records = [article(number, author_id=2 if number < 500 else 3) for number in range(1000)]
    job = await captained.submit("articles", lines(records), owner_id=1)
    async with captained.pool.connection() as other, other.transaction():
        await other.execute("select from wherry.users where id = 3 for update")  # here the import waits
        work = asyncio.create_task(captained.execute(job))
        await until_committed(captained, job, 500)
        await captained.do(f"update wherry.users set {change} where id = 1")
    done = await work

    assert forbidden(done)
    assert done.success_count in (500, 600)  # the batch that had begun may still be written
    assert await captained.rows("select count(*) from wherry.articles") == [{"count": done.success_count}]


async def test_an_atomic_import_writes_nothing_if_its_owner_loses_the_role_before_the_end(captained: Bench) -> None:
    records = [article(number, author_id=3) for number in range(50)]
    job = await captained.submit("articles", lines(records), owner_id=1, options=ImportOptions(atomic=True))
    async with captained.pool.connection() as other, other.transaction():
        await other.execute("select from wherry.users where id = 3 for update")
        work = asyncio.create_task(captained.execute(job))
        while not await captained.rows("select from pg_stat_activity where wait_event_type = 'Lock'"):
            assert not work.done()
        await captained.do("update wherry.users set role = 'user' where id = 1")

    assert forbidden(await work)
    assert await captained.rows("select id from wherry.articles") == []


async def test_an_admins_import_fails_rather_than_continue_with_a_users_rights(captained: Bench) -> None:
    open_to_all = captained.with_settings(**BOTH_ROLES)
    jobs = [
        await open_to_all.submit(resource, lines([record]), owner_id=1)
        for resource, record in (("users", user(9)), ("articles", article(1, author_id=2)))
    ]
    await captained.do("update wherry.users set role = 'user' where id = 1")
    users, articles = [await open_to_all.execute(job) for job in jobs]

    assert forbidden(users)
    assert articles.status == "succeeded"


async def test_only_new_accounts_and_those_without_a_password_become_admins(
    captained: Bench,
) -> None:
    records = [user(number, role="admin") for number in (1, 2, 3, 4)]
    job = await captained.submit("users", lines(records), owner_id=1)
    done = await captained.execute(job)

    (error,) = await captained.errors(done)
    assert (error["recordIndex"], error["errorCode"], error["field"]) == (1, 4003, "role")
    assert error["message"] == "Role cannot become admin by an import, as the account has a password"
    rows = await captained.rows("select id from wherry.users where role = 'admin' order by id")
    assert [row["id"] for row in rows] == [1, 3, 4]


@pytest.mark.parametrize("by", ["id", "email"])
@pytest.mark.parametrize(("field", "value", "must"), [("role", "user", "admin"), ("active", False, "true")])
async def test_the_last_admin_is_kept(captained: Bench, by: str, field: str, value: object, must: str) -> None:
    record = {by: user(1)[by], "name": "N", field: value}
    job = await captained.submit("users", lines([record]), owner_id=1, options=ImportOptions(OnConflict.UPDATE))
    (error,) = await captained.errors(await captained.execute(job))

    assert (error["errorCode"], error["field"]) == (4003, field)
    assert error["message"] == f"{field.capitalize()} must stay {must}: this is the last active admin"
    assert await captained.rows("select id from wherry.users where role = 'admin' and active") == [{"id": 1}]


@pytest.mark.parametrize("batch", [1, 2, 100])
@pytest.mark.parametrize("number", [3, 9], ids=["made an admin", "created"])
@pytest.mark.parametrize(("field", "value"), [("role", "user"), ("active", False)])
async def test_the_last_admin_of_a_file_is_kept(
    captained: Bench, field: str, value: object, number: int, batch: int
) -> None:
    records = [user(number, role="admin"), user(1, role="user"), user(number, **{field: value})]
    job = await captained.with_settings(import_batch_size=batch).run("users", records)

    assert await captained.faults(job) == [(2, "FORBIDDEN", field)]
    assert await captained.rows("select id from wherry.users where role = 'admin' and active") == [{"id": number}]


@pytest.mark.parametrize("batch", [1, 100])
@pytest.mark.parametrize("number", [3, 9], ids=["made an admin", "created"])
async def test_an_inactive_admin_does_not_replace_the_last_one(captained: Bench, number: int, batch: int) -> None:
    records = [user(number, role="admin", active=False), user(1, role="user")]
    job = await captained.with_settings(import_batch_size=batch).run("users", records)

    assert await captained.faults(job) == [(1, "FORBIDDEN", "role")]


async def test_every_fault_of_a_record_that_demotes_the_last_admin_is_reported(captained: Bench) -> None:
    records = [*(user(number) for number in range(10, 210)), {"id": 1, "name": "", "role": "user"}]
    job = await captained.run("users", records)

    assert await captained.faults(job) == [(200, "FIELD_TOO_SHORT", "name"), (200, "FORBIDDEN", "role")]


async def test_concurrent_imports_that_demote_each_others_admin_leave_one(captained: Bench) -> None:
    for _ in range(5):
        await captained.do("update wherry.users set role = 'admin', active = true where id in (1, 2)")
        jobs = [await captained.submit("users", lines([user(number, role="user")])) for number in (1, 2)]
        async with asyncio.timeout(30):
            done = await asyncio.gather(*(captained.execute(job) for job in jobs))

        assert sorted(job.success_count for job in done) == [0, 1]
        assert len(await captained.rows("select id from wherry.users where role = 'admin' and active")) == 1
