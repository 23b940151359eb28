"""The steps of `wherry demo` with the built-in tables: imports, a round trip, a capsule."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec

from wherry.cli import demo_data
from wherry.cli.demo_graph import own_graph
from wherry.cli.demo_jobs import Jobs, save
from wherry.cli.demo_report import Moved
from wherry.memvid.search import found_in

SYMBOL = own_graph.__name__


async def move_records(jobs: Jobs, sizes: tuple[int, int, int], folder: Path) -> None:
    """Import this many users, articles and comments, then export the articles and import them again."""
    users, articles, comments = sizes
    await jobs.import_sample(demo_data.users(users))
    sample = demo_data.articles(articles, users)
    await jobs.import_sample(sample)
    await jobs.import_sample(demo_data.comments(comments, articles, users))
    await _round_trip(jobs, sample.total - sample.broken, folder)


async def _round_trip(jobs: Jobs, articles: int, folder: Path) -> None:
    """Export the articles, import that file, export again: no errors, and the same bytes."""
    first = await jobs.export("articles", folder / "articles.ndjson", "export articles")
    jobs.report.expect("the export contains every article", first["processedRecords"], articles)
    again = await jobs.import_file("articles", folder / "articles.ndjson", "re-import the export")
    counts = (again["successCount"], again["errorCount"])
    jobs.report.expect("re-importing the export refuses no records", counts, (articles, 0))
    second = await jobs.export("articles", folder / "again.ndjson", "export articles again")
    jobs.report.expect("the second export is identical, byte for byte", second["sha256"], first["sha256"])


async def make_capsule(jobs: Jobs, folder: Path) -> None:
    """Turn a graph of wherry's own source into an mv2 capsule, download it, search it."""
    graph = await asyncio.to_thread(own_graph)
    frames = len(graph["nodes"]) + len(graph["relationships"]) + 1
    what = "capsule of wherry's source"
    started = time.monotonic()
    job_id = await jobs.client.start_capsule(msgspec.json.encode(graph))
    bar = jobs.add_bar(what)
    done = await jobs.client.follow_capsule(
        job_id, lambda seen: jobs.progress.update(bar, completed=seen["progress"], note=seen["message"])
    )
    jobs.report.expect("the capsule is complete", done["status"], "completed")
    jobs.report.moved.append(Moved(what, frames, time.monotonic() - started, unit="frames"))
    if done["status"] != "completed":
        return
    file = folder / "own.mv2"
    _, digest = await save(jobs.client.download(done["artifact"]["downloadUrl"]), file)
    jobs.report.expect("the capsule arrived intact", digest, done["artifact"]["sha256"])
    hits = await asyncio.to_thread(found_in, file, SYMBOL)
    jobs.report.expect(f"searching the capsule finds {SYMBOL}", any(SYMBOL in hit for hit in hits), True)
