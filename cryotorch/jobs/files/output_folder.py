"""The output folder of a job that makes its results in one go: all of them appear together, or none."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryotorch.errors import InputError
from cryotorch.jobs.files.dry_run import nothing_kept
from cryotorch.jobs.files.first_look import refuse_missing, refuse_values
from cryotorch.jobs.files.folder_lock import FolderLock
from cryotorch.jobs.files.manifest import (
    Manifest,
    cannot_write,
    found,
    job_name,
    make_folder,
    refuse_foreign,
    refuse_inputs,
    refuse_place,
    remove,
    remove_empty,
    remove_partial,
)
from cryotorch.jobs.files.resume import write_config
from cryotorch.jobs.pages.write import PAGE, PAGES, write_pages

STAGE = ".stage-"  # begins the name of the folder that results are made in


@contextmanager
def new_files(
    settings: Any, patterns: Iterable[str], inputs: Iterable[str | Path | None] = ()
) -> Iterator[Path]:
    """A folder to write results into, with ``config.yaml``; they get their page, and move to ``settings.out`` together when the block ends well.

    Of a dry run nothing moves, and the block ends with DryRun.

    Args:
        settings: of the job, with ``out`` and ``overwrite``.
        patterns: names of everything the job may write; moved in this order, and what an earlier run left of them goes.
        inputs: files and folders of the user.

    Raises:
        InputError: a value is wrong, see ``first_look``; ``out`` holds such files and ``overwrite`` is false, holds an input, what another job or nobody known wrote, is
            in use, or cannot be written, now or later.
    """
    inputs = list(inputs)
    missing = refuse_values(settings, inputs)
    if settings.out is None:
        raise InputError("out=null cannot be used here: name a folder for the results")
    out, patterns = Path(settings.out), [*PAGES, *patterns]
    _check(out, settings, patterns, inputs)
    made: list[Path] = []
    lock = FolderLock(out)
    if settings.dry_run:
        lock.refuse_held()
        refuse_missing(settings, missing)
        with nothing_kept(out, patterns) as folder:
            yield folder
    try:
        with told_if_full(out):
            made = make_folder(out)
            lock.acquire()
            _check(out, settings, patterns, ())  # another job may have come in
            _remove_stale(out, patterns)
            folder = Path(tempfile.mkdtemp(prefix=STAGE, dir=out))
            try:
                write_config(folder, settings)
                yield folder
                if not (folder / PAGE).is_file():  # else it is what the job is for
                    write_pages(folder, out)
                _move(folder, out, job_name(settings), patterns)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except BaseException:
        lock.release()
        remove_empty(made)  # unless another job has come in
        raise
    lock.release()


def _check(
    out: Path, settings: Any, patterns: list[str], inputs: Iterable[str | Path | None]
) -> None:
    refuse_place(out)
    refuse_inputs(out, inputs)
    job = job_name(settings)
    held = refuse_foreign(out, job, patterns)
    if held is not None and not settings.overwrite:
        raise InputError(
            f"out={out} already holds a run of job={job}: name another folder, or add overwrite=true to replace it"
        )


def _remove_stale(out: Path, patterns: list[str]) -> None:
    """What a killed job left behind, as nobody else is at work here."""
    remove_partial(out, patterns)
    for folder in out.glob(f"{STAGE}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _move(folder: Path, out: Path, job: str, patterns: list[str]) -> None:
    fresh, old = found(folder, patterns), found(out, patterns)
    unknown = set(found(folder, ["*"])) - set(fresh)
    assert not unknown, f"{sorted(unknown)} are not among the files of this job"
    Manifest(job, tuple(dict.fromkeys([*old, *fresh]))).write(out)
    for name in fresh:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder / name, out / name)
    remove(out, set(old) - set(fresh))
    Manifest(job, tuple(fresh)).write(out)


@contextmanager
def told_if_full(out: Path) -> Iterator[None]:
    """Whatever cannot be written below ``out`` ends as an InputError, also what TensorBoard's thread could not write."""
    before = threading.excepthook
    lost: list[OSError] = []

    def keep(failed: threading.ExceptHookArgs) -> None:
        if isinstance(failed.exc_value, OSError):
            lost.append(failed.exc_value)
        else:
            before(failed)

    threading.excepthook = keep
    try:
        yield
    except OSError as error:
        raise cannot_write(out, error) from None
    finally:
        threading.excepthook = before
    if lost:
        raise cannot_write(out, lost[0])


def require_disk(folder: Path, need: float) -> None:
    """Raises InputError where the disk of a folder has no room for so many bytes."""
    free = shutil.disk_usage(folder).free
    if need > free:
        raise InputError(
            f"the new images need {need / 1e9:.2g} GB, and the disk of {folder.parent} has {free / 1e9:.2g} free: make room, or name another "
            "folder with out="
        )
