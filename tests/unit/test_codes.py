"""Every code that a client can be shown is in the table, and the table has no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import wherry
from wherry.codes import PROBLEM_CODES
from wherry.errors import ErrorCode

CODE = re.compile(r"[A-Z][A-Z_]{3,}")
OF_THE_OPERATOR = {"DATA_DIR_IN_USE", "DATABASE_NOT_STARTED", "DATABASE_NOT_STOPPED", "MAIL_NOT_SENT"}
TAKES_A_CODE = {"JobFailed", "Fault", "_answer"}


def _literals() -> Iterator[str]:
    """Strings that are given as a code: by keyword, by assignment, or to what takes one."""
    for path in Path(wherry.__file__).parent.rglob("*.py"):
        if path.name == "codes.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case (
                    ast.keyword(arg="code" | "gone", value=value) | ast.AnnAssign(target=ast.Name("code"), value=value)
                ):
                    yield from _strings(value)
                case ast.Assign(targets=[ast.Name(id="code" | "_CODES" | "TOO_LARGE")], value=value):
                    yield from _strings(value)
                case ast.AnnAssign(target=ast.Name(id="_CODES"), value=value):
                    yield from _strings(value)
                case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in TAKES_A_CODE:
                    for argument in node.args:
                        yield from _strings(argument)
                case ast.arguments(kwonlyargs=names, kw_defaults=defaults):
                    for name, default in zip(names, defaults, strict=True):
                        if name.arg in ("code", "gone"):
                            yield from _strings(default)


def _strings(node: ast.AST | None) -> Iterator[str]:
    for part in ast.walk(node) if node is not None else ():
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and CODE.fullmatch(part.value):
            yield part.value


def test_every_code_in_the_source_is_in_the_table_and_the_other_way_round() -> None:
    used = set(_literals()) - set(ErrorCode.__members__) - OF_THE_OPERATOR
    assert used - PROBLEM_CODES.keys() == set()
    assert PROBLEM_CODES.keys() - used == set()
