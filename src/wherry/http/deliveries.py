"""Webhooks in the API: the option that requests one, and the route that shows the attempts to deliver them."""

from __future__ import annotations

from typing import Annotated, Literal

from litestar import get
from msgspec import Meta, Struct

from wherry.accounts.models import Account
from wherry.errors import JobNotFound
from wherry.http.job_routes import owns
from wherry.http.problems import responses
from wherry.http.security import BY_TOKEN, AccountRequest
from wherry.http.services import Injected, Services
from wherry.jobs.deliveries import Delivery, deliveries_of
from wherry.jobs.models import Job
from wherry.storage.addresses import origin_of
from wherry.times import Time, rfc3339

WEBHOOK_URL = Meta(description="Receives a signed POST when the job ends.")
"""The option `webhookUrl` of imports and exports."""


class DeliveryAttempt(Struct, rename="camel"):
    """One request to the URL."""

    number: Annotated[int, Meta(description="Counted from 1.")]
    ts: Annotated[Time, Meta(description="When the request was sent.")]
    status: Annotated[int | None, Meta(description="The status of the response; null if there was none.")]
    error: Annotated[str | None, Meta(description="Why the webhook was not delivered; null if it was.")]
    duration_ms: int


class WebhookDelivery(Struct, rename="camel"):
    """A webhook, of which each end of a job has its own."""

    id: Annotated[str, Meta(description="The `webhook-id` of every request for it.")]
    url: Annotated[
        str | None,
        Meta(description="The `webhookUrl` of your request. Of other URLs, operators see the origin, others null."),
    ]
    type: Annotated[str, Meta(description="`job.` and the job's status.")]
    status: Literal["pending", "delivered", "failed"]
    next_attempt_at: Annotated[Time | None, Meta(description="When it is sent next; null if it is not pending.")]
    attempts: list[DeliveryAttempt]


class DeliveriesAnswer(Struct):
    """The webhooks of a job."""

    deliveries: list[WebhookDelivery]


@get(
    "/jobs/{job_id:str}/deliveries",
    response_description="The webhooks of the job, oldest first.",
    responses=responses(*BY_TOKEN, JobNotFound),
)
async def list_deliveries(
    request: AccountRequest, job: Injected[Job], services: Injected[Services]
) -> DeliveriesAnswer:
    """The webhooks that a job has sent, with every attempt to deliver them."""
    async with services.pool.connection() as connection:
        found = await deliveries_of(connection, job.id)
    return DeliveriesAnswer([_shown(delivery, _visible(delivery.url, request.user, job)) for delivery in found])


def _visible(url: str, reader: Account, job: Job) -> str | None:
    """What a reader may see of a URL: its path, too, may be a secret."""
    if owns(reader, job) and url == job.options.get("webhookUrl"):
        return url
    return origin_of(url) if reader.operator else None


def _shown(delivery: Delivery, url: str | None) -> WebhookDelivery:
    attempts = [
        DeliveryAttempt(each.number, rfc3339(each.ts), each.status, each.error, each.duration_ms)
        for each in delivery.attempts
    ]
    return WebhookDelivery(
        id=delivery.id,
        url=url,
        type=delivery.type,
        status=delivery.status,
        next_attempt_at=rfc3339(delivery.next_attempt_at),
        attempts=attempts,
    )
