"""Runs capsule jobs: turns the stored request into a verified capsule in storage.

A run that fails leaves no file. A job that is claimed again starts over.
"""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import Mapping
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import structlog

from wherry.capsules.offload import transform
from wherry.capsules.process import Transformed
from wherry.errors import EXPORT_FAILED, CapsuleFailed, JobFailed
from wherry.jobs.models import Advance, Outcome
from wherry.jobs.runs import Run
from wherry.jobs.states import Status
from wherry.memvid.writer import WriterEvent, WrittenCapsule, write_capsule
from wherry.settings import Settings
from wherry.storage.store import Store
from wherry.storage.workspaces import workspace
from wherry.times import now
from wherry.waiting import with_ticks

LOOK_SECONDS = 0.8
"""How often a run checks whether it was cancelled: its processes must be gone within a second."""

EVENT_SECONDS = 1.0
"""Interval between two events of one stage; the event is a heartbeat if nothing has changed."""

TRANSFORM_SHARE = 10.0
STORE_SHARE = 95.0

MAX_SLUG = 80
MAX_BASE_NAME = 1000
"""Only this many characters of a base name are considered, far more than fit in a file name."""

_NOT_SLUG = re.compile(r"[^a-z0-9]+")

log = structlog.get_logger(__name__)


class CapsuleRunner:
    """The runner of the kind `capsule`."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._keep_for = timedelta(seconds=settings.memvid_export_retention_seconds)

    async def run(self, run: Run) -> Outcome:
        """Make the capsule; see `Runner`."""
        report = _Progress(run)
        if run.job.options["semanticEnabled"]:
            notice = Advance(message="Semantic search is not configured here: semanticEnabled is ignored")
            await run.advance(notice, event="stage_progress", meta={"ignored": True})
        with workspace() as folder:
            frames = await self._transform(run, folder, report)
            written = await self._write(folder, frames, report)
            return await self._keep(run, written, frames, report)

    async def _transform(self, run: Run, folder: Path, report: _Progress) -> Transformed:
        reading = partial(report.advance, "transform", 0.0, 0.0, "Reading the graph")
        await reading()
        request = await with_ticks(self._request(run, folder), reading, seconds=LOOK_SECONDS)
        turning = partial(report.advance, "transform", TRANSFORM_SHARE / 2, 50.0, "Turning the graph into frames")
        transformed = await with_ticks(transform(request, folder / "frames"), turning, seconds=LOOK_SECONDS)
        text = f"{transformed.nodes} nodes and {transformed.relationships} relationships become frames"
        await report.advance("transform", TRANSFORM_SHARE, 100.0, text)
        return transformed

    async def _request(self, run: Run, folder: Path) -> Path:
        """The request as a local file, copied from a remote store if need be."""
        assert run.job.source is not None
        key = run.job.source["key"]
        try:
            if (local := self._store.local_path(key)) is not None:
                await asyncio.to_thread(local.stat)
                return local
            file = folder / "request.json"
            with file.open("wb") as out:
                async for chunk in self._store.read(key):
                    await asyncio.to_thread(out.write, chunk)
        except FileNotFoundError as error:
            raise JobFailed(EXPORT_FAILED, "The stored request is gone") from error
        return file

    async def _write(self, folder: Path, frames: Transformed, report: _Progress) -> WrittenCapsule:
        try:
            return await write_capsule(
                folder / "frames",
                frames.frames,
                folder / "capsule.mv2",
                workspace=folder / "writer",
                on_progress=report.writer_event,
                advice=frames.advice,
            )
        except CapsuleFailed as error:
            raise JobFailed.by_capsule(error) from error

    async def _keep(self, run: Run, written: WrittenCapsule, frames: Transformed, report: _Progress) -> Outcome:
        storing = partial(report.advance, "finalize", STORE_SHARE, 100.0, "Storing the capsule")
        await storing()
        key = f"{run.job.id}/{run.lease.epoch}.mv2"
        try:
            moving = self._store.move_file(key, written.path, sha256=written.sha256)
            stored = await with_ticks(moving, storing, seconds=LOOK_SECONDS)
            await report.advance("finalize", 99.0, 100.0, "Stored the capsule")
        except BaseException:
            await self._store.discard(key)
            raise
        log.debug("capsule made", frames=written.frames, way=written.way, bytes=written.size)
        return Outcome(
            status=Status.SUCCEEDED,
            artifact={
                "key": key,
                "fileName": capsule_name(run.job.options["baseName"], now().date()),
                "contentType": "application/octet-stream",
                "size": stored.size,
                "sha256": stored.sha256,
                "frames": written.frames,
                "nodes": frames.nodes,
                "relationships": frames.relationships,
                "way": written.way,
                "search": written.search,
                "writtenBy": written.version,
            },
            keep_for=self._keep_for,
            total_records=written.frames,
            message="Capsule ready to download",
            discard=partial(self._store.discard, key),
        )


class _Progress:
    """Reports progress to the ledger, and so finds out whether the run must end."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._said: Advance | None = None
        self._said_at = 0.0

    async def writer_event(self, event: WriterEvent) -> None:
        """Report the writer's progress, as its share of the whole."""
        progress = TRANSFORM_SHARE + (STORE_SHARE - TRANSFORM_SHARE) * event.progress
        meta: dict[str, object] = {} if event.way is None else {"way": event.way}
        if event.failed:
            meta["failed"] = True
        await self.advance(event.stage, progress, 100 * event.stage_progress, event.message, meta)

    async def advance(
        self, stage: str, progress: float, stage_progress: float, message: str, meta: Mapping[str, object] | None = None
    ) -> None:
        """Report progress; log an event if the stage is new, something failed, or the last event is a second old.

        Raises:
            LeaseLost, JobCancelled, JobReleased: the run must end.
        """
        moment = asyncio.get_running_loop().time()
        step = Advance(stage=stage, progress=progress, stage_progress=stage_progress, message=message)
        new = self._said is None or stage != self._said.stage or bool(meta and meta.get("failed"))
        due = new or moment - self._said_at >= EVENT_SECONDS
        if not due:
            await self._run.advance(step)
            return
        event = "stage_heartbeat" if step == self._said and not new else "stage_progress"
        await self._run.advance(step, event=event, meta=meta)
        self._said, self._said_at = step, moment


def capsule_name(base_name: str, day: date) -> str:
    """``{base name as a slug}-gitnexus-mem_capsule-{YYYY-MM-DD}.mv2``, safe in a file system and in a header."""
    return f"{slug(base_name)}-gitnexus-mem_capsule-{day.isoformat()}.mv2"


def slug(text: str) -> str:
    """At most 80 lower-case ASCII letters and digits, separated by single hyphens; `project` if none are left."""
    plain = unicodedata.normalize("NFKD", text[:MAX_BASE_NAME]).encode("ascii", "ignore").decode()
    return _NOT_SLUG.sub("-", plain.lower()).strip("-")[:MAX_SLUG].rstrip("-") or "project"
