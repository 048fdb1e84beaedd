"""A job that goes on from stage to stage: its folder, its processes, what it keeps, and how a run that was stopped goes on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from cryotorch.errors import InputError, out_of_memory
from cryotorch.findings import remark
from cryotorch.jobs.files.fingerprint import unusable
from cryotorch.jobs.files.output_folder import told_if_full
from cryotorch.jobs.files.ranks import processes, rank
from cryotorch.jobs.files.resume import resuming
from cryotorch.jobs.files.run_folder import RunFolder, damaged_checkpoint
from cryotorch.jobs.stages.checkpoints import StageFingerprint, fixed, write_stages
from cryotorch.jobs.stages.processes import team_of
from cryotorch.refinement.runtime.kept import Kept
from cryotorch.refinement.runtime.team import Team
from cryotorch.report.run_log import RunLog
from cryotorch.report.sentences import line

log = logging.getLogger("cryotorch")
DONE = "done"  # kept once all files are written


class StagedRun:
    """A run between its input and its results.

    Attributes:
        folder: of the results; team: its processes; device: of this one.
        kept: what its stages have made, from ``begin`` on.
        heard: called with the name and result of each stage.
    """

    def __init__(
        self, settings: Any, folder: RunFolder, log: RunLog, team: Team, device: torch.device
    ) -> None:
        self.settings, self.folder, self.team, self.device = settings, folder, team, device
        self.kept, self.heard = Kept(), list[Callable[[str, Any], None]]()
        self._log, self._number, self._pause, self._saved = log, 0, 0.0, 0.0
        self.gone_on_from: Path | None = None  # until a stage has ended well

    def begin(self, belongs: StageFingerprint, pause: float = 0.0, timed: bool = False) -> bool:
        """Open the folder, on rank 0; False where the run has finished already. A dry run ends here.

        Args:
            belongs: what tells the run from others; pause: seconds that lie between two checkpoints at least.
            timed: a dry run has said how long a run takes.

        Raises:
            InputError: the run that is to go on is another one, or its checkpoints are damaged.
        """
        self._belongs, self._pause, self._saved = belongs, pause, time.monotonic()
        path, stages, damaged = self.folder.checkpoint(belongs)
        for reason in damaged:
            log.info(damaged_checkpoint(reason))
        if path is not None:
            changes, done = self.folder.changes(self.settings), stages.pop(DONE, False)
            if done and not changes:
                log.info("The run in %s has finished already.", self.folder.path)
                return False
            log.info("goes on from %s", path)
            for change in changes:
                log.info("resumed with %s", change)
            self._number, self.gone_on_from = int(path.stem.rpartition("_")[2]), path
        if self.settings.dry_run and not timed:
            log.info(line(remark("time_unknown")))
        self._log.open(self.folder.open(self.settings) / "log.txt")
        self.kept = Kept(stages, self.device, self._changed)
        return True

    def save(self) -> None:
        """A checkpoint of what is kept now."""
        self._number += 1
        write_stages(self.folder, self._belongs, self.kept, self._number)
        self._saved, self.gone_on_from = time.monotonic(), None

    def finish(self) -> None:
        """All files are written."""
        self.kept.values[DONE] = True
        self.save()

    def _changed(self, name: str, value: Any) -> None:
        if time.monotonic() - self._saved >= self._pause:
            self.save()
        for hear in self.heard:
            hear(name, value)


@contextmanager
def staged(
    settings: Any,
    results: tuple[str, ...],
    inputs: Iterable[str | Path | None] = (),
    later: tuple[str, ...] = (),
) -> Iterator[StagedRun]:
    """The run of a job, with its log, its folder and its other processes until the block ends.

    Args:
        settings: with ``out``, ``resume``, ``overwrite``, ``device`` and ``devices``.
        results: patterns of all that the job may write; inputs: files and folders of the user.
        later: parameters that count for the end of the run only, and may change when it goes on.

    Raises:
        InputError: see ``RunFolder`` and ``team_of``; or what a checkpoint holds cannot be used.
        Stopped: by a signal.
    """
    processes(settings.devices)
    if settings.out is None:
        raise InputError("out=null cannot be used here: name a folder for the results")
    run: StagedRun | None = None
    with (
        RunLog(rank()) as log,
        RunFolder(settings, inputs, results, fixed(settings, later)) as folder,
        told_if_full(folder.path),
    ):
        try:
            go_on, alone = resuming(settings), settings.dry_run
            with team_of(settings.device, settings.devices, go_on, alone) as (team, device):
                run = StagedRun(settings, folder, log, team, device)
                yield run
        except (RuntimeError, ValueError, LookupError, TypeError) as error:
            expected = isinstance(error, InputError) or out_of_memory(error)
            if expected or run is None or run.gone_on_from is None:
                raise
            raise unusable(run.gone_on_from, type(error).__name__) from error
