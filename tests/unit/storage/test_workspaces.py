"""Workspaces: private temporary folders that are removed after use, at the latest when their process is gone."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from wherry.errors import Unavailable
from wherry.storage.workspaces import PREFIX, remove_abandoned, scratch_file, workspace

HOLD = """
import sys
from wherry.storage.workspaces import workspace
with workspace() as folder:
    (folder / "large").write_bytes(b"x")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def holder() -> tuple[subprocess.Popen[str], Path]:
    """A process that uses a workspace, and the workspace."""
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_workspace_is_private_and_removed_at_the_end_of_its_block(temporary: Path) -> None:
    with workspace() as folder:
        assert folder.parent == temporary
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("x")
    assert list(temporary.iterdir()) == []


def test_only_the_workspaces_of_dead_processes_are_removed(temporary: Path) -> None:
    living, used = holder()
    killed, left = holder()
    try:
        with workspace() as own:
            assert remove_abandoned() == 0
            end(killed)
            assert left.exists()
            assert remove_abandoned() == 1
            assert sorted(temporary.iterdir()) == sorted([used, own])
    finally:
        end(living)


def test_a_new_workspace_removes_abandoned_ones(temporary: Path) -> None:
    killed, _ = holder()
    end(killed)
    with workspace() as folder:
        assert list(temporary.iterdir()) == [folder]


def test_the_workspace_of_a_stopped_process_is_kept() -> None:
    stopped, used = holder()
    try:
        stopped.send_signal(signal.SIGSTOP)
        assert remove_abandoned() == 0
        assert used.exists()
    finally:
        end(stopped)


def test_links_files_and_other_users_folders_are_kept(
    temporary: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (temporary / f"{PREFIX}link").symlink_to(elsewhere)
    (temporary / f"{PREFIX}file").write_text("x")
    (temporary / "other").mkdir()
    foreign = temporary / f"{PREFIX}foreign"
    foreign.mkdir()
    if os.geteuid() == 0:
        os.chown(foreign, 12345, 12345)
    assert remove_abandoned() == (os.geteuid() != 0)
    assert elsewhere.is_dir()
    kept = {f"{PREFIX}link", f"{PREFIX}file", "other"} | ({foreign.name} if os.geteuid() == 0 else set())
    assert {path.name for path in temporary.iterdir()} == kept


def test_a_disk_error_is_reported_as_unavailable_with_its_cause_but_no_path(temporary: Path) -> None:
    with pytest.raises(Unavailable) as refused, workspace() as folder:
        raise OSError(errno.ENOSPC, f"No space left in {folder}", str(folder))
    assert refused.value.detail == "this host cannot keep temporary files: no space left on device"
    assert (refused.value.code, refused.value.headers) == ("STORAGE_ERROR", {"Retry-After": "5"})
    assert list(temporary.iterdir()) == []


def test_a_missing_tmpdir_is_reported_as_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere/at/all")
    with pytest.raises(Unavailable, match="no such file or directory"), workspace():
        pass


def test_a_scratch_file_is_in_tmpdir_or_nowhere(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with scratch_file() as file:
        assert Path(f"/proc/self/fd/{file.fileno()}").readlink().parent == temporary
    assert list(temporary.iterdir()) == []
    monkeypatch.setenv("TMPDIR", "/nowhere/at/all")
    with pytest.raises(FileNotFoundError):
        scratch_file()


def test_other_errors_pass_through() -> None:
    with pytest.raises(LookupError), workspace():
        raise LookupError
    with pytest.raises(TimeoutError), workspace():
        raise TimeoutError  # an OSError without a number


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_tmpdir_is_reported_and_no_other_folder_is_used(temporary: Path) -> None:
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(temporary)], check=False)
    if mount.returncode != 0:
        pytest.skip("this environment does not allow mounting file systems")
    try:
        with suppress(OSError):
            (temporary / "filler").write_bytes(bytes(1 << 20))
        with pytest.raises(Unavailable, match="no space left on device") as refused:
            _write_in_workspace()
        assert refused.value.code == "STORAGE_ERROR"
    finally:
        subprocess.run(["umount", str(temporary)], check=True)


def _write_in_workspace() -> None:
    with workspace() as folder:
        (folder / "file").write_bytes(b"x" * 10_000)
