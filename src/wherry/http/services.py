"""The services that handlers use: built once by `app.py`, stored in `app.state.services`, and injected into handlers as
the argument `services: Injected[Services]`."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar, cast

from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from wherry.accounts.api_tokens import ApiTokens
from wherry.accounts.links import PasswordLinks
from wherry.accounts.login import Logins
from wherry.accounts.quota import OpenUploads
from wherry.accounts.readers import Readers
from wherry.accounts.service import Accounts
from wherry.capsules.submission import Submissions
from wherry.database.pools import Pool
from wherry.imports.intake import Intake
from wherry.jobs.feed import JobFeed
from wherry.jobs.notifications import Notifications
from wherry.jobs.webhook_urls import WebhookUrls
from wherry.settings import Settings
from wherry.storage.store import Store
from wherry.tables.registry import Tables

T = TypeVar("T")

Injected: TypeAlias = NamedDependency[SkipValidation[T]]
"""A handler's argument that comes from the application, not from the request."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """The parts of the application that its routes use."""

    settings: Settings
    pool: Pool
    tables: Tables
    import_store: Store
    export_store: Store
    capsule_store: Store
    accounts: Accounts
    logins: Logins
    password_links: PasswordLinks
    api_tokens: ApiTokens
    capsule_api_key: str | None = field(repr=False)
    intake: Intake
    submissions: Submissions
    webhook_urls: WebhookUrls
    notifications: Notifications
    feed: JobFeed
    readers: Readers
    uploads: OpenUploads = field(default_factory=OpenUploads)
    closing: ExitStack = field(default_factory=ExitStack)
    """Stops dedicated threads when the application shuts down."""


def services_of(request: ASGIConnection[Any, Any, Any, Any]) -> Services:
    """The services of a request's application: for guards, and as the dependency `services` of handlers."""
    return cast(Services, request.app.state.services)
