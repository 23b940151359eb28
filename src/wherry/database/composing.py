"""Parts of statements with parameters, in which the driver takes `%` for the beginning of a placeholder."""

from __future__ import annotations

from psycopg import sql


def verbatim(text: str) -> sql.SQL:
    """SQL that has no parameters of its own."""
    return sql.SQL(text.replace("%", "%%"))


def quoted(*parts: str) -> sql.SQL:
    """An identifier."""
    return verbatim(sql.Identifier(*parts).as_string())
