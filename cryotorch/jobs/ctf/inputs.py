"""What a CTF refinement starts from, checked: posed particles in half sets, their half maps inside a mask, the limits."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cryotorch.data.images import ParticleImages
from cryotorch.data.particle_file import ParticleFile
from cryotorch.errors import InputError
from cryotorch.findings import Finding
from cryotorch.jobs.config.parse import in_angstrom, require
from cryotorch.jobs.ctf.settings import OPTICS, CtfRefine
from cryotorch.jobs.files.manifest import summary_of
from cryotorch.jobs.inputs.device import pick_device
from cryotorch.jobs.inputs.half_maps import background
from cryotorch.jobs.inputs.particles import load_particles, normalize_needed
from cryotorch.jobs.inputs.reference import (
    load_box_mask,
    load_references,
    warn_if_hard,
    warn_if_inverted,
)
from cryotorch.ops.masks.soft import density_mask, soft_sphere
from cryotorch.ops.resolution.claims import ENDED, judge
from cryotorch.particles import Particles
from cryotorch.refinement.ctf.refine import REFIT_PRIOR_ERRORS
from cryotorch.refinement.half_sets import MIN_PER_HALF, assign_half_sets, refuse_shared_images
from cryotorch.refinement.settings import (
    CtfTargets,
    ImageGrid,
)
from cryotorch.report.sentences import line, say

log = logging.getLogger("cryotorch")
# Masks of a run folder, ours and CryoSPARC's; that of the FSC may be drawn in too tightly to predict images.
MASKS = ("mask_refine.mrc", "*_mask_refine.mrc")
MICROGRAPH = "rlnMicrographName"
SIGMAS = ("cryotorchDefocusSigma", "cryotorchAstigmatismSigma")
MIN_BAND = 1.25  # ratio of the coarsest to the finest resolution of a fit


@dataclass(frozen=True)
class CtfInput:
    """Everything that is known before the first pass.

    Attributes:
        settings: lengths in Å; file, images, particles: the input.
        references: (2, d, d, d) half maps inside the mask, on the device; what, grid: in the algorithm's units.
        micrograph: (n,) number of each particle's micrograph, where its astigmatism is fitted; limit: Å.
        curves: FSC by name, where there are half maps.
    """

    settings: CtfRefine
    file: ParticleFile
    images: ParticleImages
    particles: Particles
    references: Tensor
    what: CtfTargets
    grid: ImageGrid
    micrograph: Tensor | None
    limit: float
    curves: dict[str, Tensor]


def load(config: CtfRefine) -> CtfInput:
    """Read and check the input of a job.

    Raises:
        InputError: no poses, no half sets, premultiplied images, another grid, a resolution too low for what is asked.
    """
    device = pick_device(config.device)
    whole = not Path(config.volume).is_dir()
    requirement = f"volume={config.volume} is one map, whose resolution is not known: add max_resolution=<Å>, or give a run folder"
    require(not whole or config.max_resolution is not None, "max_resolution", None, requirement)
    file = load_particles(config.particles, config.class_, config, need_half_sets=False)
    settings = in_angstrom(config, file.pixel_size)
    particles = _checked(file, config, whole)
    micrograph = _micrographs(file, config) if settings.astigmatism == "micrograph" else None
    cache = (settings.cache_dtype, settings.cache_limit)
    images = ParticleImages(file, None, settings.cache_dir, settings.invert, *cache)
    images.normalize = normalize_needed(images, settings.normalize)
    maps, source = load_references(settings.volume, file, images)
    log.info(say(source.plus(compared=True)))
    warn_if_inverted(maps.mean(0), settings.volume)
    maps = maps.to(device)
    mask = _mask(settings, maps, file, images)
    limit, curves = _limit(settings, maps, mask, images)
    what = replace(_what(settings, limit, images), prior=_prior(file))
    log.info(
        "%d particles of %d pixels, %.4g Å, fitted up to %.2f Å, on %s",
        *(len(particles), images.box, images.pixel_size, limit, device),
    )
    grid = ImageGrid.whole(images.box, images.pixel_size)
    files = (settings, file, images, particles)
    return CtfInput(*files, maps * mask, what, grid, micrograph, limit, curves)


def _checked(file: ParticleFile, config: CtfRefine, whole: bool) -> Particles:
    """The particles, fit to be compared with half maps, or with one of the ``whole``, where any half sets will do."""
    particles, said = file.particles, f"particles={config.particles}"
    if not particles.has_pose:
        raise InputError(
            f"{said} has no orientations (rlnAngleRot and the others): give the particles.star of a refinement"
        )
    if whole:
        particles, _ = assign_half_sets(particles, False, 0)
    elif bool((particles.half < 0).any()):
        raise InputError(
            f"{said} has {int((particles.half < 0).sum())} particles without half set (rlnRandomSubset), so that nobody knows which half "
            "map they are part of: give the particles.star of the refinement that made the half maps, or reconstruct new ones with "
            "job=reconstruct, whose particles.star has the half sets it drew"
        )
    refuse_shared_images(particles, "keep all rows of an image in one half set")
    count = [int((particles.half == half).sum()) for half in (0, 1)]
    if min(count) < MIN_PER_HALF:
        raise InputError(
            f"the half sets of {said} have {count[0]} and {count[1]} particles, at least {MIN_PER_HALF} each are needed: give "
            "more particles"
        )
    done = particles.optics.premultiplied
    if done is not None and bool(done[particles.optics_group].any()):
        raise InputError(
            f"{said} has images that were multiplied by their CTF (rlnCtfDataAreCtfPremultiplied), which hides it: extract them without"
        )
    return particles


def _micrographs(file: ParticleFile, config: CtfRefine) -> Tensor:
    table = file.tables["particles"]
    if MICROGRAPH not in table:
        raise InputError(
            f"astigmatism=micrograph cannot be used: {config.particles} does not say from which micrograph a particle is "
            f"({MICROGRAPH}), use none or particle"
        )
    return torch.from_numpy(np.unique(table.raw(MICROGRAPH), return_inverse=True)[1].ravel())


def _mask(settings: CtfRefine, maps: Tensor, file: ParticleFile, images: ParticleImages) -> Tensor:
    """The mask on the half maps: given, that of the run folder, or made."""
    path, folder = settings.mask, Path(settings.volume)
    if path is None and folder.is_dir():
        there = [match for name in MASKS for match in sorted(folder.glob(name))]
        path = there[0] if there else None
    if path is not None:
        log.info("mask %s", path)
        mask = load_box_mask(path, settings.volume, file, images)
        warn_if_hard(mask, path)
        return mask.to(maps.device)
    try:
        mask = density_mask(maps.mean(0), images.pixel_size, 0.2, near=6, far=14, low_pass=12)
        log.info("mask made from the density")
    except ValueError as refused:
        log.info("the mask is a soft sphere: %s", refused)
        mask = soft_sphere(images.box, 0.45 * images.box, 0.04 * images.box, maps.device)
    return mask


def _prior(file: ParticleFile) -> float | None:
    """Å, where the defocus was fitted to these images before: they cannot tell a second time how far off it was."""
    table = file.tables["particles"]
    if SIGMAS[0] not in table:
        return None
    sigma = float(np.median(table.floats(SIGMAS[0], file.path)))
    log.info("the defocus was refined before, to %.0f Å", sigma)
    return REFIT_PRIOR_ERRORS * sigma if sigma > 0 else None


def _limit(
    settings: CtfRefine, maps: Tensor, mask: Tensor, images: ParticleImages
) -> tuple[float, dict[str, Tensor]]:
    """The finest resolution of the fits, Å, and the FSC curves behind it.

    What the run claims, or where it wrote no summary what may be claimed of its half maps.

    Raises:
        InputError: that is nothing, and nobody says what to take.
    """
    asked, finest = settings.max_resolution, 2 * images.pixel_size
    edge = images.box * images.pixel_size
    nyquist = edge / (images.box / 2 - 1)
    requirement = f"it is finer than two pixels, {finest:.4g} Å"
    require(asked is None or asked >= 0.999 * finest, "max_resolution", asked, requirement)
    folder = Path(settings.volume)
    if not folder.is_dir():
        return max(asked, nyquist), {}
    judged = judge(maps, images.pixel_size, mask, None, background(folder, None, images.box))
    curves = {name: c.cpu() for name, c in judged.curves.items()}
    summary, source = summary_of(folder), folder / "summary.json"
    claimed = summary.get("resolution") if "resolution" in summary else judged.resolution
    if not (isinstance(claimed, int | float) and claimed > 0):
        said = (
            f"{source} claims no resolution"
            if "resolution" in summary
            else "the half maps agree no further than noise may"
        )
        require(
            asked is not None,
            "volume",
            settings.volume,
            f"{said}, and defocus and aberrations would be fitted to noise: give a run that resolves something, or add "
            "max_resolution=<Å> where it is known from elsewhere",
        )
        log.warning(line(Finding("resolution_as_told", reason=said, resolution=asked)))
        return max(asked, nyquist), curves
    if "resolution" in summary:
        log.info("the resolution is that in %s, %.2f Å", source, claimed)
    else:
        reason = ENDED[judged.ended_by]
        log.info("inside this mask half maps agree up to %.2f Å (%s)", claimed, reason)
    return max(asked or claimed, nyquist), curves


def _what(settings: CtfRefine, limit: float, images: ParticleImages) -> CtfTargets:
    finest = images.box * images.pixel_size / (images.box / 2 - 1)
    for name, asked in (("defocus", settings.defocus), ("optics", settings.fits_optics)):
        if asked:
            _require_band(settings, f"{name}_min_resolution", limit, finest)
    return CtfTargets(
        limit=images.box * images.pixel_size / limit,
        defocus=settings.defocus,
        astigmatism=settings.astigmatism,
        tilt=settings.tilt,
        trefoil=settings.trefoil,
        spherical=settings.spherical,
        tetra=settings.tetra,
        anisomag=settings.anisomag,
        defocus_range=settings.defocus_range,
        defocus_from=settings.defocus_min_resolution,
        optics_from=settings.optics_min_resolution,
    )


def _require_band(settings: CtfRefine, name: str, limit: float, finest: float) -> None:
    """Raises InputError where a fit from ``name`` to ``limit`` Å has next to no shells; values that are named would do."""
    coarse, asked = getattr(settings, name), settings.max_resolution
    fits = coarse >= MIN_BAND * limit
    most = math.floor(100 * coarse / MIN_BAND) / 100
    requirement = f"the fits begin at {name}={coarse:g} Å, it must be at most {most:g}"
    require(fits or asked is None or most < finest, "max_resolution", asked, requirement)
    least = math.ceil(100 * MIN_BAND * limit - 1e-9) / 100
    requirement = f"detail is fitted only up to {limit:.3g} Å, make it at least {least:g}"
    if name.startswith("optics"):
        fitted = [switch for switch in OPTICS if getattr(settings, switch)]
        requirement += (
            f", or leave the optics out with {' '.join(f'{switch}=false' for switch in fitted)}"
        )
    require(fits, name, coarse, requirement)
