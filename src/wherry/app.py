"""Composition root of the API: creates its connection pool, its stores and its services, and mounts the routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta

from litestar import Litestar, Router
from litestar.datastructures import State

from wherry.accounts.api_tokens import ApiTokens
from wherry.accounts.capsule_key import warn_if_short
from wherry.accounts.links import PasswordLinks
from wherry.accounts.login import Logins
from wherry.accounts.mail import Mailer
from wherry.accounts.passwords import Passwords
from wherry.accounts.readers import Readers
from wherry.accounts.service import Accounts
from wherry.accounts.tokens import Tokens
from wherry.capsules.submission import Submissions
from wherry.database.api_pool import make_api_pool
from wherry.database.pooler import data_connections
from wherry.http.accounts import account_routes
from wherry.http.capsules import capsule_router
from wherry.http.cross_origin import CrossOrigin
from wherry.http.documentation import documentation
from wherry.http.exports import export_router
from wherry.http.framework import litestar_options
from wherry.http.health import health_router
from wherry.http.hosts import HostCheck, OwnAddress
from wherry.http.imports import import_router
from wherry.http.job_routes import keep_from_caches
from wherry.http.jobs import job_router
from wherry.http.queue import queue_router
from wherry.http.resources import resource_router
from wherry.http.security import authorize_transfer
from wherry.http.services import Services
from wherry.imports.intake import Intake
from wherry.jobs.feed import JobFeed
from wherry.jobs.notifications import Notifications
from wherry.jobs.webhook_urls import WebhookUrls
from wherry.settings import Settings, load_settings
from wherry.storage.store import Store
from wherry.tables.declarations import find_declarations
from wherry.tables.registry import Tables
from wherry.waiting import in_background


def create_app(settings: Settings | None = None) -> Litestar:
    """The application. It connects to the database when it starts.

    Args:
        settings: read from the environment if not given.

    Raises:
        Misconfigured: a setting is missing or invalid, or refers to something that cannot be used.
    """
    settings = settings or load_settings()
    app = Litestar(
        route_handlers=[*account_routes(), _transfer_router(), capsule_router, health_router],
        state=State({"services": _services(settings)}),
        lifespan=[_connected],
        openapi_config=documentation(),
        **litestar_options(),
    )
    checked = HostCheck(app.asgi_handler, OwnAddress(settings.public_url, settings.listens_on))
    app.asgi_handler = CrossOrigin(checked, settings.cors_allowed_origins)
    return app


def _transfer_router() -> Router:
    return Router(
        "/api/v1",
        route_handlers=[import_router, export_router, job_router, queue_router, resource_router],
        before_request=authorize_transfer,
        after_request=keep_from_caches,
        security=[{"token": []}],
    )


@asynccontextmanager
async def _connected(app: Litestar) -> AsyncIterator[None]:
    services: Services = app.state.services
    warn_if_short(services.capsule_api_key)
    with services.closing:
        async with (
            services.pool,
            services.notifications.listening(),
            in_background(services.feed.run(), name="job feed"),
            in_background(services.readers.run(), name="readers"),
        ):
            yield


def _services(settings: Settings) -> Services:
    pool = make_api_pool(
        settings.require_database_url(),
        direct_url=settings.require_direct_url(),
        name="wherry api",
        max_size=settings.database_pool_size,
        min_size=2,
        connection_class=data_connections(settings),
    )
    passwords, closing = Passwords(), ExitStack()
    closing.callback(passwords.close)
    tokens = Tokens(settings.require_jwt_secret(), timedelta(hours=settings.jwt_expiry_hours))
    smtp_url = settings.smtp_url
    mailer = None if smtp_url is None else Mailer.from_url(smtp_url.get_secret_value(), settings.smtp_from)
    if mailer is not None:
        closing.callback(mailer.close)
    base_url = settings.public_url or settings.local_url
    webhook_urls = WebhookUrls(settings)
    accounts, notifications = Accounts(pool, passwords, tokens), Notifications(settings.require_direct_url())
    import_store, export_store, capsule_store = settings.open_roots(Store)
    return Services(
        settings=settings,
        pool=pool,
        tables=Tables(pool, find_declarations(settings.tables_file)),
        import_store=import_store,
        export_store=export_store,
        capsule_store=capsule_store,
        accounts=accounts,
        logins=Logins(pool, passwords, tokens),
        password_links=PasswordLinks(pool, passwords, tokens, base_url=base_url, mailer=mailer),
        api_tokens=ApiTokens(pool),
        capsule_api_key=settings.capsule_api_key(),
        intake=Intake(pool, import_store, max_file_bytes=settings.import_max_file_size),
        submissions=Submissions(
            pool,
            capsule_store,
            max_body_bytes=settings.memvid_export_max_body_bytes,
            capacity=settings.memvid_export_queue_capacity,
            webhook_url=webhook_urls.of_job(None),
        ),
        webhook_urls=webhook_urls,
        notifications=notifications,
        feed=JobFeed(pool, notifications),
        readers=Readers(accounts),
        closing=closing,
    )
