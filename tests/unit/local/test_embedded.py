"""The embedded server: durability, locking, privileges, and recovery from crashes."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from tests.unit.local import holder
from wherry.errors import DataDirectoryInUse, Misconfigured, Unavailable
from wherry.local.binaries import Binaries
from wherry.local.embedded import EmbeddedPostgres, url_of_running
from wherry.local.server_account import SystemAccount, runnable

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can switch to another user")


@contextmanager
def another_process(
    data_dir: Path, binaries: Binaries, user: str = ""
) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """Yields (the process that owns a server, the server's URL, the server's process id)."""
    command = [sys.executable, holder.__file__, str(data_dir), str(binaries.bindir), user]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url, _, pid = process.stdout.readline().strip().partition(" ")
            yield process, url, int(pid)
        finally:
            process.kill()


def write(url: str, number: int) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("create table if not exists kept (number int)")
        connection.execute("insert into kept values (%s)", [number])


def read(url: str) -> list[int]:
    with psycopg.connect(url) as connection:
        return [number for (number,) in connection.execute("select number from kept order by number").fetchall()]


def has_ended(pid: int, seconds: float) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with os.fdopen(descriptor) as process:
        return bool(select.select([process], [], [], seconds)[0])


def test_it_listens_only_on_loopback_and_uses_utf8_and_utc(own_postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(own_postgres.url) as connection:
        shown = {
            name: connection.execute("select current_setting(%s)", [name]).fetchone()
            for name in ("listen_addresses", "unix_socket_directories", "server_encoding", "TimeZone")
        }
    assert [value for (value,) in filter(None, shown.values())] == ["127.0.0.1", "", "UTF8", "UTC"]


def test_it_is_durable_by_default(open_folder: Path, binaries: Binaries) -> None:
    with EmbeddedPostgres(open_folder / "pg", binaries=binaries) as server, psycopg.connect(server.url) as connection:
        for name in ("fsync", "full_page_writes", "synchronous_commit"):
            assert connection.execute("select current_setting(%s)", [name]).fetchone() == ("on",)


def test_data_survives_a_crash_and_every_kind_of_restart(own_postgres: EmbeddedPostgres) -> None:
    url = own_postgres.url
    write(url, 1)
    os.kill(own_postgres.pid, signal.SIGKILL)
    own_postgres.restart()
    write(url, 2)
    own_postgres.restart(immediate=True)
    write(url, 3)
    own_postgres.restart()
    assert own_postgres.url == url
    assert read(url) == [1, 2, 3]


def test_an_immediate_restart_closes_open_connections(own_postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        own_postgres.restart(immediate=True)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")


def test_a_second_server_on_a_data_directory_is_refused(own_postgres: EmbeddedPostgres) -> None:
    second = EmbeddedPostgres(own_postgres.data_dir, binaries=own_postgres.binaries)
    with pytest.raises(DataDirectoryInUse, match=rf"in use by another wherry \(process {os.getpid()}\)"):
        second.start()
    write(own_postgres.url, 1)


def test_a_data_directory_that_another_process_uses_is_refused(data_dir: Path, binaries: Binaries) -> None:
    with another_process(data_dir, binaries) as (process, _, _):
        with pytest.raises(Unavailable, match=f"process {process.pid}"):
            EmbeddedPostgres(data_dir, binaries=binaries).start()


def test_a_server_stops_when_its_owner_is_killed_and_loses_nothing(data_dir: Path, binaries: Binaries) -> None:
    with another_process(data_dir, binaries) as (owner, url, pid):
        write(url, 7)
        owner.kill()
        owner.wait()
        assert has_ended(pid, 20)
    with EmbeddedPostgres(data_dir, binaries=binaries) as server:
        assert read(server.url) == [7]


def test_a_new_owner_can_start_while_the_killed_owners_server_is_stopping(data_dir: Path, binaries: Binaries) -> None:
    with another_process(data_dir, binaries) as (owner, url, pid):
        write(url, 7)
        os.kill(pid, signal.SIGSTOP)  # so that it cannot begin to shut down
        owner.kill()
        owner.wait()
        wake = threading.Timer(0.5, os.kill, (pid, signal.SIGCONT))
        wake.start()
        with EmbeddedPostgres(data_dir, binaries=binaries) as server:
            assert read(server.url) == [7]
        wake.join()


def test_stop_ends_every_process_and_unlocks_the_data_directory(data_dir: Path, binaries: Binaries) -> None:
    server = EmbeddedPostgres(data_dir, binaries=binaries)
    server.start()
    pid = server.pid
    server.stop()
    server.stop()
    assert not server.is_running
    assert has_ended(pid, 0)
    with EmbeddedPostgres(data_dir, binaries=binaries):
        pass


def test_it_starts_despite_a_stale_pid_file_with_the_id_of_another_program(data_dir: Path, binaries: Binaries) -> None:
    with EmbeddedPostgres(data_dir, binaries=binaries):
        pid_file = (data_dir / "postmaster.pid").read_text().splitlines()
    stale = data_dir / "postmaster.pid"
    stale.write_text("\n".join([str(os.getppid()), *pid_file[1:]]) + "\n")
    with EmbeddedPostgres(data_dir, binaries=binaries) as server:
        write(server.url, 1)


def test_the_server_does_not_inherit_pg_variables_or_secrets(
    data_dir: Path, binaries: Binaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("PGDATA", "/nowhere"), ("PGPORT", "1"), ("PGOPTIONS", "-x"), ("JWT_SECRET", "hush")):
        monkeypatch.setenv(name, value)
    with EmbeddedPostgres(data_dir, binaries=binaries) as server:
        names = {entry.partition(b"=")[0] for entry in Path(f"/proc/{server.pid}/environ").read_bytes().split(b"\0")}
    # PostgreSQL overwrites part of the environment's memory with its process title, so some names cannot be read
    assert not names & {b"PGPORT", b"PGOPTIONS", b"JWT_SECRET"}


def test_a_server_that_does_not_start_reports_its_log_and_unlocks_the_data_directory(
    data_dir: Path, binaries: Binaries
) -> None:
    broken = EmbeddedPostgres(data_dir, binaries=binaries, options={"shared_buffers": "plenty"})
    with pytest.raises(Unavailable, match='invalid value for parameter "shared_buffers"'):
        broken.start()
    with EmbeddedPostgres(data_dir, binaries=binaries):
        pass


def test_the_remains_of_a_killed_initdb_are_replaced(open_folder: Path, binaries: Binaries) -> None:
    (open_folder / "pg.unfinished" / "base").mkdir(parents=True)
    with EmbeddedPostgres(open_folder / "pg", binaries=binaries) as server:
        write(server.url, 1)
    assert not (open_folder / "pg.unfinished").exists()


def test_data_of_another_major_version_is_refused(open_folder: Path, binaries: Binaries) -> None:
    (open_folder / "pg").mkdir(mode=0o755)
    (open_folder / "pg" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(Misconfigured, match=r"created by PostgreSQL 9\.6"):
        EmbeddedPostgres(open_folder / "pg", binaries=binaries).start()


def test_a_folder_with_other_files_is_refused_and_left_unchanged(open_folder: Path, binaries: Binaries) -> None:
    (open_folder / "photos").mkdir()
    (open_folder / "photos" / "cat.jpg").write_bytes(b"meow")
    with pytest.raises(Misconfigured, match="not a PostgreSQL data directory"):
        EmbeddedPostgres(open_folder / "photos", binaries=binaries).start()
    assert [path.name for path in (open_folder / "photos").iterdir()] == ["cat.jpg"]


def test_a_server_keeps_running_after_the_thread_that_started_it_ends(data_dir: Path, binaries: Binaries) -> None:
    server = EmbeddedPostgres(data_dir, binaries=binaries)
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    try:
        assert not has_ended(server.pid, 0.5)
        write(server.url, 1)
    finally:
        server.stop()


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(own_postgres: EmbeddedPostgres) -> None:
    assert os.getsid(own_postgres.pid) != os.getsid(0)


@as_root
def test_a_server_that_root_starts_runs_without_privileges(own_postgres: EmbeddedPostgres) -> None:
    status = Path(f"/proc/{own_postgres.pid}/status").read_text().splitlines()
    facts = {line.partition(":")[0]: line.partition(":")[2].split() for line in status}
    assert "0" not in facts["Uid"] + facts["Gid"]
    assert facts["Groups"] == []


@as_root
def test_an_ordinary_user_can_run_a_server(open_folder: Path, binaries: Binaries) -> None:
    nobody = SystemAccount(65534, 65534, drop=True)
    readable = runnable(binaries, nobody, open_folder)
    home = open_folder / "home"
    home.mkdir(mode=0o700)
    os.chown(home, nobody.uid, nobody.gid)
    with another_process(home / "pg", readable, "nobody") as (owner, url, pid):
        write(url, 1)
        assert Path(f"/proc/{pid}").stat().st_uid == nobody.uid
        owner.kill()
        owner.wait()
        assert has_ended(pid, 20)
    with another_process(home / "pg", readable, "nobody") as (_, url, _):
        assert read(url) == [1]


@as_root
def test_programs_in_an_inaccessible_folder_are_copied(open_folder: Path, binaries: Binaries) -> None:
    if binaries.package is None:
        pytest.skip("only a Python package can be copied as a whole")
    closed = open_folder / "closed"
    closed.mkdir()
    for part in (binaries.package, binaries.package.with_name(f"{binaries.package.name}.libs")):
        if part.exists():
            shutil.copytree(part, closed / part.name)
    bindir = closed / binaries.bindir.relative_to(binaries.package.parent)
    copy = replace(binaries, package=closed / binaries.package.name, bindir=bindir)
    closed.chmod(0o700)
    with EmbeddedPostgres(open_folder / "pg", binaries=copy) as server:
        write(server.url, 1)
        assert server.binaries.bindir.is_relative_to(open_folder)
        assert not server.binaries.bindir.is_relative_to(closed)


@as_root
def test_an_inaccessible_folder_above_the_data_directory_is_named(tmp_path: Path, binaries: Binaries) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(Misconfigured, match=r"may not enter .*WHERRY_DATA_DIR"):
        EmbeddedPostgres(closed / "pg", binaries=binaries).start()


def test_another_process_finds_a_running_server_by_its_data_directory(data_dir: Path, binaries: Binaries) -> None:
    with another_process(data_dir, binaries) as (_, url, _):
        assert url_of_running(data_dir) == url


def test_a_server_that_is_not_ready_has_no_url(tmp_path: Path) -> None:
    for content in (None, "1\n", "1\n/x\n0\n5432\n\n127.0.0.1\n0\nstarting\n"):
        if content is not None:
            (tmp_path / "postmaster.pid").write_text(content)
        with pytest.raises(Unavailable, match="starting or stopping"):
            url_of_running(tmp_path, timeout=0)


def test_a_killed_server_restarts_despite_a_busy_child_process(own_postgres: EmbeddedPostgres) -> None:
    """A session in the middle of a computation does not notice that its postmaster was killed."""
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        pid = connection.info.backend_pid
        busy = threading.Thread(target=_run_until_cut, args=(connection,))
        busy.start()
        with psycopg.connect(own_postgres.url, autocommit=True) as other:
            while other.execute("select state = 'active' from pg_stat_activity where pid = %s", [pid]).fetchone() != (
                True,
            ):
                pass
        os.kill(own_postgres.pid, signal.SIGKILL)
        os.waitid(os.P_PID, own_postgres.pid, os.WEXITED | os.WNOWAIT)
        own_postgres.restart()
        busy.join()
    assert has_ended(pid, 0)
    write(own_postgres.url, 1)


def _run_until_cut(connection: psycopg.Connection) -> None:
    with pytest.raises(psycopg.OperationalError):
        connection.execute("do $$ begin loop end loop; end $$")
