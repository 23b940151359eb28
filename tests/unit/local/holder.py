"""Owns an embedded server until its standard input ends, as a user of the caller's choice.

In: the data directory, PostgreSQL's programs, and optionally a user's name to become first. Out: a line with the
server's URL and process id.

It becomes that user only after everything is imported: the interpreter itself may lie in a folder that is closed to it.
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
