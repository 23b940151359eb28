"""SQL that lives in `sql/`, loaded once and called by name.

In: `sql/queries/limits.sql`, sections headed `-- name: take`. Out: `load("limits")["take"]`, a `LiteralString`.
The tree is read from inside the installed package, else from the root of a checkout.
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
    """The directory that holds `migrations`, `queries` and `resources`."""
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
        ValueError: a name stands twice.
    """
    text = (sql_root() / folder / f"{subject}.sql").read_text(encoding="utf-8")
    parts = _HEADING.split(text)[1:]
    names, bodies = parts[::2], parts[1::2]
    if len(set(names)) != len(names):
        raise ValueError(f"a query name stands twice in {folder}/{subject}.sql")
    # The files ship with the package and are never built from input, so they are as literal as a string in the code.
    return MappingProxyType({name: cast(LiteralString, body.strip()) for name, body in zip(names, bodies, strict=True)})
