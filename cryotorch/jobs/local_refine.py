"""Local refinement: one region of a structure, from poses that exist."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from cryotorch.jobs.config.parse import Angle, Length, require
from cryotorch.jobs.config.units import parse_length
from cryotorch.jobs.refinement.settings import RefineConfig

ROTATION_EXTENT, SHIFT_EXTENT = 20.0, 10.0  # degrees; Å, the diameter
NEEDED = {
    "particles": "add particles=<STAR file with orientations and half sets>",
    "volume": "add volume=<run folder or map>",
    "mask": "a local refinement needs a soft mask around the region, add mask=<file>",
}
SIGMAS = 3  # standard deviations of a prior that an extent covers when it is not given


@dataclass(frozen=True)
class LocalRefine(RefineConfig):
    """The parameters; meanings and defaults in ``configs/job/local_refine.yaml``, lengths in Å."""

    shared_resolution: Length | None
    fulcrum: Literal["mask_center", "box_center"] | list[float] | list[str]
    rotation_extent: Angle | None
    shift_extent: Length | None
    recenter_rotations: bool
    recenter_shifts: bool
    subtract: bool
    prior_rotation: Angle | None
    prior_shift: Length | None

    def __post_init__(self) -> None:
        """Refuses what is wrong whatever the data are."""
        super().__post_init__()
        if not isinstance(self.fulcrum, str):
            requirement = "write three numbers, [x,y,z] in voxels from the corner of the box, or [35A,40A,52A]"
            require(len(self.fulcrum) == 3, "fulcrum", self.fulcrum, requirement)
        self._check_prior("rotation_extent", "prior_rotation", 1)
        self._check_prior("shift_extent", "prior_shift", 2)

    def _check_prior(self, extent: str, prior: str, share: int) -> None:
        most, sigma = getattr(self, extent), getattr(self, prior)
        if most is None or sigma is None or isinstance(most, str) or isinstance(sigma, str):
            return  # comes again with the pixel size
        within = sigma <= most / share
        name = extent if share == 1 else f"half of {extent}"
        require(
            within,
            prior,
            sigma,
            f"a prior wider than the search does nothing, it must be at most {name}, {most / share:g}",
        )


def run(settings: LocalRefine) -> None:
    """From posed particles to a validated map of a region in ``settings.out``."""
    import time

    started = time.perf_counter()
    for name, requirement in NEEDED.items():
        require(getattr(settings, name) is not None, name, None, requirement)
    from cryotorch.jobs.refinement.run import refine, run_log

    with run_log() as log:
        refine(settings, prepare, log, started)


def prepare(settings: LocalRefine, file, images, group):
    """Poses and half sets as they came, the references, the mask, and what ties the poses down."""
    import logging

    from cryotorch.errors import InputError
    from cryotorch.jobs.inputs.particles import shared_before
    from cryotorch.jobs.inputs.reference import (
        load_mask,
        load_references,
        warn_if_hard,
        warn_if_inverted,
    )
    from cryotorch.jobs.refinement.run import Inputs
    from cryotorch.jobs.refinement.settings import em_settings
    from cryotorch.refinement.half_sets import assign_half_sets, counted_over
    from cryotorch.refinement.settings import LocalSettings
    from cryotorch.report.sentences import line, say

    log = logging.getLogger("cryotorch")
    particles = file.particles
    if not particles.has_pose:
        raise InputError(
            f"particles={settings.particles} has no orientations (rlnAngleRot and the others): a local refinement starts from "
            "those of a refinement, give its particles.star"
        )
    resplit = settings.half_sets == "resplit"
    if not resplit and bool((particles.half < 0).any()):
        raise InputError(
            f"particles={settings.particles} has particles without half set (rlnRandomSubset): give the particles.star of a "
            "refinement, or add half_sets=resplit if their poses come from elsewhere"
        )
    particles, note = assign_half_sets(particles, resplit, settings.seed)
    shared, presumed = shared_before(file, settings.shared_resolution, resplit)
    for finding in (*counted_over(particles, group, settings.symmetry), *presumed):
        log.info(line(finding))
    volume, source = load_references(settings.volume, file, images)
    warn_if_inverted(volume.mean(0), settings.volume)
    mask = load_mask(settings.mask, settings.volume, file, images)
    warn_if_hard(mask, settings.mask)
    reach = _reach(settings, mask, images.pixel_size, file)
    planned = em_settings(settings, images, group)
    planned = replace(
        planned,
        shared=images.box * images.pixel_size / shared if shared else 0.0,
        mask=replace(
            planned.mask, user_mask=None if settings.mask_mode == "none" else mask, fsc_mask=mask
        ),
        local=LocalSettings(
            reach, settings.recenter_rotations, settings.recenter_shifts, settings.subtract
        ),
    )
    corner = [f + images.box // 2 for f in reach.fulcrum]
    log.info("fulcrum %s", _place(corner, images.pixel_size))
    log.info("%s", describe(reach, images.pixel_size))
    extras = {"fulcrum_voxels": corner, "half_sets_from": say(note)}
    return Inputs(planned, volume, particles, [note, source], extras)


def _place(corner: list[float], pixel_size: float) -> str:
    """Voxels from the corner of the box, and the same in Å."""
    voxels, lengths = (
        "[" + ", ".join(f"{v * size:.1f}" for v in corner) + "]" for size in (1.0, pixel_size)
    )
    return f"{voxels} voxels from the corner of the box ({lengths} Å)"


def _reach(settings: LocalRefine, mask, pixel_size: float, file):
    """Extents, priors and fulcrum in radians and pixels."""
    import math

    from cryotorch.refinement.settings import SearchExtent

    turn, move = settings.rotation_extent, settings.shift_extent
    sigma_turn, sigma_move = settings.prior_rotation, settings.prior_shift
    if turn is None:
        turn = ROTATION_EXTENT if sigma_turn is None else min(SIGMAS * sigma_turn, 180.0)
    if move is None:
        move = SHIFT_EXTENT if sigma_move is None else 2 * SIGMAS * sigma_move
    edge = mask.shape[-1] * pixel_size
    require(move <= edge, "shift_extent", move, f"the box is only {edge:.4g} Å wide")
    # no width at all leaves no freedom
    turn, sigma_turn = (0.0, None) if sigma_turn == 0 else (turn, sigma_turn)
    move, sigma_move = (0.0, None) if sigma_move == 0 else (move, sigma_move)
    return SearchExtent(
        fulcrum=_fulcrum(settings.fulcrum, mask, pixel_size, file.pixel_size),
        rotation=math.radians(turn),
        shift=move / 2 / pixel_size,
        rotation_sigma=math.inf if sigma_turn is None else math.radians(sigma_turn),
        shift_sigma=math.inf if sigma_move is None else sigma_move / pixel_size,
    )


def _fulcrum(
    given, mask, pixel_size: float, particle_pixel_size: float
) -> tuple[float, float, float]:
    """(x, y, z) pixels from pixel d // 2: voxels count those of the particles as extracted, from the corner."""
    from cryotorch.ops.geometry.placement import centre_of_mass

    box = mask.shape[-1]
    if given == "box_center":
        return (0.0, 0.0, 0.0)
    if given == "mask_center":
        corner = [float(v) for v in centre_of_mass(mask)]
    else:
        lengths = [
            parse_length(v if isinstance(v, str) else f"{v}px", particle_pixel_size, "fulcrum")
            for v in given
        ]
        corner = [length / pixel_size for length in lengths]
        inside = all(-0.5 <= v <= box - 0.5 for v in corner)
        requirement = f"it lies outside the box, whose voxels go from 0 to {box - 1}"
        require(inside, "fulcrum", given, requirement)
    return tuple(v - box // 2 for v in corner)


def describe(reach, pixel_size: float) -> str:
    """The freedom of the poses as a sentence."""
    import math

    text = f"rotations up to {math.degrees(reach.rotation):.3g}°, shifts up to {reach.shift * pixel_size:.3g} Å from the start"
    priors = []
    if math.isfinite(reach.rotation_sigma):
        priors.append(f"{math.degrees(reach.rotation_sigma):.3g}°")
    if math.isfinite(reach.shift_sigma):
        priors.append(f"{reach.shift_sigma * pixel_size:.3g} Å")
    return text + (f", priors of {' and '.join(priors)}" if priors else "")
