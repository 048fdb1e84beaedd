"""The passes of a CTF refinement over the images."""

from __future__ import annotations

import logging

from tqdm import tqdm

from cryotorch.errors import InputError
from cryotorch.findings import Finding
from cryotorch.jobs.ctf.inputs import CtfInput
from cryotorch.particles import Optics
from cryotorch.refinement.backproject import noise_sample
from cryotorch.refinement.ctf.apply import Refined
from cryotorch.refinement.ctf.compare import pick_sample
from cryotorch.refinement.ctf.refine import CtfPass
from cryotorch.refinement.em.initialise import MIN_POSE_MATCH, initial_noise
from cryotorch.refinement.em.out_of_memory import batch_size
from cryotorch.refinement.image_weight import Watch
from cryotorch.refinement.runtime.distributed import Batches
from cryotorch.report.sentences import line

log = logging.getLogger("cryotorch")


def refine(inputs: CtfInput) -> tuple[Refined, Optics, dict[int, str]]:
    """Pass after pass, each from what the last one found; that, the optics it began with, and what is wrong with images by row.

    Raises:
        InputError: the images correlate with the inverted map.
    """
    settings, images, grid = inputs.settings, inputs.images, inputs.grid
    device, size = inputs.references.device, settings.minibatch_size
    batches = Batches(
        images, inputs.particles.half, batch_size(grid.box) if size == "auto" else size
    )
    sample = pick_sample(batches)
    sampled = noise_sample(images, inputs.particles)
    noise, max_ratio, _ = initial_noise(inputs.particles, sampled, grid, device)
    watch = Watch(max_ratio, len(inputs.particles))
    particles, start = inputs.particles, None
    for number in range(1, settings.passes + 1):
        one = CtfPass(
            particles,
            inputs.references,
            inputs.what,
            grid,
            inputs.particles,
            start,
            inputs.micrograph,
            watch,
        )
        calibration = one.calibrate(sample, noise)
        if number == 1:
            _check_match(calibration.match, settings.volume)
            if inputs.what.defocus and inputs.what.prior is None:
                log.info("defocus errors are taken to be about %.0f Å", calibration.prior[0])
        text = f"pass {number} of {settings.passes}"
        with tqdm(total=len(particles), desc=text, unit=" particles", disable=None) as bar:
            for batch in (batches[n] for n in range(len(batches))):
                one.add(batch, noise)
                bar.update(len(batch.index))
        found, begun = one.solve(), particles.optics
        particles, start = found.particles, found.start
    return found, begun, watch.faults(grid.box, grid.pixel_size)


def _check_match(match: float, volume: str | None) -> None:
    if match < -MIN_POSE_MATCH:
        raise InputError(
            f"the particles correlate with the inverse of volume={volume}, their contrast is opposite: change invert (true is for "
            "particles that are dark on bright), or invert the maps"
        )
    if match < MIN_POSE_MATCH:
        log.warning(line(Finding("particles_hardly_match", volume=str(volume), match=match)))
