"""All settings, read once from the environment and a `.env` file.

If variables are invalid, `Misconfigured` names each of them and says what it must be. Secrets never appear in a repr or
a log.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from wherry.errors import Misconfigured
from wherry.setting_values import (
    MIN_SECRET_BYTES,
    BaseUrl,
    BindAddress,
    Bytes,
    Count,
    Days,
    Hosts,
    HostsOrAny,
    Hours,
    LogLevel,
    Networks,
    Origins,
    PortNumber,
    PostgresUrl,
    Roles,
    Seconds,
    Secret,
    StrongSecret,
    Waits,
    WebhookSecret,
    is_from_file,
    key_of_webhook_secret,
)

OBSOLETE = ("REDIS_URL", "ERROR_REPORT_STORAGE_PATH")
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Wildcard addresses, and the loopback address that reaches a server on them."""

Opened = TypeVar("Opened")


class Settings(BaseSettings):
    """The settings, frozen. A field is named like its variable, in lower case."""

    model_config = SettingsConfigDict(
        env_file=".env", frozen=True, extra="ignore", hide_input_in_errors=True, validate_default=False
    )

    # the service
    wherry_data_dir: Path = Path(".wherry")
    database_url: PostgresUrl | None = None
    database_direct_url: PostgresUrl | None = None
    """The same database without the transaction pooler that `database_url` then is; see `has_pooler`."""
    export_database_url: PostgresUrl | None = None
    pg_bindir: str | None = None
    host: str = "127.0.0.1"
    port: PortNumber = 3000
    public_url: BaseUrl | None = None
    trusted_proxies: Networks = ()
    cors_allowed_origins: Origins = ("*",)
    database_pool_size: Count = 10

    # accounts
    jwt_secret: StrongSecret | None = None
    jwt_expiry_hours: Hours = 24
    transfer_roles: Roles = ("admin",)
    registration: Literal["open", "closed"] = "open"
    smtp_url: Secret | None = None
    smtp_from: str = "wherry@localhost"

    # jobs
    job_worker_concurrency: Count = 4
    job_retention_days: Days = 30

    # imports
    import_batch_size: Count = 5000
    import_max_file_size: Bytes = 1 << 30
    import_max_records: Count = 1_000_000
    import_max_record_bytes: Bytes = 16 << 20
    import_max_error_bytes: Bytes = 256 << 20
    import_allowed_hosts: HostsOrAny = ()
    import_storage_path: str | None = None
    import_error_report_download_base_url: BaseUrl = ""
    import_retention_hours: Hours = 168
    import_rate_limit_per_hour: Count = 1000
    import_concurrent_limit_user: Count = 100

    # exports
    export_batch_size: Count = 50_000
    export_max_records: Count = 1_000_000
    export_stream_max_limit: Count = 1000
    export_storage_path: str | None = None
    export_file_retention_hours: Hours = 24
    export_download_base_url: BaseUrl = ""
    export_rate_limit_per_hour: Count = 1000
    export_concurrent_limit_user: Count = 100

    # tables
    tables_file: Path | None = None

    download_redirect: bool = False

    # capsules
    memvid_export_api_key: Secret | None = None
    memvid_export_bind_addr: BindAddress | None = None
    memvid_export_root: str | None = None
    memvid_export_retention_seconds: Seconds = 86_400
    memvid_export_queue_capacity: Count = 128
    memvid_export_max_body_bytes: Bytes = 512 << 20

    # webhooks
    webhook_url: Secret | None = None
    webhook_secret: WebhookSecret | None = None
    webhook_allowed_hosts: Hosts = ()
    webhook_retry_seconds: Waits = (5, 25, 90, 480, 1800, 3600, 7200, 14_400, 28_800, 30_000)
    """The waits before each further attempt; by default, they add up to a day."""

    # logs
    log_level: LogLevel = "info"
    log_pretty: bool = False

    @model_validator(mode="before")
    @classmethod
    def _prepare(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Warn about obsolete variables, drop blank values (such as `${X:-}` in compose), and read each `…_FILE`."""
        for name in OBSOLETE:
            if os.environ.get(name) or given.get(name.lower()):
                warnings.warn(f"{name} is set but not needed, and ignored", stacklevel=1)
        present = {name: value for name, value in given.items() if not _is_blank(value)}
        for name in cls.model_fields:
            # A `…_FILE` variable in the environment overrides the one in `.env`, even if it is blank.
            path = os.environ.get(f"{name}_file".upper(), given.get(f"{name}_file"))
            if is_from_file(cls.model_fields[name].annotation) and not _is_blank(path):
                present[name] = _from_file(name, str(path), present.get(name))
        return present

    @field_validator("database_direct_url")
    @classmethod
    def _has_database(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url is not None and info.data.get("database_url", "invalid") is None:
            raise ValueError("needs DATABASE_URL, the URL of a pooler in front of the same database")
        return url

    @property
    def local_url(self) -> str:
        """The URL of the API on this machine: HOST and PORT, or loopback if HOST is a wildcard address."""
        host = LOOPBACK.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def listens_on(self) -> tuple[str, ...]:
        """The hosts that the API listens on."""
        second = self.memvid_export_bind_addr
        return (self.host,) if second is None else (self.host, second.rpartition(":")[0].strip("[]"))

    def open_roots(self, open_root: Callable[[str], Opened]) -> tuple[Opened, Opened, Opened]:
        """Open the storage of imports, exports and capsules, in this order.

        Args:
            open_root: gets a directory or the URL of a bucket.

        Raises:
            Misconfigured: one of them cannot be opened; names the variable to change.
        """
        return (
            self._open_root("import_storage_path", "imports", open_root),
            self._open_root("export_storage_path", "exports", open_root),
            self._open_root("memvid_export_root", "capsules", open_root),
        )

    def _open_root(self, name: str, folder: str, open_root: Callable[[str], Opened]) -> Opened:
        root = getattr(self, name)
        try:
            return open_root(root or str(self.wherry_data_dir / folder))
        except Misconfigured as error:
            variable, wanted = "WHERRY_DATA_DIR", "a directory that can be created"
            if root is not None:
                variable, wanted = name.upper(), f"{wanted}, or the URL of a bucket (s3://, gs://, az://)"
            reason = str(error).partition("\n")[0]  # the other lines show obstore's internals
            raise Misconfigured(f"{variable} must be {wanted}: {reason}") from error

    def require_database_url(self) -> str:
        """The database's URL; raises `Misconfigured` if it is not set."""
        if self.database_url is None:
            raise Misconfigured("DATABASE_URL must be set: a URL that begins with postgresql://")
        return self.database_url

    def require_direct_url(self) -> str:
        """The URL of the database itself, without a pooler; raises `Misconfigured` if no database is set."""
        return self.database_direct_url or self.require_database_url()

    @property
    def has_pooler(self) -> bool:
        """Whether `DATABASE_URL` is the URL of a transaction pooler: it is if `DATABASE_DIRECT_URL` differs from it."""
        return self.database_direct_url not in (None, self.database_url)

    def require_jwt_secret(self) -> str:
        """The key that signs tokens; raises `Misconfigured` if it is not set."""
        if self.jwt_secret is None:
            raise Misconfigured(f"JWT_SECRET must be set: at least {MIN_SECRET_BYTES} bytes")
        return self.jwt_secret.get_secret_value()

    def webhook_key(self) -> bytes | None:
        """The key that signs webhooks, or None if no secret is set; raises `Misconfigured` if WEBHOOK_URL lacks it."""
        if self.webhook_secret is not None:
            return key_of_webhook_secret(self.webhook_secret.get_secret_value())
        if self.webhook_url is not None:
            raise Misconfigured("WEBHOOK_SECRET must be set, because WEBHOOK_URL is: whsec_ and 32 bytes in base64")
        return None

    def capsule_api_key(self) -> str | None:
        """The static key of the capsule routes, or None if none is set."""
        return None if self.memvid_export_api_key is None else self.memvid_export_api_key.get_secret_value()


def load_settings(**overrides: Any) -> Settings:
    """Read the environment and `.env`.

    Args:
        overrides: values by field name, which win over both; None counts as not given. Names that begin with an
            underscore are options of pydantic-settings.

    Raises:
        Misconfigured: names every invalid variable, and says what it must be.
    """
    given = {name: value for name, value in overrides.items() if value is not None or name.startswith("_")}
    try:
        return Settings(**given)
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f".env must be UTF-8 text that can be read: {error}") from error
    except ValidationError as error:
        raise Misconfigured("\n".join(dict.fromkeys(map(_explained, error.errors())))) from None


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _from_file(name: str, path: str, given: object) -> str:
    """Read a setting from a file; surrounding white space is removed.

    Raises:
        Misconfigured: the file cannot be read, or is empty, or the setting is also given and differs.
    """
    setting, variable = name.upper(), f"{name}_file".upper()
    try:
        value = Path(path).expanduser().read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{variable} must name a readable text file: {error}") from error
    if not value:
        raise Misconfigured(f"{variable} must name a file with the value of {setting}: {path} is empty")
    if given is not None and given != value:
        raise Misconfigured(f"{setting} and {variable} are both set, to different values: set one of them")
    return value


def _explained(fault: Mapping[str, Any]) -> str:
    variable = str(fault["loc"][0]).upper() if fault["loc"] else "settings"
    return f"{variable}: {fault['msg'].removeprefix('Value error, ').replace('Input should be', 'must be')}"
