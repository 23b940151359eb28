"""The steps of `wherry demo`, each over HTTP: import, round trip, capsule."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from wherry.cli import demo_data
from wherry.cli.client import Client, Json
from wherry.cli.demo_data import Sample
from wherry.cli.demo_graph import own_graph
from wherry.cli.demo_report import Moved, Report
from wherry.local.service import Service
from wherry.memvid.search import found_in
from wherry.storage.streams import read_file

SHOWN_ERRORS = 3
CHUNK_LINES = 1000
SYMBOL = own_graph.__name__


class Demo:
    """One run of the demo.

    Args:
        console: shows the progress.
        service: must be running.
        sizes: how many users, articles and comments to import.
    """

    def __init__(self, console: Console, service: Service, sizes: tuple[int, int, int]) -> None:
        self._service = service
        self._sizes = sizes
        self._report = Report()
        self._progress = Progress(
            TextColumn("{task.description:<28}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
        )

    async def run(self) -> Report:
        """Run every step; return what was measured and checked."""
        users, articles, comments = self._sizes
        async with Client(self._service.url, api_key=self._service.api_key) as client:
            await client.register("captain", "captain@example.com", "a long and salty password")
            with self._progress:
                await self._import(client, demo_data.users(users))
                await self._import(client, demo_data.articles(articles, users))
                await self._import(client, demo_data.comments(comments, articles, users))
                with TemporaryDirectory() as folder:
                    await self._round_trip(client, Path(folder))
                    await self._capsule(client, Path(folder))
        return self._report

    async def _import(self, client: Client, sample: Sample) -> None:
        job = await client.start_import(sample.resource, _chunks(sample.lines()))
        done = await self._follow(client, job["id"], f"import {sample.total:,} {sample.resource}")
        self._report.moved.append(_moved(f"import {sample.resource}", done, errors=done["errorCount"]))
        valid = sample.total - sample.broken
        self._report.expect(f"{sample.resource}: {valid:,} imported", done["successCount"], valid)
        self._report.expect(f"{sample.resource}: {sample.broken:,} refused", done["errorCount"], sample.broken)
        seen = await self._error_report(client, done["id"])
        self._report.expect(f"{sample.resource}: the error report lists every refused record", seen, sample.errors)
        self._report.errors += seen

    async def _error_report(self, client: Client, job_id: str) -> Counter[str]:
        """Download the error report, show its first errors, count all of them by name."""
        text = b"".join([chunk async for chunk in client.download(f"/api/v1/imports/{job_id}/errors/download")])
        errors = [msgspec.json.decode(line) for line in text.splitlines()]
        for error in errors[:SHOWN_ERRORS]:
            self._progress.console.print(f"  [dim]{escape(shown(error))}[/]", highlight=False, soft_wrap=True)
        return Counter(error["errorName"] for error in errors)

    async def _round_trip(self, client: Client, folder: Path) -> None:
        """Export the articles, import that file, export again: no errors, and the same bytes."""
        first = await self._export(client, folder / "articles.ndjson", "export articles")
        rows = first["processedRecords"]
        self._report.expect("the export contains every article", rows, self._sizes[1] - self._sizes[1] // 100)
        job = await client.start_import("articles", read_file(folder / "articles.ndjson"))
        again = await self._follow(client, job["id"], "re-import the export")
        self._report.moved.append(_moved("re-import the export", again, errors=again["errorCount"]))
        counts = (again["successCount"], again["errorCount"])
        self._report.expect("re-importing the export refuses no records", counts, (rows, 0))
        second = await self._export(client, folder / "again.ndjson", "export articles again")
        self._report.expect("the second export is identical, byte for byte", second["sha256"], first["sha256"])

    async def _export(self, client: Client, file: Path, what: str) -> Json:
        job = await client.start_export("articles")
        done = await self._follow(client, job["id"], what)
        size, digest = await _save(client.download(f"/api/v1/exports/{job['id']}/download"), file)
        self._report.moved.append(_moved(what, done))
        self._report.expect(
            f"{what}: {size:,} bytes arrived intact", (size, digest), (done["fileSize"], done["sha256"])
        )
        return done

    async def _capsule(self, client: Client, folder: Path) -> None:
        """Turn a graph of wherry's own source into an mv2 capsule, download it, search it."""
        graph = await asyncio.to_thread(own_graph)
        frames = len(graph["nodes"]) + len(graph["relationships"]) + 1
        what = "capsule of wherry's source"
        started = time.monotonic()
        job_id = await client.start_capsule(msgspec.json.encode(graph))
        bar = self._progress.add_task(what, total=100, note="")
        done = await client.follow_capsule(
            job_id, lambda seen: self._progress.update(bar, completed=seen["progress"], note=seen["message"])
        )
        self._report.expect("the capsule is complete", done["status"], "completed")
        self._report.moved.append(Moved(what, frames, time.monotonic() - started, unit="frames"))
        if done["status"] != "completed":
            return
        file = folder / "own.mv2"
        _, digest = await _save(client.download(done["artifact"]["downloadUrl"]), file)
        self._report.expect("the capsule arrived intact", digest, done["artifact"]["sha256"])
        hits = await asyncio.to_thread(found_in, file, SYMBOL)
        self._report.expect(f"searching the capsule finds {SYMBOL}", any(SYMBOL in hit for hit in hits), True)

    async def _follow(self, client: Client, job_id: str, what: str) -> Json:
        bar = self._progress.add_task(what, total=100, note="")

        def show(job: Json) -> None:
            self._progress.update(bar, completed=job["progress"], note=f"{job['processedRecords']:,}")

        done = await client.follow(job_id, show)
        self._progress.update(bar, completed=100)
        return done


def shown(error: Json) -> str:
    """An error of the report on one line."""
    return f"record {error['recordIndex']}: {error['message']} ({error['errorName']})"


def _moved(what: str, job: Json, errors: int = 0) -> Moved:
    started, completed = (datetime.fromisoformat(job[name]) for name in ("startedAt", "completedAt"))
    return Moved(what, job["processedRecords"], (completed - started).total_seconds(), errors)


async def _chunks(lines: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Join lines into larger chunks, and yield to the event loop between them."""
    while piece := b"".join(islice(lines, CHUNK_LINES)):
        yield piece
        await asyncio.sleep(0)


async def _save(chunks: AsyncIterator[bytes], path: Path) -> tuple[int, str]:
    """Write a download to a file; return its size and SHA-256."""
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as out:
        async for chunk in chunks:
            size += len(chunk)
            digest.update(chunk)
            await asyncio.to_thread(out.write, chunk)
    return size, digest.hexdigest()
