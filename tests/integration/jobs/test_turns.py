"""No owner, and no task beside the jobs, keeps another owner's job waiting."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from tests.factories import new_user, submitted
from tests.integration.jobs.working import Gated, Recorder, working
from wherry.database.pools import Connection, connect
from wherry.errors import DeliveryFailed
from wherry.jobs import ledger, steering, worker_app
from wherry.jobs.models import Outcome
from wherry.jobs.slots import SIDE_LIMITS, WEBHOOKS
from wherry.jobs.states import Kind, Status
from wherry.times import now


@pytest.fixture(autouse=True)
def without_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker looks for jobs only when it is notified or one of its runs ends."""
    monkeypatch.setattr(worker_app, "POLL_SECONDS", 60.0)


async def test_the_job_of_a_newcomer_starts_although_200_of_another_owner_run_and_wait(database_url: str) -> None:
    async with await connect(database_url, name="test") as connection:
        alice, bob = await new_user(connection), await new_user(connection, "bob@example.com")
        many = [(await submitted(connection, owner_id=alice)).id for _ in range(200)]
        gated = Gated(many)
        async with working(database_url, gated, jobs=4):
            begun = {await gated.next() for _ in range(3)}
            assert begun < set(many)
            one = await submitted(connection, owner_id=bob)
            assert await gated.next() == one.id
            gated.gate.set()
            assert {await gated.next() for _ in range(197)} | begun == set(many)


async def test_owners_take_turns_on_a_worker_with_one_slot(database_url: str) -> None:
    """The first job of a newcomer precedes the second of everybody else."""
    async with await connect(database_url, name="test") as connection:
        alice, bob = await new_user(connection), await new_user(connection, "bob@example.com")
        owners = [alice, alice, alice, bob, bob]
        jobs = [(await submitted(connection, owner_id=owner)).id for owner in owners]
        gated = Gated([])
        async with working(database_url, gated, jobs=1):
            begun = [await gated.next() for _ in jobs]
        assert [owners[jobs.index(each)] for each in begun] == [alice, bob, alice, bob, alice]


async def test_jobs_of_another_kind_do_not_delay_a_turn(database_url: str) -> None:
    async with await connect(database_url, name="test") as connection:
        alice, bob = await new_user(connection), await new_user(connection, "bob@example.com")
        for owner, kind in [(alice, Kind.EXPORT), (alice, Kind.IMPORT), (bob, Kind.IMPORT), (alice, Kind.IMPORT)]:
            await submitted(connection, owner_id=owner, kind=kind)
        cursor = await connection.execute("select priority from wherry.procrastinate_jobs order by id")
        assert await cursor.fetchall() == [(0,), (0,), (0,), (-1,)]


async def test_the_jobs_of_an_owner_stay_in_order_if_new_ones_arrive_while_others_end(database_url: str) -> None:
    async with await connect(database_url, name="test") as connection:
        alice, bob = await new_user(connection), await new_user(connection, "bob@example.com")
        posted = [str((await submitted(connection, owner_id=alice)).id) for _ in range(4)]
        for _ in range(3):
            await _run_first(connection)
            posted.append(str((await submitted(connection, owner_id=alice)).id))
        assert [job_id for job_id, _ in await _waiting(connection)] == posted[3:]
        newcomers = [str((await submitted(connection, owner_id=bob)).id) for _ in range(2)]
        waiting = [job_id for job_id, _ in await _waiting(connection)]
        assert waiting[:4] == [posted[3], newcomers[0], posted[4], newcomers[1]]


