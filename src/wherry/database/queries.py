"""Named SQL queries from `sql/`.

A section of `sql/queries/limits.sql` that is headed `-- name: take` is `load("limits")["take"]`, a `LiteralString`. The
folder is read from the installed package or, in a checkout, from its root.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import LiteralString, cast

_HEADING = re.compile(r"^-- name: (\w+)[ \t]*$", re.MULTILINE)


@cache
def sql_root() -> Path:
    """The directory with `migrations`, `queries` and `resources`."""
    package = Path(__file__).parents[1]
    for candidate in (package / "sql", package.parents[1] / "sql"):
        if (candidate / "migrations").is_dir():
            return candidate
    raise FileNotFoundError(f"no sql directory beside or inside {package}")


@cache
def load(subject: str, folder: str = "queries") -> Mapping[str, LiteralString]:
    """The named queries of one file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a name is used twice.
    """
    text = (sql_root() / folder / f"{subject}.sql").read_text(encoding="utf-8")
    parts = _HEADING.split(text)[1:]
    names, bodies = parts[::2], parts[1::2]
    if len(set(names)) != len(names):
        raise ValueError(f"a query name stands twice in {folder}/{subject}.sql")
    # The files ship with the package and never contain input, so they are as literal as strings in the code.
    return MappingProxyType({name: cast(LiteralString, body.strip()) for name, body in zip(names, bodies, strict=True)})
