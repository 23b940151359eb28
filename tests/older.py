"""Installs what older versions of wherry installed: everything in the first schema of the search path."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg
from procrastinate.schema import SchemaManager

from wherry.database.migrations import WHOLE_QUEUE, Step, own_steps, queue_steps

WHOLE = [*own_steps(), Step(WHOLE_QUEUE, SchemaManager.get_schema(), contains=tuple(queue_steps()))]
"""The steps of a fresh installation."""

STEP_BY_STEP = [*own_steps(), *queue_steps()]
"""The steps of an installation that was migrated with each release of procrastinate."""


def install_old(connection: psycopg.Connection[tuple[object, ...]], steps: Iterable[Step]) -> None:
    """Run the steps as older versions did, under the search path of the session."""
    connection.execute(
        "create table wherry_migrations "
        "(name text primary key, checksum text not null, applied_at timestamptz not null default now())"
    )
    for step in steps:
        connection.execute(step.sql.encode())
        for each in step.contains or (step,):
            connection.execute(
                "insert into wherry_migrations (name, checksum) values (%s, %s)", [each.name, each.checksum]
            )