async def test_owners_who_post_their_next_job_when_one_ends_do_not_overtake_those_who_posted_all_at_once(
    database_url: str,
) -> None:
    async with await connect(database_url, name="test") as connection:
        alice, *others = [await new_user(connection, f"{name}@example.com") for name in ("alice", "b", "c", "d")]
        owner_of = {str((await submitted(connection, owner_id=alice)).id): alice for _ in range(5)}
        for owner in others:
            owner_of[str((await submitted(connection, owner_id=owner)).id)] = owner
        ran = []
        for _ in range(12):
            owner = owner_of[await _run_first(connection)]
            ran.append(owner)
            if owner != alice:
                owner_of[str((await submitted(connection, owner_id=owner)).id)] = owner
        assert ran[4:] == [alice, *others] * 2, ran


async def test_a_job_of_a_paused_kind_does_not_keep_newcomers_at_its_turn(database_url: str) -> None:
    async with await connect(database_url, name="test") as connection:
        alice, bob = await new_user(connection), await new_user(connection, "bob@example.com")
        await submitted(connection, owner_id=bob, kind=Kind.EXPORT)
        await steering.pause(connection, Kind.EXPORT, bob)
        for _ in range(3):
            await submitted(connection, owner_id=alice)
        for _ in range(2):
            await _run_first(connection, Kind.IMPORT)
        newcomer = await submitted(connection, owner_id=bob)
        turns = dict(await _waiting(connection))
        assert turns[str(newcomer.id)] == -2


async def test_deliveries_that_wait_do_not_change_a_turn(database_url: str) -> None:
    async with await connect(database_url, name="test") as connection:
        ended = await submitted(connection, webhook_url="https://example.com")
        await ledger.cancel(connection, ended.id)
        job = await submitted(connection)
        *jobs, (delivery, _) = await _waiting(connection)
        assert delivery is None, "a fetch finds the jobs first"
        assert [job_id for job_id, _ in jobs] == [str(ended.id), str(job.id)]


async def _waiting(connection: Connection) -> list[tuple[str, int]]:
    """The jobs of the queue's rows, in the order in which they are fetched, and their priorities."""
    query = "select args ->> 'job_id', priority from wherry.procrastinate_jobs order by priority desc, id"
    return await (await connection.execute(query)).fetchall()


async def _run_first(connection: Connection, *kinds: Kind) -> str:
    """Run the first job of these kinds, or of any; returns its id."""
    query = (
        "delete from wherry.procrastinate_jobs where id = (select id from wherry.procrastinate_jobs"
        " where queue_name = any(%s) order by priority desc, id limit 1) returning args ->> 'job_id'"
    )
    row = await (await connection.execute(query, [list(kinds or Kind)])).fetchone()
    assert row is not None
    claim = await ledger.claim(connection, UUID(row[0]))
    assert claim is not None
    await ledger.finish(connection, claim.lease, Outcome(status=Status.SUCCEEDED))
    return str(row[0])


