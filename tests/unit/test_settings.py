"""Settings: defaults, sources, and messages about bad values."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from wherry.cli.demo import _bare_settings
from wherry.errors import Misconfigured
from wherry.setting_values import is_from_file
from wherry.settings import Settings, load_settings
from wherry.storage.store import Store


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name}_file".upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def test_every_setting_has_a_default() -> None:
    settings = load_settings()
    assert (settings.port, settings.job_worker_concurrency, settings.import_max_file_size) == (3000, 4, 1 << 30)
    assert settings.transfer_roles == ("admin",)
    assert (settings.import_rate_limit_per_hour, settings.export_rate_limit_per_hour) == (1000, 1000)
    assert (settings.import_concurrent_limit_user, settings.export_concurrent_limit_user) == (100, 100)


def test_the_environment_overrides_the_dot_env_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("PORT=4000\nIMPORT_BATCH_SIZE=7\n")
    monkeypatch.setenv("PORT", "5000")
    settings = load_settings()
    assert (settings.port, settings.import_batch_size) == (5000, 7)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "harbour", "PORT: must be a valid integer"),
        ("IMPORT_BATCH_SIZE", "0", "IMPORT_BATCH_SIZE: must be greater than or equal to 1"),
        ("JWT_SECRET", "short", "JWT_SECRET: must be at least 32 bytes"),
        ("JWT_SECRET", "superSecret", "JWT_SECRET: must be at least 32 bytes and not a well-known default"),
        ("DATABASE_URL", "mysql://localhost/x", "DATABASE_URL: must be a URL that begins with postgresql://"),
        ("DATABASE_URL", "postgresql://localhost/x?schema=other", "must not name a schema other than public"),
        ("TRANSFER_ROLES", "captain", "TRANSFER_ROLES: must be 'admin' or 'user'"),
        ("MEMVID_EXPORT_BIND_ADDR", "nowhere", "MEMVID_EXPORT_BIND_ADDR: must be an address of the form host:port"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL: must be 'trace', 'debug'"),
        (
            "EXPORT_FILE_RETENTION_HOURS",
            "99999999",
            "EXPORT_FILE_RETENTION_HOURS: must be less than or equal to 876000",
        ),
        ("IMPORT_RETENTION_HOURS", "876001", "IMPORT_RETENTION_HOURS: must be less than or equal to 876000"),
        ("JWT_EXPIRY_HOURS", "876001", "JWT_EXPIRY_HOURS: must be less than or equal to 876000"),
        ("JOB_RETENTION_DAYS", "36501", "JOB_RETENTION_DAYS: must be less than or equal to 36500"),
        (
            "MEMVID_EXPORT_RETENTION_SECONDS",
            "9" * 12,
            "MEMVID_EXPORT_RETENTION_SECONDS: must be less than or equal to 3153",
        ),
        ("PUBLIC_URL", "not a url", "PUBLIC_URL: must be a URL such as https://host/path"),
        ("PUBLIC_URL", "ftp://example.com", "PUBLIC_URL: must be a URL such as https://host/path"),
        ("PUBLIC_URL", "http://:80", "PUBLIC_URL: must be a URL such as https://host/path"),
        ("EXPORT_DOWNLOAD_BASE_URL", "https://", "EXPORT_DOWNLOAD_BASE_URL: must be a URL such as https://host/path"),
        ("EXPORT_DOWNLOAD_BASE_URL", "https://a.com/?x=1", "without a query"),
        ("IMPORT_ERROR_REPORT_DOWNLOAD_BASE_URL", "/errors", "BASE_URL: must be a URL such as https://host/path"),
        ("IMPORT_ALLOWED_HOSTS", "http://a.com", "IMPORT_ALLOWED_HOSTS: must be bare host names"),
        ("IMPORT_ALLOWED_HOSTS", "b.com, a.com:443", "or IP addresses, not a.com:443"),
        ("IMPORT_ALLOWED_HOSTS", "*.a.com", "IMPORT_ALLOWED_HOSTS: must be bare host names"),
        ("IMPORT_ALLOWED_HOSTS", "a.com,*", "IMPORT_ALLOWED_HOSTS: must be bare host names"),
        ("TRUSTED_PROXIES", "*", "TRUSTED_PROXIES: must be IP addresses or networks"),
        ("TRUSTED_PROXIES", "10.0.0.1, proxy", "such as 10.0.0.0/8, not proxy"),
        (
            "CORS_ALLOWED_ORIGINS",
            "app.example",
            "origins such as https://app.example:8443, separated by commas, not app",
        ),
        ("CORS_ALLOWED_ORIGINS", "https://app.example/path", "not https://app.example/path"),
        ("WEBHOOK_ALLOWED_HOSTS", "*", "WEBHOOK_ALLOWED_HOSTS: must be bare host names"),
        ("WEBHOOK_SECRET", "MDEy" * 8, "WEBHOOK_SECRET: must be whsec_ followed by 24 to 64 bytes in base64"),
        ("WEBHOOK_SECRET", "whsec_" + "MDEy" * 7, "24 to 64 bytes"),
        ("WEBHOOK_SECRET", "whsec_" + "MDEy" * 22, "24 to 64 bytes"),
        ("WEBHOOK_SECRET", "whsec_" + "M_Ey" * 8, "24 to 64 bytes"),
        ("WEBHOOK_RETRY_SECONDS", "5, soon", "WEBHOOK_RETRY_SECONDS: must be a valid integer"),
        ("WEBHOOK_RETRY_SECONDS", "0", "WEBHOOK_RETRY_SECONDS: must be greater than or equal to 1"),
        ("WEBHOOK_RETRY_SECONDS", ",", "WEBHOOK_RETRY_SECONDS: "),
    ],
)
def test_a_bad_value_is_reported_with_its_variable_and_what_it_must_be(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured) as refused:
        load_settings()
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("PUBLIC_URL", "https://wherry.example/", "https://wherry.example"),
        ("PUBLIC_URL", "http://[::1]:8080/in/", "http://[::1]:8080/in"),
        ("IMPORT_ALLOWED_HOSTS", "a.com, Files.b-c.org., 2001:db8::1,192.0.2.1", 4),
        ("IMPORT_ALLOWED_HOSTS", "*", 0),
        ("IMPORT_ALLOWED_HOSTS", "", 0),
        ("EXPORT_FILE_RETENTION_HOURS", "876000", 876_000),
        ("WEBHOOK_RETRY_SECONDS", "1, 2,3", 3),
    ],
)
def test_a_good_value_is_read(monkeypatch: pytest.MonkeyPatch, name: str, value: str, read: object) -> None:
    monkeypatch.setenv(name, value)
    found = getattr(load_settings(), name.lower())
    assert (len(found) if isinstance(found, tuple) else found) == read


@pytest.mark.parametrize("blank", ["", " "])
@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_blank_value_counts_as_absent(monkeypatch: pytest.MonkeyPatch, name: str, blank: str) -> None:
    default = getattr(load_settings(), name)
    monkeypatch.setenv(name.upper(), blank)
    assert getattr(load_settings(), name) == default


def test_a_dot_env_file_that_is_not_text_is_reported() -> None:
    Path(".env").write_bytes(b"PORT=\xff\n")
    with pytest.raises(Misconfigured, match=r"^\.env must be UTF-8 text"):
        load_settings()


def test_all_bad_values_are_reported_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "x")
    monkeypatch.setenv("EXPORT_BATCH_SIZE", "y")
    with pytest.raises(Misconfigured) as refused:
        load_settings()
    assert "PORT:" in str(refused.value)
    assert "EXPORT_BATCH_SIZE:" in str(refused.value)


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "s3cr3t-" * 8
    for name in ("JWT_SECRET", "MEMVID_EXPORT_API_KEY", "SMTP_URL"):
        monkeypatch.setenv(name, secret)
    assert secret not in repr(load_settings())
    monkeypatch.setenv("JWT_SECRET", "not-long-enough-s3cr3t")
    with pytest.raises(Misconfigured) as refused:
        load_settings()
    assert "s3cr3t" not in str(refused.value)


def test_the_older_services_database_url_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:p%40@db:5432/x?schema=public&connection_limit=5&sslmode=require")
    assert load_settings().database_url == "postgresql://u:p%40@db:5432/x?sslmode=require"


def test_parameters_for_postgresql_in_a_url_are_unchanged() -> None:
    url = "postgresql://db/x?options=-c%20statement_timeout%3D60000&application_name=a+b"
    assert load_settings(database_url=url).database_url == url


@pytest.mark.parametrize("name", ["REDIS_URL", "ERROR_REPORT_STORAGE_PATH"])
def test_an_obsolete_setting_is_reported_in_a_warning(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "something")
    with pytest.warns(UserWarning, match=name):
        load_settings()
    monkeypatch.delenv(name)
    Path(".env").write_text(f"{name}=something\n")
    with pytest.warns(UserWarning, match=name):
        load_settings()


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:3000"),
        ("0.0.0.0", "http://127.0.0.1:3000"),
        ("::", "http://[::1]:3000"),
        ("fd00::7", "http://[fd00::7]:3000"),
        ("wherry.example", "http://wherry.example:3000"),
    ],
)
def test_the_local_url_is_an_address_that_this_machine_can_connect_to(host: str, url: str) -> None:
    assert load_settings(host=host).local_url == url


@pytest.mark.parametrize("name", ["IMPORT_STORAGE_PATH", "EXPORT_STORAGE_PATH", "MEMVID_EXPORT_ROOT"])
@pytest.mark.parametrize("root", ["ftp://x/y", "memory://", "http://x/y", "/dev/null/x"])
def test_an_unusable_storage_path_is_reported(monkeypatch: pytest.MonkeyPatch, name: str, root: str) -> None:
    monkeypatch.setenv(name, root)
    with pytest.raises(Misconfigured) as refused:
        load_settings().open_roots(Store)
    said = str(refused.value)
    assert said.startswith(f"{name} must be a directory that can be created, or the URL of a bucket")
    assert root in said
    assert "\n" not in said


def test_an_unusable_data_directory_is_reported() -> None:
    with pytest.raises(Misconfigured, match=r"^WHERRY_DATA_DIR must be a directory that can be created: "):
        load_settings(wherry_data_dir="/dev/null").open_roots(Store)


SECRETS = {
    "DATABASE_URL": "postgresql://db/x",
    "DATABASE_DIRECT_URL": "postgresql://direct/x",
    "EXPORT_DATABASE_URL": "postgresql://standby/x",
    "JWT_SECRET": "a secret of at least thirty-two bytes",
    "MEMVID_EXPORT_API_KEY": "the key",
    "SMTP_URL": "smtp://user:password@mail",
    "WEBHOOK_URL": "http://10.0.0.5:9000/hook?token=x",
    "WEBHOOK_SECRET": "whsec_" + "MDEy" * 8,
}


def _plain(name: str) -> str:
    value = getattr(load_settings(), name.lower())
    return str(value.get_secret_value() if isinstance(value, SecretStr) else value)


@pytest.mark.parametrize(("name", "value"), SECRETS.items())
def test_a_secret_can_be_read_from_a_file(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    Path("secret").write_text(f"{value}\n")
    monkeypatch.setenv(f"{name}_FILE", "secret")
    if name == "DATABASE_DIRECT_URL":
        monkeypatch.setenv("DATABASE_URL", "postgresql://pooler/x")
    assert _plain(name) == value
    monkeypatch.setenv(name, value)
    assert _plain(name) == value, "both may be set if they agree"
    monkeypatch.setenv(name, f"{value}-2")
    with pytest.raises(Misconfigured, match=f"^{name} and {name}_FILE are both set, to different values") as refused:
        load_settings()
    assert value not in str(refused.value)


@pytest.mark.parametrize("name", SECRETS)
def test_a_missing_or_empty_secrets_file_is_reported_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"{name}_FILE", "absent")
    with pytest.raises(Misconfigured, match=f"^{name}_FILE must name a readable text file: .*absent"):
        load_settings()
    Path("empty").write_text("\n")
    monkeypatch.setenv(f"{name}_FILE", "empty")
    with pytest.raises(Misconfigured, match=f"^{name}_FILE must name a file with the value of {name}: empty is empty"):
        load_settings()
    monkeypatch.setenv(f"{name}_FILE", "")
    assert getattr(load_settings(), name.lower()) is None


def test_every_secret_can_be_read_from_a_file() -> None:
    found = {name.upper() for name, field in Settings.model_fields.items() if is_from_file(field.annotation)}
    secret = {name.upper() for name, field in Settings.model_fields.items() if "Secret" in str(field.annotation)}
    assert secret <= found
    assert found == set(SECRETS)


def test_the_environment_overrides_a_secrets_file_in_the_dot_env_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("JWT_SECRET_FILE=first\n")
    for name in ("first", "second"):
        Path(name).write_text(name * 10)
    assert _plain("JWT_SECRET") == "first" * 10
    monkeypatch.setenv("JWT_SECRET_FILE", "second")
    assert _plain("JWT_SECRET") == "second" * 10


def test_the_default_waits_of_webhooks_begin_with_5_s_grow_and_add_up_to_a_day() -> None:
    waits = load_settings().webhook_retry_seconds
    assert (waits[0], sum(waits), list(waits)) == (5, 86_400, sorted(set(waits)))


def test_a_webhook_url_needs_a_secret() -> None:
    assert load_settings().webhook_key() is None
    with pytest.raises(Misconfigured, match=r"^WEBHOOK_SECRET must be set, because WEBHOOK_URL is: "):
        load_settings(webhook_url="https://hooks.example/").webhook_key()
    both = load_settings(webhook_url="https://hooks.example/", webhook_secret=SECRETS["WEBHOOK_SECRET"])
    assert both.webhook_key() == b"012" * 8


@pytest.mark.parametrize("quote", ["", '"', "'"])
def test_quotes_around_the_bind_address_are_removed(monkeypatch: pytest.MonkeyPatch, quote: str) -> None:
    monkeypatch.setenv("MEMVID_EXPORT_BIND_ADDR", f"{quote}0.0.0.0:8080{quote}")
    assert load_settings().memvid_export_bind_addr == "0.0.0.0:8080"


def test_there_is_no_capsule_key_by_default() -> None:
    assert load_settings().capsule_api_key() is None


def test_the_demo_ignores_secrets_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    for name in SECRETS:
        os.environ[f"{name}_FILE"] = "/run/secrets/production"
    settings = _bare_settings(tmp_path)
    assert [getattr(settings, name.lower()) for name in SECRETS] == [None] * len(SECRETS)


@pytest.mark.parametrize(
    ("direct", "read", "has_pooler"),
    [(None, "data", False), ("postgresql://data", "data", False), ("postgresql://direct", "direct", True)],
)
def test_a_direct_url_says_that_the_other_one_is_a_pooler(direct: str | None, read: str, has_pooler: bool) -> None:
    settings = load_settings(database_url="postgresql://data", database_direct_url=direct)
    assert (settings.require_direct_url(), settings.has_pooler) == (f"postgresql://{read}", has_pooler)


def test_a_direct_url_alone_is_refused() -> None:
    with pytest.raises(Misconfigured, match="DATABASE_DIRECT_URL: needs DATABASE_URL"):
        load_settings(database_direct_url="postgresql://direct")
