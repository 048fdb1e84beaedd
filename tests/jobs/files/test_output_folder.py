"""Results appear together or not at all, and nothing of anyone else's goes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cryotorch.errors import InputError
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.files.manifest import read_manifest
from cryotorch.jobs.files.output_folder import STAGE, new_files, require_disk, told_if_full

PATTERNS = ["config.yaml", "map.mrc", "plots/*.png"]
MADE = {"config.yaml", "map.mrc", "plots/a.png", "report.html", "manifest.json"}


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def work(out: Path, *files: str, fail: type[BaseException] | None = None, **changes) -> None:
    """A job that writes its name into files, and then fails or not."""
    settings = make_settings("volume_tools", out=str(out), **changes)
    with new_files(settings, PATTERNS) as folder:
        for name in files:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(name)
        assert not out.is_dir() or not names(out) & set(files) or changes  # not yet
        if fail is not None:
            raise fail


def test_results_move_in_together(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    work(out, "map.mrc", "plots/a.png")
    assert names(out) == MADE and (out / "map.mrc").read_text() == "map.mrc"
    assert set(read_manifest(out).files) == MADE - {"manifest.json"}
    assert read_manifest(out).job == "volume_tools"


@pytest.mark.parametrize("fail", [ValueError, KeyboardInterrupt, InputError])
def test_a_job_that_fails_leaves_nothing(tmp_path: Path, fail: type[BaseException]) -> None:
    """Neither the folders that it made, nor anything in one that was there."""
    with pytest.raises(fail):
        work(tmp_path / "a" / "b", "map.mrc", fail=fail)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(fail):
        work(tmp_path, "map.mrc", fail=fail)
    assert names(tmp_path) == {"notes.txt"}


def test_what_was_there_is_replaced_when_asked_for_and_only_by_what_is_whole(
    tmp_path: Path,
) -> None:
    work(tmp_path, "map.mrc", "plots/a.png")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(
        InputError, match=r"already holds a run of job=volume_tools: .*overwrite=true"
    ):
        work(tmp_path, "map.mrc")
    with pytest.raises(ValueError):
        work(tmp_path, "plots/b.png", fail=ValueError, overwrite=True)
    assert names(tmp_path) == MADE | {"notes.txt"}
    work(tmp_path, "plots/b.png", overwrite=True)
    assert names(tmp_path) == {
        "config.yaml",
        "plots/b.png",
        "report.html",
        "manifest.json",
        "notes.txt",
    }


def test_what_a_killed_job_left_goes(tmp_path: Path) -> None:
    (tmp_path / f"{STAGE}xyz").mkdir()
    (tmp_path / f"{STAGE}xyz" / "map.mrc").touch()
    (tmp_path / ".map.mrc.7.partial").touch()
    work(tmp_path, "map.mrc")
    assert names(tmp_path) == {"config.yaml", "map.mrc", "report.html", "manifest.json"}


def test_two_jobs_in_one_folder(tmp_path: Path) -> None:
    settings = make_settings("volume_tools", out=str(tmp_path))
    with new_files(settings, PATTERNS), pytest.raises(InputError, match="is in use by process"):
        work(tmp_path, "map.mrc")
    work(tmp_path, "map.mrc", overwrite=True)


def test_no_folder_no_results() -> None:
    with (
        pytest.raises(InputError, match="out=null cannot be used here"),
        new_files(make_settings("volume_tools", out=None), PATTERNS),
    ):
        pass


def test_a_full_disk_is_told_whoever_meets_it(tmp_path: Path) -> None:
    """The job or a thread of another library; what is no matter of the disk stays what it is."""
    full = OSError(28, "No space left on device")

    def fail(error: Exception) -> None:
        raise error

    hook = threading.excepthook
    with (
        pytest.raises(InputError, match=r"cannot be written \(No space left"),
        told_if_full(tmp_path),
    ):
        fail(full)
    with (
        pytest.raises(InputError, match=r"cannot be written \(No space left"),
        told_if_full(tmp_path),
    ):
        thread = threading.Thread(target=fail, args=(full,))
        thread.start()
        thread.join()
    with pytest.raises(ZeroDivisionError), told_if_full(tmp_path):
        fail(ZeroDivisionError())
    assert threading.excepthook is hook


def test_a_disk_is_asked_for_room_first(tmp_path: Path) -> None:
    require_disk(tmp_path, 1e3)
    with pytest.raises(InputError, match=r"the new images need 1e\+09 GB.*make room, or name"):
        require_disk(tmp_path, 1e18)
