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
from wherry.storage.workspaces import PREFIX, remove_abandoned, workspace

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
    """A process at work in a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_folder_is_there_for_its_block_and_for_its_owner_alone(temporary: Path) -> None:
    with workspace() as folder:
        assert folder.parent == temporary
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("x")
    assert list(temporary.iterdir()) == []


def test_a_killed_processes_folder_goes_and_a_living_ones_stays(temporary: Path) -> None:
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


def test_whoever_begins_removes_what_is_left(temporary: Path) -> None:
    killed, _ = holder()
    end(killed)
    with workspace() as folder:
        assert list(temporary.iterdir()) == [folder]


def test_a_stopped_processes_folder_stays() -> None:
    stopped, used = holder()
    try:
        stopped.send_signal(signal.SIGSTOP)
        assert remove_abandoned() == 0
        assert used.exists()
    finally:
        end(stopped)


def test_only_own_folders_are_removed(temporary: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
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


def test_what_the_disk_refuses_is_unavailable_with_its_cause_and_without_a_path(temporary: Path) -> None:
    with pytest.raises(Unavailable) as refused, workspace() as folder:
        raise OSError(errno.ENOSPC, f"No space left in {folder}", str(folder))
    assert refused.value.detail == "this host cannot keep temporary files: no space left on device"
    assert (refused.value.code, refused.value.headers) == ("STORAGE_ERROR", {"Retry-After": "5"})
    assert list(temporary.iterdir()) == []


def test_a_temporary_folder_that_is_gone_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere/at/all")
    with pytest.raises(Unavailable, match="no such file or directory"), workspace():
        pass


def test_any_other_error_passes_as_it_is() -> None:
    with pytest.raises(LookupError), workspace():
        raise LookupError
    with pytest.raises(TimeoutError), workspace():
        raise TimeoutError  # a system error by its class only


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_temporary_folder_is_unavailable_and_nothing_goes_elsewhere(temporary: Path) -> None:
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(temporary)], check=False)
    if mount.returncode != 0:
        pytest.skip("no file system may be mounted here")
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
