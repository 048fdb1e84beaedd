"""One process at a time writes into a folder, and a lock that was left behind does not count."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cryotorch.errors import InputError
from cryotorch.jobs.files.folder_lock import LOCK, FolderLock


def test_a_folder_is_locked_once(tmp_path: Path) -> None:
    one, two = FolderLock(tmp_path), FolderLock(tmp_path)
    one.acquire()
    one.acquire()  # has it
    with pytest.raises(InputError, match=rf"is in use by process {os.getpid()} on "):
        two.acquire()
    one.release()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / LOCK).write_text("1\nelsewhere\n")  # of a process that was killed
    two.acquire()
    assert (tmp_path / LOCK).read_text().split() == [str(os.getpid()), socket.gethostname()]
    two.release()
    two.release()
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_process_ends_with_it(tmp_path: Path) -> None:
    """However it ends: the file stays behind, the lock does not."""
    take = "import os, sys; from cryotorch.jobs.files.folder_lock import FolderLock\nlock = FolderLock(sys.argv[1]); lock.acquire()\n"
    lock = FolderLock(tmp_path)
    held = f"{take}print(os.getpid(), flush=True)\nsys.stdin.read()\nos._exit(9)"
    with subprocess.Popen(
        [sys.executable, "-c", held, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        process = other.stdout.readline().strip()
        with pytest.raises(InputError, match=f"is in use by process {process} on "):
            lock.acquire()
        other.stdin.close()
        assert other.wait(60) == 9
    assert (tmp_path / LOCK).exists()
    lock.acquire()
    lock.release()


def test_a_holder_that_left_no_name(tmp_path: Path) -> None:
    one, two = FolderLock(tmp_path), FolderLock(tmp_path)
    one.acquire()
    (tmp_path / LOCK).write_text("half")
    with pytest.raises(InputError, match="is in use by another process: wait for its end"):
        two.acquire()
    one.release()


def test_what_cannot_be_written_is_the_system_s_to_tell(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        FolderLock(tmp_path / "file").acquire()