class Hanging(Recorder):
    """Deliveries do not end before the gate opens."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.begun: asyncio.Queue[str] = asyncio.Queue()

    async def deliver(self, event_id: str) -> None:
        self.begun.put_nowait(event_id)
        await self.gate.wait()


async def test_deliveries_that_hang_do_not_block_jobs(database_url: str) -> None:
    hanging = Hanging()
    async with (
        await connect(database_url, name="test") as connection,
        working(database_url, hanging, jobs=1) as app,
    ):
        for number in range(20):
            await app.tasks["wherry.deliver"].defer_async(event_id=f"msg_{number}")
        for _ in range(SIDE_LIMITS[WEBHOOKS]):
            await asyncio.wait_for(hanging.begun.get(), 10)
        for _ in range(3):
            hanging.ran.clear()
            await submitted(connection)
            await asyncio.wait_for(hanging.ran.wait(), 10)
        assert hanging.begun.empty()
        hanging.gate.set()
        for _ in range(20 - SIDE_LIMITS[WEBHOOKS]):
            await asyncio.wait_for(hanging.begun.get(), 10)


async def test_a_worker_stops_although_deliveries_hang_and_leaves_them_to_the_next(database_url: str) -> None:
    hanging, next_one = Hanging(), Hanging()
    async with working(database_url, hanging) as app:
        await app.tasks["wherry.deliver"].defer_async(event_id="msg_1")
        await asyncio.wait_for(hanging.begun.get(), 10)
    async with working(database_url, next_one):
        assert await asyncio.wait_for(next_one.begun.get(), 10) == "msg_1"
        next_one.gate.set()


async def test_a_failed_delivery_is_repeated_after_the_wait_that_it_asks_for(database_url: str) -> None:
    class Failing(Recorder):
        async def deliver(self, event_id: str) -> None:
            raise DeliveryFailed("the receiver responds with 500", retry_seconds=1800)

    recorder, statement = Failing(), "select status, attempts, scheduled_at from wherry.procrastinate_jobs"
    async with await connect(database_url, name="test") as connection, working(database_url, recorder) as app:
        await app.tasks["wherry.deliver"].defer_async(event_id="msg_1")
        async with asyncio.timeout(10):
            while (row := await (await connection.execute(statement)).fetchone()) is None or row[:2] != ("todo", 1):
                pass
        assert timedelta(minutes=29) < row[2] - now() <= timedelta(minutes=30)
        await submitted(connection)  # which the delivery would precede
        await asyncio.wait_for(recorder.ran.wait(), 10)
        assert await (await connection.execute(f"{statement} where queue_name = 'webhook'")).fetchone() == row


async def test_a_job_starts_as_soon_as_another_ends(database_url: str) -> None:
    class Stepped(Gated):
        async def execute(self, job_id: UUID, queue_id: int) -> None:
            self.gate.clear()
            await super().execute(job_id, queue_id)

    async with await connect(database_url, name="test") as connection:
        jobs = [(await submitted(connection)).id for _ in range(10)]
        stepped = Stepped(jobs)
        async with working(database_url, stepped, jobs=1):
            for job in jobs:
                assert await stepped.next() == job
                await _is_at_rest(connection)
                stepped.gate.set()


async def _is_at_rest(connection: Connection) -> None:
    """Wait until the worker has looked for jobs."""
    statement = (
        "select from pg_stat_activity where application_name = 'wherry queue' and datname = current_database()"
        " and state <> 'idle'"
    )
    for _ in range(5):
        while await (await connection.execute(statement)).fetchone() is not None:
            pass


async def test_a_task_of_a_newer_version_is_left_to_its_workers(database_url: str) -> None:
    recorder = Recorder()
    async with (
        await connect(database_url, name="test") as connection,
        working(database_url, recorder, jobs=1) as app,
    ):
        await app.configure_task("wherry.of_a_newer_version", queue=Kind.IMPORT, priority=1).defer_async()
        await submitted(connection)
        await asyncio.wait_for(recorder.ran.wait(), 10)
        row = await (
            await connection.execute(
                "select status from wherry.procrastinate_jobs where task_name = 'wherry.of_a_newer_version'"
            )
        ).fetchone()
        assert row == ("todo",)


async def test_the_slow_receivers_of_one_owner_do_not_keep_anothers_webhook_waiting(database_url: str) -> None:
    hanging = Hanging()
    async with await connect(database_url, name="test") as connection:
        alice, bob = await new_user(connection), await new_user(connection, "bob@example.com")
        for owner in [*[alice] * 5, bob]:
            job = await submitted(connection, owner_id=owner, webhook_url="https://example.com")
            await ledger.cancel(connection, job.id)
        events = await (
            await connection.execute(
                "select webhook_events.id, owner_id from wherry.webhook_events join wherry.jobs on jobs.id = job_id"
            )
        ).fetchall()
        owners = dict(events)
        async with working(database_url, hanging):
            begun = [await asyncio.wait_for(hanging.begun.get(), 10) for _ in range(SIDE_LIMITS[WEBHOOKS])]
            assert sorted(owners[event] for event in begun) == [alice, alice, bob]
            hanging.gate.set()
