"""The schemas that the suite uses: two of public applications, made by their own migrations, and `odd.sql`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

ODD = Path(__file__).with_name("odd.sql")

SETTINGS = """
import os
from psycopg.conninfo import conninfo_to_dict

given = conninfo_to_dict(os.environ["APPLICATION_DATABASE"])
DATABASES = {{"default": {{
    "ENGINE": "django.db.backends.postgresql",
    "NAME": given["dbname"],
    "USER": given.get("user", ""),
    "PASSWORD": given.get("password", ""),
    "HOST": given.get("host", ""),
    "PORT": given.get("port", ""),
    "OPTIONS": {{"options": "-c search_path={schema}"}},
}}}}
SECRET_KEY = "of a test"
USE_TZ = True
STATIC_URL = "/static/"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.sites",
    "django.contrib.redirects",
]
MIDDLEWARE = []
TEMPLATES = []
SILENCED_SYSTEM_CHECKS = ["admin.E403", "admin.E408", "admin.E409", "admin.E410"]
"""

WAGTAIL = """
INSTALLED_APPS += [
    "django.contrib.postgres",
    "wagtail.contrib.forms",
    "wagtail.contrib.redirects",
    "wagtail.contrib.search_promotions",
    "wagtail.contrib.settings",
    "wagtail.embeds",
    "wagtail.users",
    "wagtail.snippets",
    "wagtail.documents",
    "wagtail.images",
    "wagtail.search",
    "wagtail.admin",
    "wagtail",
    "modelsearch",
    "modelcluster",
    "taggit",
]
INSTALLED_APPS.remove("django.contrib.redirects")
WAGTAIL_SITE_NAME = "Tests"
WAGTAILADMIN_BASE_URL = "http://localhost"
"""

OSCAR = """
from oscar import INSTALLED_APPS as SHOP
from oscar.defaults import *

INSTALLED_APPS += [app for app in SHOP if app not in INSTALLED_APPS]
INSTALLED_APPS += ["sorl.thumbnail"]
SITE_ID = 1
HAYSTACK_CONNECTIONS = {"default": {"ENGINE": "haystack.backends.simple_backend.SimpleEngine"}}
"""


@dataclass(frozen=True, kw_only=True)
class Application:
    """A schema that a stranger made.

    Attributes:
        schema: its name in PostgreSQL.
        create: makes it in the empty schema of the database with this URL.
        written_by_triggers: tables to which triggers add a row for each new row of some others.
        not_imported: tables that are exported only, and why.
    """

    schema: str
    create: Callable[[str], None]
    written_by_triggers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    not_imported: Mapping[str, str] = field(default_factory=dict)

    def make(self, url: str) -> None:
        """Create the schema and its tables in an empty database."""
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL("create schema {}").format(sql.Identifier(self.schema)))
        self.set_search_path(url)
        self.create(url)

    def set_search_path(self, url: str) -> None:
        """Let the database look for tables in the schema, as its owner would."""
        with psycopg.connect(url, autocommit=True) as connection:
            names = map(sql.Identifier, (connection.info.dbname, self.schema))
            connection.execute(sql.SQL("alter database {} set search_path = {}, public").format(*names))


def _migrated(schema: str, settings: str) -> Callable[[str], None]:
    def migrate(url: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "application_settings.py").write_text(SETTINGS.format(schema=schema) + settings)
            environment = {
                **os.environ,
                "APPLICATION_DATABASE": url,
                "DJANGO_SETTINGS_MODULE": "application_settings",
                "PYTHONPATH": folder,
                "PYTHONWARNINGS": "ignore",
            }
            ended = subprocess.run(
                [sys.executable, "-m", "django", "migrate", "--verbosity", "0"],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
        assert ended.returncode == 0, f"run with `uv run --group schemas`: {ended.stderr[-2000:]}"

    return migrate


def _odd(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(ODD.read_bytes())


APPLICATIONS = {
    "wagtail": Application(schema="cms", create=_migrated("cms", WAGTAIL)),
    "oscar": Application(schema="shop", create=_migrated("shop", OSCAR)),
    "odd": Application(
        schema="odd",
        create=_odd,
        written_by_triggers={"audit": ("country", "employee", "watched")},
        not_imported={"ancestor": "it shows the rows of the table that inherits from it, too"},
    ),
}
