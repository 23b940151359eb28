"""Runs an embedded server until its standard input is closed, optionally as another user.

Arguments: the data directory, the folder of PostgreSQL's programs, and optionally a user's name. Prints a line with the
server's URL and process id.

It switches to that user after all imports, as the user may not be able to read the interpreter's folder.
"""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

from wherry.local.binaries import find_binaries
from wherry.local.embedded import EmbeddedPostgres


def main(data_dir: str, bindir: str, user: str = "") -> None:
    if user:
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    with EmbeddedPostgres(Path(data_dir), binaries=find_binaries(bindir)) as server:
        print(server.url, server.pid, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
