"""The output folder of a job that makes its results in one go: all of them appear together, or none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryotorch.errors import InputError

RUN = "checkpoints"  # a folder that holds this belongs to a refinement


@contextmanager
def new_files(
    out: str | Path | None,
    overwrite: bool,
    patterns: Iterable[str],
    inputs: Iterable[str | Path | None] = (),
) -> Iterator[Path]:
    """A folder to write results into; they move to ``out`` together when the block ends well.

    Args:
        patterns: names of everything the job may write, as for ``Path.glob``; moved in this order.
        inputs: files of the user, which must not be replaced.

    Raises:
        InputError: ``out`` holds such files and ``overwrite`` is false, is the folder of a refinement, holds an
            input under one of the names, or cannot be written.
    """
    if out is None:
        raise InputError("out=null cannot be used here: name a folder for the results")
    out, patterns = Path(out), list(patterns)
    _check(out, overwrite, patterns, inputs)
    made = [folder for folder in (out, *out.absolute().parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".partial-", dir=out))
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"out={out} cannot be written ({reason}): choose another folder") from None
    try:
        yield folder
        fresh = _found(folder, patterns)
        unknown = {path.name for path in folder.iterdir()} - {path.name for path in fresh}
        assert not unknown, f"{sorted(unknown)} are not among the files of this job"
        for old in _found(out, patterns):
            _remove(old)
        for path in fresh:
            os.replace(path, out / path.name)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # not empty: another job has come in
            for above in made:
                above.rmdir()
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _check(
    out: Path, overwrite: bool, patterns: list[str], inputs: Iterable[str | Path | None]
) -> None:
    if (out / RUN).exists():
        raise InputError(f"out={out} is the folder of a refinement: choose another folder")
    held = _found(out, patterns)
    if held and not overwrite:
        raise InputError(
            f"out={out} already holds {held[0].name}: choose another folder, or add overwrite=true to replace it"
        )
    theirs = {Path(path).resolve() for path in inputs if path is not None}
    for path in held:
        if path.resolve() in theirs:
            raise InputError(
                f"out={out} cannot be used: its {path.name} is an input of this job, choose another folder"
            )


def _found(folder: Path, patterns: list[str]) -> list[Path]:
    """What matches, each once, in the order of the patterns."""
    return list(dict.fromkeys(path for p in patterns for path in sorted(folder.glob(p))))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
