"""The system user that the embedded server runs as, and what that user can access.

PostgreSQL refuses to run as root, so a root process starts it as an unprivileged user. That user may lack access to
folders that root can enter, such as a home directory or a new temporary folder of mode 0700.
"""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from wherry.errors import Misconfigured
from wherry.local.binaries import Binaries

UNPRIVILEGED = ("postgres", "nobody")
"""Users to run the server as if we are root, in order of preference."""


@dataclass(frozen=True)
class SystemAccount:
    """The user that the server runs as. If `drop` is set, this process is root and has to switch to it."""

    uid: int
    gid: int
    drop: bool

    def popen_arguments(self) -> dict[str, object]:
        """Keyword arguments for `subprocess` that make a child run as this user, without other groups."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.drop else {}

    def own(self, path: Path) -> None:
        """Make this user the owner of a file or folder."""
        if self.drop:
            os.chown(path, self.uid, self.gid)

    def may(self, access: int, path: Path) -> bool:
        """Whether the user has this access (`os.X_OK | os.R_OK`) to a file or folder, if its folders let them."""
        if not self.drop:
            return os.access(path, access)
        facts = path.stat()
        shift = 6 if facts.st_uid == self.uid else 3 if facts.st_gid == self.gid else 0
        return facts.st_mode >> shift & access == access


def account_for(data_dir: Path) -> SystemAccount:
    """The user to run a server on `data_dir` as: ourselves or, if we are root, its owner or an unprivileged user.

    Raises:
        Misconfigured: the folder belongs to a user that this process cannot switch to.
    """
    owner = data_dir.stat() if data_dir.exists() else None
    if os.geteuid() != 0:
        if owner is not None and owner.st_uid != os.geteuid():
            raise Misconfigured(
                f"{data_dir} belongs to user {_name(owner.st_uid)}: start wherry as that user or as root, "
                "or choose another WHERRY_DATA_DIR"
            )
        return SystemAccount(os.geteuid(), os.getegid(), drop=False)
    if owner is not None and owner.st_uid != 0:
        return SystemAccount(owner.st_uid, owner.st_gid, drop=True)
    for name in UNPRIVILEGED:
        entry = next((entry for entry in pwd.getpwall() if entry.pw_name == name), None)
        if entry is not None:
            return SystemAccount(entry.pw_uid, entry.pw_gid, drop=True)
    raise Misconfigured(
        "PostgreSQL does not run as root, and there is no unprivileged user (postgres or nobody) to run it as"
    )


def _name(uid: int) -> str:
    return next((entry.pw_name for entry in pwd.getpwall() if entry.pw_uid == uid), str(uid))


def closed_folder(path: Path, account: SystemAccount) -> Path | None:
    """The outermost folder above `path` that `account` may not enter, or None."""
    above = reversed(path.absolute().resolve().parents)
    return next((folder for folder in above if folder.exists() and not account.may(os.X_OK, folder)), None)


def require_reachable(data_dir: Path, account: SystemAccount) -> None:
    """Raise `Misconfigured` if `account` may not enter a folder above `data_dir`; the message names the folder."""
    closed = closed_folder(data_dir, account)
    if closed is not None:
        raise Misconfigured(
            f"PostgreSQL cannot run as root, and user {_name(account.uid)} may not enter {closed}: "
            f"set WHERRY_DATA_DIR to a folder that it can reach (such as /var/lib/wherry), or run wherry as "
            f"an ordinary user"
        )


def runnable(binaries: Binaries, account: SystemAccount, cache: Path) -> Binaries:
    """Programs that `account` can execute: the given ones, or a copy of their package under `cache`.

    Raises:
        Misconfigured: it cannot execute them, and they are not a Python package that could be copied.
    """
    server = binaries.bindir / "postgres"
    if closed_folder(server, account) is None and account.may(os.R_OK | os.X_OK, server.resolve()):
        return binaries
    if binaries.package is None:
        raise Misconfigured(
            f"user {_name(account.uid)} cannot execute {server}: move the programs to a folder that everybody may "
            "enter, set PG_BINDIR to another one, or run wherry as an ordinary user"
        )
    copy = cache / f"postgresql-{binaries.version}"
    if not copy.exists():
        _copy_package(binaries.package, copy)
    bindir = copy / binaries.package.name / binaries.bindir.relative_to(binaries.package)
    return replace(binaries, bindir=bindir, package=copy / binaries.package.name)


def _copy_package(package: Path, target: Path) -> None:
    """Copy a package, readable by all users, with the libraries next to it, which it finds by a relative path."""
    with temporary_folder(prefix=f".{target.name}-", parent=target.parent) as scratch:
        copy = scratch / "copy"
        copy.mkdir(mode=0o755)
        for part in (package, package.with_name(f"{package.name}.libs")):
            if part.is_dir():
                shutil.copytree(part, copy / part.name)
        for path in copy.rglob("*"):
            path.chmod(path.stat().st_mode | (0o755 if os.access(path, os.X_OK) else 0o444))
        try:  # atomic, as another process may look for the copy, or make it, at the same time
            copy.rename(target)
        except OSError:
            if not target.is_dir():
                raise


@contextmanager
def temporary_folder(prefix: str = "wherry-", parent: Path | None = None) -> Iterator[Path]:
    """A temporary folder for a data directory: other users may enter it, but not list it.

    Python's own temporary folders have mode 0700, which keeps out the user that a root process runs the server as.
    """
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder
