"""The log lines of one run: `job.started`, `job.progress`, then `job.completed`, `job.released` or `job.superseded`.

Every line has the job's id and kind, the run's epoch, and the id of the request that created the job. So does anything
else that is logged inside `lines_of`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog

from wherry.jobs.ledger import Position
from wherry.jobs.models import Job

log = structlog.get_logger(__name__)


class RunLog:
    """Writes the lines of the run that `job` was claimed for."""

    def __init__(self, job: Job) -> None:
        self._claimed = job
        self._started = time.monotonic()

    def started(self) -> None:
        """The run begins."""
        log.info("job.started", **_figures(self._claimed))

    def settled(self, job: Job, reason: str | None = None) -> None:
        """The run has ended; `job` is now finished, or queued again for this reason."""
        if not job.finished:
            self.released(job, reason)
            return
        rate = round(self._processed_by_run(job) / self._seconds())
        log.info("job.completed", **_figures(job), **self._duration(), rowsPerSecond=rate, **_failure(job.error))

    def released(self, job: Job | None, reason: str | None) -> None:
        """The job is queued again; `job` is its current row, or None if that could not be read."""
        log.info("job.released", **_figures(job or self._claimed), **self._duration(), reason=reason)

    def lost(self, job: Job | None) -> None:
        """The run could not write its end; `job` is its current row, or None if that could not be read."""
        if job is not None and job.epoch == self._claimed.epoch:  # cancelled, or settled before
            self.settled(job)
            return
        by = None if job is None else job.epoch
        log.warning("job.superseded", **_figures(job or self._claimed), **self._duration(), byEpoch=by)

    def _duration(self) -> dict[str, int]:
        return {"durationMs": round(self._seconds() * 1000)}

    def _seconds(self) -> float:
        return max(time.monotonic() - self._started, 0.001)

    def _processed_by_run(self, job: Job) -> int:
        # A run without a checkpoint starts from the beginning, and its counters from zero.
        before = 0 if self._claimed.checkpoint is None else self._claimed.processed_records
        return _processed(job) - before


@contextmanager
def lines_of(job: Job) -> Iterator[RunLog]:
    """Add the run's ids to every line that is logged inside."""
    identity = {"jobId": str(job.id), "kind": job.kind, "epoch": job.epoch, "requestId": job.request_id}
    with structlog.contextvars.bound_contextvars(**identity):
        yield RunLog(job)


def log_progress(position: Position) -> None:
    """One step of a run, at debug level."""
    log.debug(
        "job.progress",
        progress=round(position.progress, 1),
        processedRecords=position.success_count + position.error_count,
        errorCount=position.error_count,
    )


def _figures(job: Job) -> dict[str, Any]:
    processed = _processed(job)
    return {
        "resource": job.resource,
        "format": job.format,
        "status": job.status,
        "processedRecords": processed,
        "errorCount": job.error_count,
        "errorRate": round(job.error_count / processed, 4) if processed else 0.0,
        "fileSize": _file_size(job),
    }


def _processed(job: Job) -> int:
    """Records so far. A job that does not count while it works has its total once its artifact is complete."""
    return job.processed_records or (0 if job.artifact is None else job.total_records or 0)


def _file_size(job: Job) -> int | None:
    """Size of the artifact, or else of an import's file, in bytes; None if it is not known."""
    size = (job.artifact or {}).get("size") or (job.source or {}).get("fileSize")
    return None if size is None else int(size)


def _failure(error: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if error is None else {"code": error.get("code"), "reason": error.get("message")}
