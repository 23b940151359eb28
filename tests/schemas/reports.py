"""How the tests of this suite fail: with every table that has a problem."""

from __future__ import annotations

from collections.abc import Mapping

import pytest


def report(problems: Mapping[str, str]) -> None:
    """Fail with every table that has a problem."""
    if problems:
        lines = "\n".join(f"{name}: {problem}" for name, problem in sorted(problems.items()))
        pytest.fail(f"{len(problems)} tables:\n{lines}", pytrace=False)
