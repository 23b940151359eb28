"""Decides where webhooks may be sent to.

A URL must be on the public internet, unless the operator has chosen it: by `WEBHOOK_URL`, or its host by
`WEBHOOK_ALLOWED_HOSTS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import httpx

from wherry.errors import Invalid, Misconfigured, UrlNotAllowed
from wherry.settings import Settings
from wherry.storage.addresses import Address, host_of, is_allowed_host, is_public, judge

FIELD = "webhookUrl"


@dataclass(frozen=True)
class WebhookTarget:
    """Where one webhook is sent to: a URL, and which addresses its host may have."""

    url: str
    permits: Callable[[Address], bool]


class WebhookUrls:
    """The rules for the URLs of webhooks.

    Raises:
        Misconfigured: `WEBHOOK_URL` cannot be used, or is set without a secret.
    """

    def __init__(self, settings: Settings) -> None:
        self._operators = None if settings.webhook_url is None else _usable(settings.webhook_url.get_secret_value())
        self._allowed_hosts = settings.webhook_allowed_hosts
        self._are_signed = settings.webhook_key() is not None

    def requested(self, url: object) -> str | None:
        """The `webhookUrl` of a request, checked as far as that needs no DNS lookup; None if there is none.

        Raises:
            UrlNotAllowed: webhooks may not be sent there.
            Invalid: the server has no secret to sign webhooks with.
        """
        if url is None or url == "":
            return None
        if not self._are_signed:
            raise Invalid(f"{FIELD} cannot be used: this server has no WEBHOOK_SECRET", field=FIELD)
        return self.target(url).url

    def of_job(self, requested: str | None) -> str | None:
        """The URL to call when a job ends: the requested one, otherwise the operator's."""
        return requested or self._operators

    def target(self, url: object) -> WebhookTarget:
        """Where a webhook with this URL is sent to.

        Raises:
            UrlNotAllowed: webhooks may not be sent there.
        """
        checked = judge(url, (), _anywhere, field=FIELD)
        permits = _anywhere if self._is_chosen_by_operator(checked) else is_public
        return WebhookTarget(judge(checked, (), permits, field=FIELD), permits)

    def _is_chosen_by_operator(self, url: str) -> bool:
        if url == self._operators:
            return True
        # To `is_allowed_host`, an empty list allows every host.
        return bool(self._allowed_hosts) and is_allowed_host(host_of(httpx.URL(url)), self._allowed_hosts)


def _usable(url: str) -> str:
    try:
        return judge(url, (), _anywhere, field="WEBHOOK_URL")
    except UrlNotAllowed as error:
        raise Misconfigured(error.detail) from error


def _anywhere(_address: Address) -> bool:
    return True
