"""Checkpoints of a job that goes on from stage to stage, and what tells its run from others."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from cryotorch.data.images import ParticleImages
from cryotorch.data.particle_file import ParticleFile
from cryotorch.errors import InputError
from cryotorch.jobs.config.parse import spelled
from cryotorch.jobs.files.fingerprint import Fingerprint, input_values
from cryotorch.jobs.files.manifest import job_name
from cryotorch.jobs.files.run_folder import CHECKPOINTS, FREE, RunFolder
from cryotorch.particles import Particles
from cryotorch.refinement.runtime.checkpoints import AtomicCheckpoints, read_checkpoint
from cryotorch.refinement.runtime.kept import Kept

FORMAT = 1  # of what is kept
RUN, STAGES = "run", "stages"
ELSEWHERE = ("particles", "device", "devices")  # compared by their content, or free


class StageFingerprint(Fingerprint):
    """The same for checkpoints that no trainer wrote."""

    def check(self, checkpoint: Path) -> dict[str, Any]:
        """What was kept of the stages.

        Raises:
            InputError: the file cannot be used.
            OtherRun: it belongs to something else.
        """
        saved = read_checkpoint(checkpoint)
        stages = saved.get(STAGES)
        if not isinstance(stages, dict) or not all(isinstance(name, str) for name in stages):
            raise InputError(f"checkpoint {checkpoint} lacks the stages of a run")
        self.compare(checkpoint, saved.get(RUN))
        return stages


def stage_fingerprint(
    settings: Any, file: ParticleFile, particles: Particles, images: ParticleImages
) -> StageFingerprint:
    """Of a job on particles and images."""
    values = input_values(file, particles, images)
    return StageFingerprint(images_of=images, format=FORMAT, job=job_name(settings), **values)


def fixed(settings: Any, later: tuple[str, ...]) -> tuple[str, ...]:
    """The parameters of a job with which a run cannot be gone on with when they change: all but those that count ``later``."""
    names = (spelled(field.name) for field in fields(settings))
    return tuple(name for name in names if name not in (*FREE, *ELSEWHERE, *later))


def write_stages(folder: RunFolder, belongs: StageFingerprint, kept: Kept, number: int) -> None:
    """The checkpoint of this ``number``; raises InputError where it cannot be written, or an image stack was changed."""
    belongs.require_same_images()
    place = folder.path / CHECKPOINTS
    place.mkdir(exist_ok=True)
    saved = {RUN: belongs.state_dict(), STAGES: kept.values}
    AtomicCheckpoints().save_checkpoint(saved, place / f"iteration_{number:03d}.ckpt")
    folder.iteration_done(number)
