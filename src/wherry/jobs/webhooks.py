"""Webhooks: one signed POST per end of a job, as described by Standard Webhooks.

The statement that ends a job also writes its row of `webhook_events` and a task for the queue. A failed attempt raises
`DeliveryFailed`, by which the queue tries again. A receiver may get an event more than once, always with the same id.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import structlog

from wherry.database.pools import Pool
from wherry.database.queries import fetch_one, load
from wherry.errors import DeliveryFailed, ErrorCode, SendingFailed, UrlNotAllowed
from wherry.jobs.models import Job
from wherry.jobs.view import any_job, for_operator
from wherry.jobs.webhook_urls import WebhookUrls
from wherry.storage.outgoing import send
from wherry.times import rfc3339

ATTEMPT_SECONDS = 10.0
"""Time limit for an attempt, until the response's header fields have arrived. The response's body is not read."""

GONE = 410

_LEFT_OUT: dict[str, Any] = {"checkpoint": None}
"""Columns that a snapshot lacks."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Result:
    """How an attempt ended. If it gives up, another one would not help."""

    response_status: int | None
    error: str | None
    gives_up: bool = False


class Webhooks:
    """Delivers events.

    Args:
        pool: of the database.
        key: signs the requests; None if no secret is set.
        urls: where webhooks may be sent to.
        waits: the seconds before each further attempt. After the last one, the event has failed.
        attempt_seconds: see `ATTEMPT_SECONDS`.
    """

    def __init__(
        self,
        pool: Pool,
        key: bytes | None,
        urls: WebhookUrls,
        waits: Sequence[float],
        *,
        attempt_seconds: float = ATTEMPT_SECONDS,
    ) -> None:
        self._pool = pool
        self._key = key
        self._urls = urls
        self._waits = list(waits)
        self._attempt_seconds = attempt_seconds

    async def deliver(self, event_id: str) -> None:
        """Try once to deliver an event that is still pending, and record the attempt.

        Raises:
            DeliveryFailed: it was not delivered, and will be sent again.
        """
        async with self._pool.connection() as connection:
            event = await fetch_one(connection, load("webhooks")["event"], {"id": event_id})
        if event is None:
            return
        began = time.monotonic()
        result = await self._attempt(event)
        duration_ms = round((time.monotonic() - began) * 1000)
        log.info("webhook.attempt", webhookId=event_id, status=result.response_status, error=result.error)
        await self._record(event_id, result, duration_ms)

    async def _attempt(self, event: Mapping[str, Any]) -> _Result:
        if self._key is None:
            return _Result(None, "The server has no secret to sign the webhook with")
        try:
            body = _body(event)
            target = self._urls.target(event["url"])
            async with (
                asyncio.timeout(self._attempt_seconds),
                send(
                    "POST",
                    target.url,
                    permits=target.permits,
                    headers=signed_headers(self._key, event["id"], int(time.time()), body),
                    content=body,
                    stall_seconds=self._attempt_seconds,
                ) as response,
            ):
                return _judged(response)
        except UrlNotAllowed as error:
            return _Result(None, error.detail, gives_up=True)
        except SendingFailed as error:
            return _Result(None, error.message, gives_up=error.code is ErrorCode.URL_NOT_ALLOWED)
        except (TimeoutError, httpx.TimeoutException):
            return _Result(None, f"The URL did not respond within {self._attempt_seconds:g} seconds")
        except httpx.HTTPError:
            return _Result(None, "The connection failed or broke")
        except Exception:
            log.exception("a webhook could not be sent", webhookId=event["id"])
            return _Result(None, "An internal error; the server's log has the details")

    async def _record(self, event_id: str, result: _Result, duration_ms: int) -> None:
        values = {
            "id": event_id,
            "delivered": result.error is None,
            "gives_up": result.gives_up,
            "waits": self._waits,
            "response_status": result.response_status,
            "error": result.error,
            "duration_ms": duration_ms,
        }
        async with self._pool.connection() as connection:
            recorded = await fetch_one(connection, load("webhooks")["record_attempt"], values)
        if recorded is not None and recorded["retry_seconds"] is not None:
            raise DeliveryFailed(result.error or "", retry_seconds=recorded["retry_seconds"])


def _body(event: Mapping[str, Any]) -> bytes:
    """The same bytes at every attempt. The operator's URL gets what an operator may see of the job."""
    job = any_job(job_of_snapshot(event["data"]))
    data = job if job.webhook_url is not None else for_operator(job)
    return msgspec.json.encode({"type": event["type"], "timestamp": rfc3339(event["ended_at"]), "data": data})


def _judged(response: httpx.Response) -> _Result:
    if response.is_success:
        return _Result(response.status_code, None)
    redirect = "; redirects are not followed" if response.is_redirect else ""
    error = f"The URL responded with status {response.status_code}{redirect}"
    return _Result(response.status_code, error, gives_up=response.status_code == GONE)


def signed_headers(key: bytes, event_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The header fields of a webhook."""
    return {
        "Content-Type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(key, event_id, timestamp, body),
    }


def signature(key: bytes, event_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`."""
    digest = hmac.digest(key, f"{event_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{b64encode(digest).decode()}"


def job_of_snapshot(snapshot: dict[str, Any]) -> Job:
    """A job as it was when it ended, from its row as jsonb; of what the snapshot leaves out, nothing is shown."""
    return msgspec.convert(_LEFT_OUT | snapshot, Job)
