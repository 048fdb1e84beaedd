"""What classes at fixed poses start from: images, masks, and the settings of the algorithm."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.data.images import ParticleImages
from cryotorch.data.particle_file import ParticleFile
from cryotorch.errors import InputError
from cryotorch.findings import Finding
from cryotorch.jobs.classification3d.fixed_settings import LEAST_IMAGES, Classify
from cryotorch.jobs.config.parse import circle_fits, in_angstrom, require
from cryotorch.jobs.files.memory import memory_needed, require_room
from cryotorch.jobs.initial_map.inputs import INNER, OUTER, choose_box
from cryotorch.jobs.inputs.map_grid import Grid
from cryotorch.jobs.inputs.masks import load_mask
from cryotorch.jobs.inputs.particles import load_particles, normalize_needed, shared_before
from cryotorch.jobs.inputs.source_run import doubts
from cryotorch.jobs.inputs.symmetry import symmetry_group
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.resolution.claims import Background
from cryotorch.particles import Particles
from cryotorch.refinement.backproject import noise_sample
from cryotorch.refinement.em.initialise import initial_noise
from cryotorch.refinement.half_sets import assign_half_sets, counted_over, image_numbers
from cryotorch.refinement.hetero.settings import HeteroSettings
from cryotorch.refinement.settings import ImageGrid
from cryotorch.refinement.spectra import Spectra
from cryotorch.report.sentences import line

log = logging.getLogger("cryotorch")
LEAST_SHELLS = 3
BYTES_PER_COEFFICIENT = 16 + 12  # of an image, and while it is read
BYTES_PER_VOXEL = 40  # of the box, for each class: half maps, references, their tables
SUMS_BYTES = 2 * 12 / 2  # per voxel of the padded box, for each class


@dataclass(frozen=True)
class Inputs:
    """What was read.

    Attributes:
        settings: the job's, with lengths in Å; file: all particles; images: of all of them.
        particles: with half sets; number: (n,) of the image that each shows.
        spectra: of any particles; algorithm: settings in pixels.
        solvent, focus: masks (d, d, d), None where they are not given.
        shared: Å up to which half sets have the same maps; findings: that are said already, to be repeated at the end.
    """

    settings: Classify
    file: ParticleFile
    images: ParticleImages
    particles: Particles
    number: Tensor
    spectra: Spectra
    algorithm: HeteroSettings
    solvent: Tensor | None
    focus: Tensor | None
    shared: float
    findings: list[Finding]

    @property
    def known(self) -> Background:
        """What the half maps have in common."""
        edge = self.images.box * self.images.pixel_size
        algorithm = self.algorithm
        symmetry = self.settings.symmetry.upper()
        return Background(
            algorithm.group, edge / self.shared, algorithm.limit, symmetry, tuple(self.findings)
        )


def read_inputs(given: Classify, device: torch.device) -> Inputs:
    """Read particles and masks, and choose what is not given.

    Raises:
        InputError: no particles are named, they have no poses or are too few, or lengths do not fit the box.
    """
    if given.particles is None:
        raise InputError("job=classify needs particles: add particles=<file with poses>")
    group, keep = symmetry_group(given.symmetry), given.half_sets == "keep"
    file = load_particles(given.particles, given.class_, given, need_half_sets=keep)
    if not file.particles.has_pose:
        raise InputError(
            f"{given.particles} has no orientations (_rlnAngleRot, _rlnAngleTilt, _rlnAnglePsi; alignments3D/pose in a .cs "
            "file): find them with job=homo_refine, or poses and classes together with job=hetero_refine"
        )
    least, number = LEAST_IMAGES * given.n_classes, image_numbers(file.particles)
    count = len(number.unique())
    if count < least:
        raise InputError(
            f"{given.particles} has {count} particles: at least {least} are needed for n_classes={given.n_classes}"
        )
    settings = in_angstrom(given, file.pixel_size)
    cache = (settings.cache_dtype, settings.cache_limit)
    box = choose_box(settings, file)
    images = ParticleImages(file, box, settings.cache_dir, settings.invert, *cache)
    images.normalize = normalize_needed(images, settings.normalize)
    algorithm = in_pixels(settings, images, group)
    particles, note = assign_half_sets(file.particles, not keep, settings.seed)
    before, presumed = shared_before(file, settings.shared_resolution, not keep)
    findings = [*counted_over(particles, group, settings.symmetry), *presumed]
    findings += doubts(given.particles)
    for finding in (note, *findings):
        log.info(line(finding))
    shared = min(x for x in (before, settings.split_resolution) if x is not None)
    _announce_memory(len(particles), algorithm, device)
    masks: dict[str, Tensor | None] = {"solvent_mask": None, "mask": None}
    for name in masks:
        path = getattr(settings, name)
        if path is not None:
            mask, wrong = load_mask(path, Grid(images.box, images.pixel_size), name)
            masks[name] = mask.to(device)
            findings += wrong
            for finding in wrong:
                log.info(line(finding))
    noise, loudest, _ = initial_noise(
        particles, noise_sample(images, particles), algorithm.grid, device
    )
    spectra = Spectra(images, particles, algorithm.grid, noise[0], loudest, algorithm.limit)
    log.info(
        "%d particles of %d pixels, %.4g Å, symmetry %s, %d classes, on %s",
        *(len(particles), images.box, images.pixel_size, settings.symmetry),
        *(settings.n_classes, device),
    )
    serious = [finding for finding in findings if finding.serious]
    return Inputs(
        *(settings, file, images, particles, number, spectra, algorithm),
        *(masks["solvent_mask"], masks["mask"], shared, serious),
    )


def in_pixels(settings: Classify, images: ParticleImages, group: Tensor) -> HeteroSettings:
    """The settings of the algorithm.

    Raises:
        InputError: lengths do not fit the box.
    """
    box, pixel = images.box, images.pixel_size
    edge = box * pixel
    circle_fits(settings.particle_diameter, box, pixel)
    limit = min(edge / settings.final_resolution, box / 2 - 1)
    first = min(edge / settings.initial_resolution, limit)
    wish = f"a box of {edge:.4g} Å has no {LEAST_SHELLS} shells up to it"
    require(first >= LEAST_SHELLS, "initial_resolution", settings.initial_resolution, wish)
    inner = INNER * box / 2
    return HeteroSettings(
        grid=ImageGrid(box, pixel, (inner, OUTER * box / 2)),
        group=group,
        n_classes=settings.n_classes,
        limit=limit,
        split=edge / settings.split_resolution,
        first_limit=first,
        n_starts=settings.n_starts,
        n_repeats=settings.n_repeats,
        ess=settings.similarity,
        hard=settings.assignment == "hard",
        most_passes=settings.max_passes,
        seed=settings.seed,
    )


def _announce_memory(n: int, algorithm: HeteroSettings, device: torch.device) -> None:
    """Say what is needed, and refuse maps that cannot fit."""
    box, padded, k = algorithm.grid.box, algorithm.padding * algorithm.grid.box, algorithm.n_classes
    count = half_plane(box).count(algorithm.limit)
    maps = 2 * k * (SUMS_BYTES * padded**3 + BYTES_PER_VOXEL * box**3)
    require_room(box, device, f"n_classes={k} with a box of {box} pixels", maps / box**3)
    more = float(n) * count * BYTES_PER_COEFFICIENT + maps
    log.info(line(memory_needed("classify", box, device, more)))
