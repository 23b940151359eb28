"""Every package that wherry imports is declared, and every one that it is tested with is pinned."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RENEW = "run .ci/pin"


def pins() -> dict[str, Requirement]:
    listed = map(Requirement, PROJECT["tool"]["uv"]["constraint-dependencies"])
    return {canonicalize_name(pin.name): pin for pin in listed if pin.marker is None or pin.marker.evaluate()}


def needed() -> Iterator[tuple[str, str]]:
    """Yields (name, installed version) of all that the project and its development need here, directly or not."""
    direct = PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]
    waiting = [(Requirement(line), "") for line in direct]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        installed = distribution(requirement.name)
        name = canonicalize_name(requirement.name)
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                yield name, installed.version
                waiting += [(Requirement(line), wanted) for line in installed.requires or ()]


def test_every_installed_package_is_pinned_to_its_version() -> None:
    known = pins()
    wrong = {
        f"{name} {version} is pinned as {known.get(name)}"
        for name, version in needed()
        if name not in known or not known[name].specifier.contains(Version(version), prereleases=True)
    }
    assert not wrong, RENEW


def test_a_pin_names_one_version() -> None:
    loose = [str(pin) for pin in pins().values() if [part.operator for part in pin.specifier] != ["=="]]
    assert not loose, RENEW


def test_dependencies_of_dependencies_are_checked_too() -> None:
    names = {name for name, _ in needed()}
    assert {"litestar", "pyyaml", "anyio", "psycopg-binary", "uvloop", "pytest", "execnet"} <= names


def imported(path: Path) -> Iterator[str]:
    """Yields the top-level package of every absolute import in a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_every_package_that_the_source_imports_is_declared() -> None:
    declared = {canonicalize_name(Requirement(line).name) for line in PROJECT["project"]["dependencies"]}
    distributions = packages_distributions()
    packages = {package for path in (ROOT / "src").rglob("*.py") for package in imported(path)}
    undeclared = {
        package
        for package in packages - sys.stdlib_module_names - {"wherry"}
        if declared.isdisjoint(map(canonicalize_name, distributions[package]))
    }
    assert not undeclared
