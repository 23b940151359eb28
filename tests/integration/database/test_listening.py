"""LISTEN comes back within seconds, whatever happens to its connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.faults.proxy import DroppingProxy, serving
from wherry.database.listening import Listener
from wherry.database.pools import connect
from wherry.local.embedded import EmbeddedPostgres
from wherry.waiting import end_task

BACK_SECONDS = 5.0


class Heard:
    """What a listener has reported."""

    def __init__(self) -> None:
        self.connected: asyncio.Queue[None] = asyncio.Queue()
        self.payloads: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.failures: list[Exception] = []

    async def on_connected(self) -> None:
        self.connected.put_nowait(None)

    async def on_payload(self, channel: str, payload: str) -> None:
        if self.failures:
            raise self.failures.pop()
        self.payloads.put_nowait((channel, payload))

    async def is_connected(self) -> None:
        await asyncio.wait_for(self.connected.get(), BACK_SECONDS)

    async def hears(self, url: str, channel: str = "one") -> None:
        """A notification arrives that is sent now."""
        async with await connect(url, name="test") as connection:
            await connection.execute("select pg_notify(%s, 'hello')", [channel])
        assert await asyncio.wait_for(self.payloads.get(), 1) == (channel, "hello")


@asynccontextmanager
async def _listening(url: str) -> AsyncIterator[Heard]:
    heard = Heard()
    callbacks = {"on_payload": heard.on_payload, "on_connected": heard.on_connected}
    task = asyncio.create_task(Listener(url, ["one", "two"], name="listener", **callbacks).run())
    try:
        await heard.is_connected()
        yield heard
        assert not task.done()
    finally:
        await end_task(task)


async def test_notifications_of_every_channel_arrive(database_url: str) -> None:
    async with _listening(database_url) as heard:
        await heard.hears(database_url, "one")
        await heard.hears(database_url, "two")


async def test_a_silently_dropped_link_is_replaced(database_url: str) -> None:
    with serving(DroppingProxy(database_url)) as proxy:
        async with _listening(proxy.url) as heard:
            proxy.drop("listener")
            await heard.is_connected()
            await heard.hears(database_url)


async def test_it_listens_again_after_a_restart_of_the_database(own_postgres: EmbeddedPostgres) -> None:
    async with _listening(own_postgres.url) as heard:
        await asyncio.to_thread(own_postgres.restart, immediate=True)
        await heard.is_connected()
        await heard.hears(own_postgres.url)


async def test_it_listens_on_after_a_notification_that_cannot_be_handled(database_url: str) -> None:
    async with _listening(database_url) as heard:
        heard.failures.append(ValueError("not what was expected"))
        async with await connect(database_url, name="test") as connection:
            await connection.execute("notify one, 'nonsense'")
        await heard.is_connected()
        await heard.hears(database_url)
