"""Runs the jobs of `wherry demo` over HTTP, shows their progress, and records what they moved."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from wherry.cli.client import Client, Json
from wherry.cli.demo_data import Sample
from wherry.cli.demo_report import Moved, Report
from wherry.storage.streams import read_file

SHOWN_ERRORS = 3
CHUNK_LINES = 1000


class Jobs:
    """The jobs of one part of the demo. Use it as a context manager: it shows a bar for each job.

    Args:
        console: shows the progress.
        client: of the running service.
        report: records what the jobs moved, and what was checked.
    """

    def __init__(self, console: Console, client: Client, report: Report) -> None:
        self.client = client
        self.report = report
        self.progress = Progress(
            TextColumn("{task.description:<28}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
        )

    def __enter__(self) -> Jobs:
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def add_bar(self, what: str) -> TaskID:
        """Show a bar for a job."""
        return self.progress.add_task(what, total=100, note="")

    async def import_sample(self, sample: Sample) -> None:
        """Import generated records: exactly the broken ones are refused, each with its error."""
        what = f"import {sample.total:,} {sample.resource}"
        done = await self._import(sample.resource, _chunks(sample.lines()), what, f"import {sample.resource}")
        valid = sample.total - sample.broken
        self.report.expect(f"{sample.resource}: {valid:,} imported", done["successCount"], valid)
        self.report.expect(f"{sample.resource}: {sample.broken:,} refused", done["errorCount"], sample.broken)
        seen = await self._error_report(done["id"])
        self.report.expect(f"{sample.resource}: the error report lists every refused record", seen, sample.errors)
        self.report.errors += seen

    async def import_file(self, resource: str, file: Path, what: str) -> Json:
        """Import a file that was exported; return the finished job."""
        return await self._import(resource, read_file(file), what, what)

    async def export(self, resource: str, file: Path, what: str) -> Json:
        """Export a table to a file; return the finished job."""
        job = await self.client.start_export(resource)
        done = await self._follow(job["id"], what)
        size, digest = await save(self.client.download(f"/api/v1/exports/{job['id']}/download"), file)
        self.report.moved.append(_moved(what, done))
        self.report.expect(f"{what}: {size:,} bytes arrived intact", (size, digest), (done["fileSize"], done["sha256"]))
        return done

    async def _import(self, resource: str, lines: AsyncIterable[bytes], shown_as: str, what: str) -> Json:
        job = await self.client.start_import(resource, lines)
        done = await self._follow(job["id"], shown_as)
        self.report.moved.append(_moved(what, done, errors=done["errorCount"]))
        return done

    async def _error_report(self, job_id: str) -> Counter[str]:
        """Download the error report, show its first errors, count all of them by name."""
        text = b"".join([chunk async for chunk in self.client.download(f"/api/v1/imports/{job_id}/errors/download")])
        errors = [msgspec.json.decode(line) for line in text.splitlines()]
        for error in errors[:SHOWN_ERRORS]:
            self.progress.console.print(f"  [dim]{escape(shown(error))}[/]", highlight=False, soft_wrap=True)
        return Counter(error["errorName"] for error in errors)

    async def _follow(self, job_id: str, what: str) -> Json:
        bar = self.add_bar(what)

        def show(job: Json) -> None:
            self.progress.update(bar, completed=job["progress"], note=f"{job['processedRecords']:,}")

        done = await self.client.follow(job_id, show)
        self.progress.update(bar, completed=100)
        return done


def shown(error: Json) -> str:
    """An error of the report on one line."""
    return f"record {error['recordIndex']}: {error['message']} ({error['errorName']})"


async def save(chunks: AsyncIterator[bytes], path: Path) -> tuple[int, str]:
    """Write a download to a file; return its size and SHA-256."""
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as out:
        async for chunk in chunks:
            size += len(chunk)
            digest.update(chunk)
            await asyncio.to_thread(out.write, chunk)
    return size, digest.hexdigest()


def _moved(what: str, job: Json, errors: int = 0) -> Moved:
    started, completed = (datetime.fromisoformat(job[name]) for name in ("startedAt", "completedAt"))
    return Moved(what, job["processedRecords"], (completed - started).total_seconds(), errors)


async def _chunks(lines: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Join lines into larger chunks, and yield to the event loop between them."""
    while piece := b"".join(islice(lines, CHUNK_LINES)):
        yield piece
        await asyncio.sleep(0)
