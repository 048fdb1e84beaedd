"""The folder of a run that can be resumed: nothing in it is touched before the input is checked, and nothing of anyone else's ever."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from cryotorch.errors import DryRun, InputError
from cryotorch.findings import Finding
from cryotorch.jobs.config.parse import shown, to_yaml
from cryotorch.jobs.files.dry_run import tell_plan, work_begins
from cryotorch.jobs.files.fingerprint import FIXED, Fingerprint, OtherRun, other_run
from cryotorch.jobs.files.first_look import refuse_missing, refuse_values
from cryotorch.jobs.files.folder_lock import FolderLock
from cryotorch.jobs.files.manifest import (
    MANIFEST,
    Manifest,
    cannot_write,
    found,
    job_name,
    make_folder,
    read_manifest,
    refuse_foreign,
    refuse_inputs,
    refuse_place,
    remove,
    remove_empty,
    remove_partial,
)
from cryotorch.jobs.files.ranks import rank
from cryotorch.jobs.files.resume import CONFIG, FOLDER, write_config
from cryotorch.jobs.pages.write import PAGES, write_pages
from cryotorch.report.figures import FIGURES
from cryotorch.report.sentences import line
from cryotorch.results import CURVES

CHECKPOINTS = "checkpoints"
KEPT_CHECKPOINTS = 2  # checkpoints: should the last one be damaged, there is that before
BEFORE = (
    ".before"  # where the run that is being replaced waits for the first iteration of the new one
)
# Everything that a run leaves behind, as patterns.
RESULTS = (
    *(
        CONFIG,
        "log.txt",
        "summary.json",
        "fsc.txt",
        "fsc_iterations.txt",
        *(f"fsc_{name}.xml" for name in CURVES),
    ),
    *(
        "map.mrc",
        "map_sharp.mrc",
        "map_half_A.mrc",
        "map_half_B.mrc",
        "mask_refine.mrc",
        "mask_fsc.mrc",
        "map_cutoff.mrc",
    ),
    *("particles.star", "particles.cs", "orientations.bild"),
    *(f"plots/{name}.png" for name in FIGURES),
    *("tensorboard/events.out.tfevents.*", "tensorboard/hparams.yaml"),
    "tensorboard/*/events.out.tfevents.*",
    *("profile/iteration_*.json.gz", "profile/iteration_*.txt"),
    f"{CHECKPOINTS}/iteration_*.ckpt",
)
# What may differ between a run and its resumption without a word.
FREE = (
    *("out", "resume", "overwrite", "dry_run", "cache_dir", "cache_dtype", "cache_limit", "write"),
    *("profile", "trainer", "compile", "minibatch_size"),
)


def checkpoints(out: Path) -> list[Path]:
    """The checkpoints in a run folder, oldest first."""
    return [Path(out) / name for name in found(Path(out), [f"{CHECKPOINTS}/iteration_*.ckpt"])]


def damaged_checkpoint(reason: str) -> str:
    """The line about one that is not gone on from."""
    return line(Finding("checkpoint_damaged", reason=reason))


class RunFolder:
    """Checked first, opened when the input is known to be good, as it was before when the first iteration never ends.

    A context: within it, from ``open`` or from the start if it exists, the folder is locked. Only rank 0 touches it, and no dry run.

    Args:
        settings: with ``out``, ``resume`` and ``overwrite``.
        inputs: files and folders of the user.
        results: patterns of all that the job may write, by default a refinement.
        fixed: parameters with which a run cannot be gone on with when they change.

    Raises:
        InputError: a value is wrong, see ``first_look``; it holds a run, there is nothing to resume, it is in use, an input lies in it, something lies where a result goes,
            or it cannot be written.
    """

    def __init__(
        self,
        settings: Any,
        inputs: Iterable[str | Path | None] = (),
        results: tuple[str, ...] = RESULTS,
        fixed: tuple[str, ...] = (*FIXED, "volume"),
    ) -> None:
        self.path, self.job = Path(settings.out), job_name(settings)
        self.results, self.fixed = (*results, *PAGES), fixed
        self.resume, self.overwrite = settings.resume, settings.overwrite
        self.dry_run = settings.dry_run
        self._settings, self._lock = settings, FolderLock(self.path)
        self._new, self._opened = False, False
        self._made: list[Path] = []
        inputs = list(inputs)
        self._missing = refuse_values(settings, inputs)
        if rank() == 0:
            refuse_place(self.path)
            self.refuse_inputs(inputs)

    def refuse_inputs(self, inputs: Iterable[str | Path | None]) -> None:
        """Raises InputError for a file of the user inside it."""
        if rank() == 0:
            refuse_inputs(self.path, inputs)

    def __enter__(self) -> RunFolder:
        try:
            if rank() == 0 and self.dry_run:
                self._lock.refuse_held()
            elif rank() == 0 and self.path.is_dir():
                self._take()
            if rank() == 0:
                self._check()
                refuse_missing(self._settings, self._missing)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _) -> None:
        try:
            if isinstance(error, DryRun) and rank() == 0:
                tell_plan(self.path, self.results, self.resume)
            if self._opened and isinstance(error, Exception):
                self._discard()
            elif self._opened:  # ended, or stopped by the user
                write_pages(self.path, self.path)
                self._record()
        except (OSError, InputError):  # the folder is gone, or the disk full: the error says so
            if error is None:
                raise
        finally:
            self._lock.release()
            if error is not None:
                remove_empty(self._made)

    def _take(self) -> None:
        try:
            self._lock.acquire()
            self._settle()
        except OSError as error:
            raise cannot_write(self.path, error) from None

    def _check(self) -> None:
        out = self.path
        held = refuse_foreign(out, self.job, self.results)
        if self.resume:
            if held is None:
                raise InputError(
                    f"resume=true finds no run in out={out}: leave resume out, or name the folder of the run"
                )
            if _has_results(held) and not checkpoints(out):
                got = f", whose run got to iteration {held.iterations}" if held.iterations else ""
                raise InputError(
                    f"resume=true finds no checkpoint in out={out}{got}: its results stay as they are, name another folder, or add "
                    "overwrite=true to replace them"
                )
        elif held is not None and _has_results(held) and not self.overwrite:
            raise InputError(
                f"out={out} already holds a run: name another folder, or add resume=true to go on or overwrite=true to replace it"
            )

    def checkpoint(self, belongs: Fingerprint) -> tuple[Path | None, dict[str, Any], list[str]]:
        """The newest checkpoint that is whole, the state in it, and what is wrong with newer ones; of a run that goes on.

        Raises:
            InputError: there are some, but of another run, or none is whole.
        """
        said: list[str] = []
        for path in reversed(checkpoints(self.path)) if self.resume else ():
            try:
                return path, belongs.check(path), said
            except OtherRun:
                raise
            except InputError as error:
                said.append(str(error))
        if said:
            raise InputError(
                f"{said[0]}, and none before it is whole: start anew with overwrite=true"
            )
        return None, {}, []

    def open(self, settings: Any) -> Path:
        """Make it, put aside what is to be replaced, and write the configuration; on rank 0. A dry run ends here at the latest."""
        work_begins(settings)
        if rank() > 0:
            return self.path
        try:
            self._made = make_folder(self.path)
            self._take()
            self._check()  # another run may have come in
            self._new = not self.resume or not checkpoints(self.path)
            self._opened = True
            if self._new:
                self._put_aside()
            before = read_manifest(self.path) or Manifest(self.job)
            replace(before, patterns=self.results).write(self.path)
            remove_partial(self.path, self.results)
            remove(self.path, PAGES)  # of what the run was when it was stopped
            write_config(self.path, settings)  # other ranks read it
        except OSError as error:
            raise cannot_write(self.path, error) from None
        return self.path

    def iteration_done(self, number: int) -> None:
        """After its checkpoint: what was replaced, and older checkpoints, are not needed any more."""
        manifest = read_manifest(self.path) or Manifest(self.job, patterns=self.results)
        replace(manifest, iterations=number).write(self.path)
        remove(
            self.path,
            [
                p.relative_to(self.path).as_posix()
                for p in checkpoints(self.path)[:-KEPT_CHECKPOINTS]
            ],
        )
        self._drop_before()

    def _record(self) -> None:
        """What the run has written, for those who come later."""
        manifest = read_manifest(self.path)
        if manifest is not None:
            manifest.ended(self.path, self.results).write(self.path)

    def _discard(self) -> None:
        """After a failure: as it was before, if no iteration has ended, so that the mended command can be given again."""
        manifest = read_manifest(self.path)
        if self._new and manifest is not None and not manifest.iterations:
            self._clear()
            self._restore()
        else:
            self._record()

    def _clear(self) -> None:
        """Remove what the run wrote."""
        manifest = read_manifest(self.path)
        if manifest is not None:
            remove(
                self.path, [name for name in found(self.path, self.results) if manifest.owns(name)]
            )
            remove_partial(self.path, self.results)
            remove(self.path, [MANIFEST])
            remove_empty(
                self.path / name for name in ("plots", "profile", "tensorboard", CHECKPOINTS)
            )

    def _put_aside(self) -> None:
        """Move a run with results to ``BEFORE``, its manifest last; of one without nothing is left."""
        manifest = read_manifest(self.path)
        if manifest is None:
            return
        if not _has_results(manifest):
            self._clear()
            return
        names = [name for name in found(self.path, self.results) if manifest.owns(name)]
        _move(self.path, self.path / BEFORE, [*names, MANIFEST])

    def _settle(self) -> None:
        """Bring to an end what a killed run had begun to put aside or back, or to drop."""
        if not (self.path / BEFORE).is_dir():
            return
        manifest = read_manifest(self.path)
        whole = read_manifest(self.path / BEFORE) is not None
        if manifest is None or not whole:  # moved in part, or before the new run began
            self._restore()
        elif manifest.iterations:
            self._drop_before()

    def _restore(self) -> None:
        before = self.path / BEFORE
        if before.is_dir():
            _move(before, self.path, found(before, [*self.results, MANIFEST]))

    def _drop_before(self) -> None:
        before = self.path / BEFORE
        if before.is_dir():
            remove(self.path, [f"{BEFORE}/{n}" for n in found(before, [*self.results, MANIFEST])])

    def changes(self, settings: Any) -> list[str]:
        """What differs from the settings that the run was started with, as ``name=new instead of old``.

        Raises:
            InputError: the run's images or start would have been others.
        """
        try:
            before = _flat(yaml.safe_load((self.path / CONFIG).read_text(encoding="utf-8")))
        except (OSError, ValueError, yaml.YAMLError, AttributeError):
            return []
        start = Path(before.get(FOLDER, "."))
        now = _flat(yaml.safe_load(to_yaml(settings)))
        differ = [
            name
            for name, value in now.items()
            if name.split(".")[0] not in FREE
            and name in before
            and not _same(value, before[name], start)
        ]
        for name in differ:
            if name in self.fixed and not (
                name == "volume" and _copied(now[name], start / before[name])
            ):
                raise InputError(
                    other_run(self.path, f"{name} is {shown(now[name])}, was {shown(before[name])}")
                )
        return [f"{name}={shown(now[name])} instead of {shown(before[name])}" for name in differ]


def _has_results(held: Manifest) -> bool:
    """Whether a run got to a checkpoint, or ended without any."""
    return held.iterations > 0 or "summary.json" in held.files


def _move(start: Path, end: Path, names: list[str]) -> None:
    """Rename files into another folder of the same file system, in this order; folders that become empty go."""
    for name in names:
        (end / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(start / name, end / name)
    remove(start, names)  # all moved: only their folders
    if not any(start.iterdir()):
        start.rmdir()


def _same(now: Any, before: Any, start: Path) -> bool:
    """Whether two values are the same, or lead to one file; ``start``: where relative paths of ``before`` began."""
    if now == before or not (isinstance(now, str) and isinstance(before, str)):
        return now == before
    return os.path.exists(now) and os.path.realpath(now) == os.path.realpath(start / before)


def _copied(now: str, before: Path) -> bool:
    """Whether a file that moved has the bytes of the one before, as far as that can be told."""
    if not os.path.isfile(now) or os.path.isdir(before):
        return False
    return not os.path.isfile(before) or filecmp.cmp(now, before, shallow=False)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= (
            _flat(value, f"{prefix}{name}.")
            if isinstance(value, Mapping)
            else {prefix + name: value}
        )
    return flat
