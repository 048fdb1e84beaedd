"""Local refinement: one region of a structure, from poses that exist."""

from __future__ import annotations

from dataclasses import replace

from cryotorch.jobs.config.parse import require
from cryotorch.jobs.refinement.local_settings import LocalRefine

NEEDED = {
    "particles": "add particles=<STAR file with orientations and half sets>",
    "volume": "add volume=<run folder or map>",
    "mask": "a local refinement needs a soft mask around the region, add mask=<file>",
}


def run(config: LocalRefine) -> None:
    """From posed particles to a validated map of a region in ``config.out``."""
    import time

    started = time.perf_counter()
    for name, requirement in NEEDED.items():
        require(getattr(config, name) is not None, name, None, requirement)
    from cryotorch.refinement.runtime.lean_lightning import import_lightning

    import_lightning()
    from cryotorch.jobs.refinement.run import refine, run_log

    with run_log() as log:
        refine(config, prepare, log, started)


def prepare(config: LocalRefine, file, images, group):
    """Poses and half sets as they came, the references, the mask, and what ties the poses down."""
    import logging

    from cryotorch.errors import InputError
    from cryotorch.jobs.inputs.particles import shared_before
    from cryotorch.jobs.inputs.reference import (
        load_box_mask,
        load_references,
        mask_keeps,
        warn_if_hard,
        warn_if_inverted,
    )
    from cryotorch.jobs.inputs.source_run import doubts
    from cryotorch.jobs.refinement.freedom import describe, extent_of, place_text
    from cryotorch.jobs.refinement.run import Inputs
    from cryotorch.jobs.refinement.settings import em_settings
    from cryotorch.refinement.half_sets import assign_half_sets, counted_over
    from cryotorch.refinement.settings import LocalSettings
    from cryotorch.report.sentences import line, say

    log = logging.getLogger("cryotorch")
    particles = file.particles
    if not particles.has_pose:
        raise InputError(
            f"particles={config.particles} has no orientations (rlnAngleRot and the others): a local refinement starts from "
            "those of a refinement, give its particles.star"
        )
    resplit = config.half_sets == "resplit"
    if not resplit and bool((particles.half < 0).any()):
        raise InputError(
            f"particles={config.particles} has particles without half set (rlnRandomSubset): give the particles.star of a "
            "refinement, or add half_sets=resplit if their poses come from elsewhere"
        )
    particles, note = assign_half_sets(particles, resplit, config.seed)
    shared, presumed = shared_before(file, config.shared_resolution, resplit)
    for finding in (*counted_over(particles, group, config.symmetry), *presumed):
        log.info(line(finding))
    volume, source = load_references(config.volume, file, images)
    warn_if_inverted(volume.mean(0), config.volume)
    mask = load_box_mask(config.mask, config.volume, file, images)
    warn_if_hard(mask, config.mask)
    extent = extent_of(config, mask, images.pixel_size, file.pixel_size)
    settings = em_settings(config, images, group)
    user_mask = None if config.mask_mode == "none" else mask
    settings = replace(
        settings,
        shared=images.box * images.pixel_size / shared if shared else 0.0,
        mask=replace(settings.mask, user_mask=user_mask, fsc_mask=mask),
        local=LocalSettings(
            extent, config.recenter_rotations, config.recenter_shifts, config.subtract
        ),
    )
    corner = [f + images.box // 2 for f in extent.fulcrum]
    kept = mask_keeps(volume, mask, images.pixel_size)
    log.info("fulcrum %s", place_text(corner, images.pixel_size))
    log.info("%s", describe(extent, images.pixel_size))
    extras = {"fulcrum_voxels": corner, "half_sets_from": say(note), "mask_keeps": kept["share"]}
    earlier = doubts(config.particles, config.volume)
    return Inputs(settings, volume, particles, [note, source, kept, *earlier], extras, earlier)
