from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from cryotorch.data.cache_folder import CacheFolder
from cryotorch.errors import InputError

KILO = 1000


@pytest.fixture
def folder(tmp_path) -> CacheFolder:
    return CacheFolder(tmp_path / "cache", limit=3.5 * KILO)


def make(folder: CacheFolder, name: str, size: int = KILO, age: float = 0.0) -> int:
    """A handle of an entry of ones that was last used ``age`` seconds ago."""
    handle = folder.open(f"particles_{name}", size, lambda h: os.pwrite(h, b"1" * size, 0))
    then = time.time() - age
    os.utime(handle, (then, then))
    return handle


def names(folder: CacheFolder) -> list[str]:
    return sorted(p.name.removeprefix("particles_") for p in folder.path.glob("particles_*"))


def test_the_entry_not_used_for_longest_goes_first(folder):
    for name, age in (("old", 30), ("older", 40), ("new", 20)):
        os.close(make(folder, name, age=age))
    os.close(make(folder, "fourth"))
    assert names(folder) == ["fourth", "new", "old"]
    os.close(make(folder, "old", age=5))  # opened again: used
    os.close(make(folder, "fifth"))
    assert names(folder) == ["fifth", "fourth", "old"]
    os.close(make(folder, "large", 2 * KILO))
    assert names(folder) == ["fifth", "large"] or names(folder) == ["fourth", "large"]


def test_an_entry_in_use_stays_and_is_counted(folder):
    used = [make(folder, "used", age=50), make(folder, "used too", age=40)]
    os.close(make(folder, "free", age=10))
    os.close(make(folder, "next"))
    assert names(folder) == ["next", "used", "used too"]
    with pytest.raises(
        InputError,
        match=r"may hold 3\.5e-06 GB \(cache_limit\), of which 2e-06 GB are in use, and particles_large needs "
        r"2e-06 GB: choose another",
    ):
        make(folder, "large", 2 * KILO)
    assert names(folder) == ["used", "used too"]
    os.close(used[0])
    os.close(make(folder, "large", 2 * KILO))
    assert names(folder) == ["large", "used too"]
    os.close(used[1])


def test_what_is_larger_than_the_limit_drives_nothing_out(folder):
    os.close(make(folder, "one"))
    with pytest.raises(InputError, match="particles_large needs 4e-06 GB"):
        make(folder, "large", 4 * KILO)
    assert names(folder) == ["one"]
    assert sorted(p.name for p in folder.path.iterdir()) == [".lock", "particles_one"]


def test_a_reader_in_another_process_keeps_it_too_and_a_killed_one_does_not(folder):
    os.close(make(folder, "held", 3 * KILO))
    code = (
        "import sys, time; from pathlib import Path; from cryotorch.data.cache_folder import CacheFolder\n"
        f"CacheFolder(Path(sys.argv[1])).open('particles_held', {3 * KILO}, None)\n"
        "print('open', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(folder.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "open\n"
        try:
            with pytest.raises(InputError, match="are in use"):
                make(folder, "other")
            assert names(folder) == ["held"]
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    os.close(make(folder, "other"))
    assert names(folder) == ["other"]


def test_the_disk_is_never_filled(folder, monkeypatch):
    for i in range(3):
        os.close(make(folder, f"{i}", age=10 - i))
    gigabyte = 10**9

    def usage(_) -> object:
        free = gigabyte + 4500 - sum(p.stat().st_size for p in folder.path.iterdir())
        return type("Usage", (), {"total": 100 * gigabyte, "free": free})

    monkeypatch.setattr("cryotorch.data.cache_folder.shutil.disk_usage", usage)
    unlimited = CacheFolder(folder.path)
    os.close(make(unlimited, "new", 2 * KILO))
    assert names(folder) == ["1", "2", "new"]
    with pytest.raises(
        InputError,
        match=r"has 1 GB free, of which 1 GB stay so, and particles_large needs 5e-06 GB",
    ):
        make(unlimited, "large", 5 * KILO)


def test_the_room_is_taken_before_the_work_begins(folder):
    def write(handle: int) -> None:
        assert os.fstat(handle).st_size == 3 * KILO
        with pytest.raises(InputError, match="of which 3e-06 GB are in use"):
            make(folder, "second")
        os.pwrite(handle, b"1", 0)

    os.close(folder.open("particles_first", 3 * KILO, write))
    assert names(folder) == ["first"]


def test_what_killed_jobs_left_is_removed_when_room_is_needed(folder):
    folder.path.mkdir()
    left = folder.path / ".particles_left.partial"
    left.write_bytes(b"x" * 3 * KILO)
    other = folder.path / "notes.txt"
    other.write_bytes(b"x" * 3 * KILO)
    os.close(make(folder, "new"))
    assert not left.exists() and other.exists()


def test_an_entry_removed_while_open_can_be_read_to_the_end(folder):
    handle = make(folder, "one")
    (folder.path / "particles_one").unlink()  # by hand
    assert os.pread(handle, 5, 0) == b"11111"
    os.close(handle)


def test_a_cache_without_right_to_write_can_be_read(folder):
    os.close(make(folder, "one"))
    folder.path.chmod(0o555)
    (folder.path / "particles_one").chmod(0o444)
    try:
        handle = CacheFolder(folder.path).open("particles_one", KILO, None)
        assert os.pread(handle, 5, 0) == b"11111"
        os.close(handle)
    finally:
        folder.path.chmod(0o755)


def test_an_unusable_folder_is_refused(tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(
        InputError, match=r"cache_dir .*cache cannot be used .* choose a folder on a local disk"
    ):
        make(CacheFolder(tmp_path / "cache"), "one")
