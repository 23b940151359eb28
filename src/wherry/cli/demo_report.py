"""The results of `wherry demo`, as tables."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field

from rich.console import Group
from rich.table import Table
from rich.text import Text

NEXT = (
    ("wherry up", "run the database, the API and the workers on this machine"),
    ("README.md", "do the same with curl, step by step"),
    ("/openapi.json", "read about every route, on any running service"),
    ("wherry --help", "list every command"),
)


@dataclass(frozen=True)
class Moved:
    """How much one job moved, how long it took, and how many records it refused."""

    what: str
    count: int
    seconds: float
    errors: int = 0
    unit: str = "rows"

    @property
    def amount(self) -> str:
        return f"{self.count:,} {self.unit}"

    @property
    def rate(self) -> str:
        return f"{self.count / self.seconds:,.0f} {self.unit}/s" if self.seconds > 0 else "-"


@dataclass
class Report:
    """Everything that the demo measured and checked."""

    moved: list[Moved] = field(default_factory=list)
    checks: list[tuple[str, bool]] = field(default_factory=list)
    """Each expectation, and whether it was met."""
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def all_met(self) -> bool:
        return bool(self.checks) and all(is_met for _, is_met in self.checks)

    def expect(self, claim: str, actual: object, expected: object) -> None:
        """Record a check; a failed one shows both values."""
        is_met = actual == expected
        self.checks.append((claim if is_met else f"{claim}: {actual}, not {expected}", is_met))


def summary(report: Report) -> Group:
    """The closing tables."""
    return Group("", _moved(report), "", _errors(report), "", _checks(report), "", _next())


def _moved(report: Report) -> Table:
    table = Table("job", "moved", "seconds", "speed", "refused", title="Moved", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for moved in report.moved:
        table.add_row(moved.what, moved.amount, f"{moved.seconds:.1f}", moved.rate, f"{moved.errors:,}")
    return table


def _errors(report: Report) -> Table:
    table = Table("error", "records", title="Refused records by error", title_justify="left")
    table.columns[1].justify = "right"
    for name, count in report.errors.most_common():
        table.add_row(name, f"{count:,}")
    return table


def _checks(report: Report) -> Text:
    lines = Text()
    for claim, is_met in report.checks:
        lines.append("✓ " if is_met else "✗ ", "green" if is_met else "bold red")
        lines.append(claim + "\n")
    return lines


def _next() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row("[bold]Where to go next[/]")
    through_uv = "uv run " if "UV" in os.environ else ""  # the command is not on PATH then
    for command, purpose in NEXT:
        shown = f"{through_uv}{command}" if command.startswith("wherry") else command
        table.add_row(f"[cyan]{shown}[/]", purpose)
    return table
