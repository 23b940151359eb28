"""Webhooks are signed, sent again until they are delivered, and never sent to where they must not be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.factories import submitted
from tests.name_server import NameServer
from tests.receivers import WEBHOOK_SECRET, Receiver, receiving
from wherry.database.pools import Connection, Pool, make_pool
from wherry.errors import DeliveryFailed
from wherry.jobs import ledger
from wherry.jobs.deliveries import Delivery, deliveries_of
from wherry.jobs.models import Advance, Job, Outcome
from wherry.jobs.states import Status
from wherry.jobs.webhook_urls import WebhookUrls
from wherry.jobs.webhooks import Webhooks, job_of_snapshot
from wherry.settings import load_settings

WAITS = (5.0, 7.0, 11.0)
ERROR = {"code": "URL_FETCH_FAILED", "number": 2005, "message": "refused", "detail": {}}
NOT_PUBLIC = "The URL's host is not on the public internet"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with make_pool(database_url, name="test", max_size=3) as opened:
        yield opened


@pytest.fixture
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    async with pool.connection() as taken:
        yield taken


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


def webhooks(
    pool: Pool,
    *,
    waits: tuple[float, ...] = WAITS,
    seconds: float = 10,
    secret: str | None = WEBHOOK_SECRET,
    **given: Any,
) -> Webhooks:
    settings = load_settings(webhook_secret=secret, **given)
    return Webhooks(pool, settings.webhook_key(), WebhookUrls(settings), waits, attempt_seconds=seconds)


async def ended(connection: Connection, url: str) -> Job:
    """A job that has failed, with a webhook whose id is `of(job)`."""
    claim = await ledger.claim(connection, (await submitted(connection, options={"a": {"b": None}})).id)
    assert claim is not None
    await ledger.advance(connection, claim.lease, Advance(successes=2, errors=1, summary={"x": 1}, progress=33.3))
    await ledger.finish(connection, claim.lease, Outcome(status=Status.FAILED, error=ERROR))
    job = await ledger.get(connection, claim.job.id)
    assert job is not None
    await connection.execute(
        "insert into wherry.webhook_events (job_id, round, id, url, type, ended_at, data)"
        " select id, round, %(event)s, %(url)s, 'job.' || status, completed_at, to_jsonb(jobs)"
        " from wherry.jobs where id = %(id)s",
        {"id": job.id, "event": of(job), "url": url},
    )
    return job


def of(job: Job) -> str:
    return f"msg_{job.id.hex}_{job.round}"


async def delivery_of(connection: Connection, job: Job) -> Delivery:
    (found,) = await deliveries_of(connection, job.id)
    return found


async def retry_seconds(webhooks: Webhooks, job: Job) -> float:
    with pytest.raises(DeliveryFailed) as failed:
        await webhooks.deliver(of(job))
    return failed.value.retry_seconds


async def test_a_webhook_is_signed_and_has_the_job_as_it_was_when_it_ended(
    pool: Pool, connection: Connection, receiver: Receiver
) -> None:
    job = await ended(connection, receiver.url)
    await connection.execute("update wherry.jobs set status = 'queued', completed_at = null")
    await webhooks(pool, webhook_url=receiver.url).deliver(of(job))
    (received,) = receiver.received
    body = received.verified()
    assert list(body) == ["type", "timestamp", "data"]
    assert (body["type"], received.id) == ("job.failed", of(job))
    assert job.completed_at is not None
    assert body["timestamp"] == job.completed_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    data = body["data"]
    assert (data["id"], data["status"], data["completedAt"]) == (str(job.id), "failed", body["timestamp"])
    assert (data["processedRecords"], data["errorCount"], data["error"]["code"]) == (3, 1, ERROR["code"])
    assert "detail" not in data["error"], "the operator's URL gets what an operator may see"
    assert received.headers["content-type"] == "application/json"
    assert received.headers["host"] == f"127.0.0.1:{receiver.port}"
    delivery = await delivery_of(connection, job)
    assert (delivery.status, delivery.next_attempt_at, delivery.url) == ("delivered", None, receiver.url)
    (attempt,) = delivery.attempts
    assert (attempt.number, attempt.status, attempt.error) == (1, 204, None)
    assert attempt.ts >= job.completed_at
    assert 0 <= attempt.duration_ms < 10_000


async def test_a_snapshot_becomes_the_same_job_again(connection: Connection) -> None:
    job = await ended(connection, "https://hooks.example/")
    row = await (await connection.execute("select data from wherry.webhook_events")).fetchone()
    assert row is not None
    assert job_of_snapshot(row[0]) == job
    kept = {name: value for name, value in row[0].items() if name != "checkpoint"}
    assert job_of_snapshot(kept) == replace(job, checkpoint=None)


async def test_an_event_is_delivered_once_the_receiver_works_again_and_only_once(
    pool: Pool, connection: Connection, receiver: Receiver
) -> None:
    sender = webhooks(pool, webhook_url=receiver.url)
    jobs = [await ended(connection, receiver.url) for _ in range(3)]
    receiver.status = 500
    for wait in WAITS[:2]:
        assert [await retry_seconds(sender, job) for job in jobs] == [wait] * 3
        (pending,) = {(await delivery_of(connection, job)).status for job in jobs}
        assert pending == "pending"
    receiver.status = 200
    for _ in range(2):  # a queue row that is run again sends nothing
        for job in jobs:
            await sender.deliver(of(job))
    assert sorted(receiver.accepted) == sorted(map(of, jobs))
    assert len(receiver.received) == 9
    for job in jobs:
        requests = [each for each in receiver.received if each.id == of(job)]
        assert len({each.body for each in requests}) == 1
        assert all(each.verified() for each in requests)
        assert [each.status for each in (await delivery_of(connection, job)).attempts] == [500, 500, 200]


async def test_an_event_fails_after_the_last_wait(pool: Pool, connection: Connection, receiver: Receiver) -> None:
    sender = webhooks(pool, waits=(100.0, 2000.0), webhook_url=receiver.url)
    job = await ended(connection, receiver.url)
    receiver.status = 503
    assert [await retry_seconds(sender, job) for _ in range(2)] == [100, 2000]
    delivery = await delivery_of(connection, job)
    assert delivery.next_attempt_at is not None
    assert 2000 <= (delivery.next_attempt_at - delivery.attempts[-1].ts).total_seconds() < 2100
    await sender.deliver(of(job))
    delivery = await delivery_of(connection, job)
    assert (delivery.status, delivery.next_attempt_at) == ("failed", None)
    assert [each.error for each in delivery.attempts] == ["The URL responded with status 503"] * 3
    await sender.deliver(of(job))
    assert len(receiver.received) == 3


async def test_a_receiver_that_is_gone_gets_no_further_attempt(
    pool: Pool, connection: Connection, receiver: Receiver
) -> None:
    job = await ended(connection, receiver.url)
    receiver.status = 410
    await webhooks(pool, webhook_url=receiver.url).deliver(of(job))
    delivery = await delivery_of(connection, job)
    assert (delivery.status, [each.status for each in delivery.attempts]) == ("failed", [410])


async def test_a_redirect_is_a_failed_attempt_and_is_not_followed(
    pool: Pool, connection: Connection, receiver: Receiver
) -> None:
    with receiving() as target:
        receiver.status, receiver.location = 307, target.url
        job = await ended(connection, receiver.url)
        assert await retry_seconds(webhooks(pool, webhook_url=receiver.url), job) == WAITS[0]
        assert target.connections == 0
    (attempt,) = (await delivery_of(connection, job)).attempts
    assert attempt.error == "The URL responded with status 307; redirects are not followed"


@pytest.mark.parametrize("slow", ["hangs", "drips"])
async def test_an_attempt_ends_after_its_time_limit(
    pool: Pool, connection: Connection, receiver: Receiver, slow: str
) -> None:
    setattr(receiver, slow, True)
    job = await ended(connection, receiver.url)
    assert await retry_seconds(webhooks(pool, seconds=0.3, webhook_url=receiver.url), job) == WAITS[0]
    (attempt,) = (await delivery_of(connection, job)).attempts
    assert (attempt.status, attempt.error) == (None, "The URL did not respond within 0.3 seconds")
    assert 300 <= attempt.duration_ms < 5000


async def test_a_refused_connection_is_a_failed_attempt(pool: Pool, connection: Connection) -> None:
    with receiving() as closed:
        url = closed.url
    job = await ended(connection, url)
    assert await retry_seconds(webhooks(pool, webhook_url=url), job) == WAITS[0]
    (attempt,) = (await delivery_of(connection, job)).attempts
    assert (attempt.status, attempt.error) == (None, "The connection failed or broke")


async def test_without_a_secret_nothing_is_sent(pool: Pool, connection: Connection, receiver: Receiver) -> None:
    job = await ended(connection, receiver.url)
    assert await retry_seconds(webhooks(pool, secret=None), job) == WAITS[0]
    assert receiver.connections == 0


@pytest.mark.parametrize(
    "answers",
    [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"], ["169.254.169.254"], ["::ffff:10.0.0.1"]],
    ids=",".join,
)
async def test_nothing_is_sent_to_a_name_that_now_has_a_private_address(
    pool: Pool, connection: Connection, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, answers: list[str]
) -> None:
    url = receiver.url.replace("127.0.0.1", "data.example")
    assert WebhookUrls(load_settings(webhook_secret=WEBHOOK_SECRET)).requested(url) == url
    job = await ended(connection, url)
    names = NameServer(monkeypatch, answers)
    await webhooks(pool, webhook_allowed_hosts="other.example").deliver(of(job))
    assert (receiver.connections, names.asked) == (0, 1)
    delivery = await delivery_of(connection, job)
    assert (delivery.status, [each.error for each in delivery.attempts]) == ("failed", [NOT_PUBLIC])


async def test_an_allowed_host_is_called_at_its_private_address(
    pool: Pool, connection: Connection, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await ended(connection, receiver.url.replace("127.0.0.1", "data.example"))
    NameServer(monkeypatch, ["127.0.0.1"])
    await webhooks(pool, webhook_allowed_hosts="other.example,example").deliver(of(job))
    (received,) = receiver.received
    assert received.headers["host"] == f"data.example:{receiver.port}"
    assert received.verified()["type"] == "job.failed"


async def test_a_url_that_is_no_longer_the_operators_fails_at_once(
    pool: Pool, connection: Connection, receiver: Receiver
) -> None:
    job = await ended(connection, receiver.url)
    await webhooks(pool, webhook_url="https://hooks.example/").deliver(of(job))
    assert receiver.connections == 0
    delivery = await delivery_of(connection, job)
    assert (delivery.status, [each.error for each in delivery.attempts]) == (
        "failed",
        ["webhookUrl must be on a public host"],
    )


async def test_proxies_in_the_environment_are_not_used(
    pool: Pool, connection: Connection, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        job = await ended(connection, receiver.url)
        await webhooks(pool, webhook_url=receiver.url).deliver(of(job))
        assert (proxy.connections, len(receiver.accepted)) == (0, 1)


async def test_an_event_of_a_deleted_job_is_not_sent(pool: Pool, connection: Connection, receiver: Receiver) -> None:
    job = await ended(connection, receiver.url)
    await connection.execute("delete from wherry.jobs")
    await webhooks(pool, webhook_url=receiver.url).deliver(of(job))
    assert receiver.connections == 0


async def test_two_attempts_at_once_are_both_recorded(pool: Pool, connection: Connection, receiver: Receiver) -> None:
    """A worker that was declared dead may still be sending when another one sends, too."""
    sender = webhooks(pool, webhook_url=receiver.url)
    job = await ended(connection, receiver.url)
    receiver.status = 500
    waits = await asyncio.gather(retry_seconds(sender, job), retry_seconds(sender, job))
    assert sorted(waits) == [5, 7]
    assert [each.number for each in (await delivery_of(connection, job)).attempts] == [1, 2]
