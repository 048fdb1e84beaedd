"""Half maps and what they show, from particles with their poses: read, inserted once, judged."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from cryotorch.data.images import ParticleImages
from cryotorch.data.particle_file import ParticleFile
from cryotorch.errors import InputError
from cryotorch.jobs.config.parse import circle_fits, in_angstrom
from cryotorch.jobs.config.process import return_freed_memory
from cryotorch.jobs.files.dry_run import work_begins
from cryotorch.jobs.files.memory import (
    NEEDS,
    SYMMETRIC,
    memory_needed,
    memory_of,
    require_room,
    sums_memory,
)
from cryotorch.jobs.inputs import damage
from cryotorch.jobs.inputs.device import pick_device
from cryotorch.jobs.inputs.map_grid import Grid
from cryotorch.jobs.inputs.masks import try_mask
from cryotorch.jobs.inputs.particles import load_particles, normalize_needed, shared_before
from cryotorch.jobs.inputs.symmetry import symmetry_group
from cryotorch.jobs.reconstruction.results import Found, judge
from cryotorch.jobs.reconstruction.settings import Reconstruct
from cryotorch.ops.fourier.coarse import coarse_sums
from cryotorch.ops.fourier.reconstruct import Sums
from cryotorch.ops.fourier.symmetrise import symmetrise_
from cryotorch.ops.geometry.symmetry_fit import SymmetryFit, box_for
from cryotorch.particles import Particles, ignore
from cryotorch.refinement.backproject import Insertion, backproject, noise_sample
from cryotorch.refinement.em.hands import Frame
from cryotorch.refinement.em.initialise import initial_noise
from cryotorch.refinement.em.out_of_memory import batch_size
from cryotorch.refinement.em.symmetry_check import Verdict, judge_symmetry
from cryotorch.refinement.half_sets import assign_half_sets, counted_over, image_numbers
from cryotorch.refinement.image_weight import Watch
from cryotorch.refinement.runtime.distributed import Batches
from cryotorch.refinement.settings import ImageGrid
from cryotorch.report.sentences import line

log = logging.getLogger("cryotorch")
# Bytes per voxel of the padded box: 12 of the sums of two half sets, 2 each of the factors that even them out and of the copy that
# these are found with; measured at the peak: 18.
BYTES_PER_VOXEL = NEEDS["reconstruct"][1]


@dataclass(frozen=True)
class Reconstructed:
    """What a reconstruction makes: maps and what is known of them, the poses that were used, and entries of ``summary.json``."""

    found: Found
    file: ParticleFile
    particles: Particles
    group: Tensor
    extras: dict[str, object]


def reconstructed(given: Reconstruct, started: float) -> Reconstructed:
    """Everything but the files; ``started``: on time.perf_counter."""
    device, group = pick_device(given.device), symmetry_group(given.symmetry)
    keep = given.half_sets == "keep"
    file = load_particles(given.particles, given.class_, given, need_half_sets=keep)
    _check_poses(given, file.particles.has_pose)
    settings = in_angstrom(given, file.pixel_size)
    cache = (settings.cache_dtype, settings.cache_limit)
    images = ParticleImages(file, settings.box_size, settings.cache_dir, settings.invert, *cache)
    settings = replace(settings, padding=_padding(settings, images, device))
    images.normalize = normalize_needed(images, settings.normalize)
    particles, note = assign_half_sets(
        file.particles, settings.half_sets == "resplit", settings.seed
    )
    shared, presumed = shared_before(file, settings.shared_resolution, not keep)
    for finding in (note, *counted_over(particles, group, settings.symmetry), *presumed):
        log.info(line(finding))
    if settings.flip_hand:
        particles = other_hand(particles)
    log.info(
        "%d particles of %d pixels, %.4g Å, symmetry %s, on %s",
        *(len(particles), images.box, images.pixel_size, settings.symmetry, device),
    )
    try_mask(given, Grid(images.box, images.pixel_size))
    work_begins(given)
    read = time.perf_counter()
    halves, particles, loud, verdict = _symmetric(settings, particles, images, group, device)
    damaged = damage.damaged_images(images, loud)
    if damaged:
        log.warning(line(damage.finding(damaged, len(particles))))
    inserted = time.perf_counter()
    warnings = [w for w in (verdict.warning, *presumed) if w is not None and w.serious]
    found = judge(settings, halves, images.pixel_size, device, shared, warnings)
    judged = time.perf_counter()
    seconds = {"read": read - started, "insert": inserted - read, "maps": judged - inserted}
    extras = {
        "particles": len(particles),
        "images": len(image_numbers(particles).unique()),
        "half_sets": [int((particles.half == half).sum()) for half in (0, 1)],
        "symmetry": settings.symmetry,
        "shared_resolution": shared,
        "symmetry_shown": verdict.fits,
        "symmetry_turn": verdict.words or None,
        "flip_hand": settings.flip_hand,
        "ewald": settings.ewald,
        "seed": settings.seed,
        damage.ENTRY: damaged,
        "device": str(device),
        "seconds": seconds,
    }
    return Reconstructed(found, file, particles, group, extras)


def _symmetric(
    settings: Reconstruct,
    particles: Particles,
    images: ParticleImages,
    group: Tensor,
    device: torch.device,
) -> tuple[list[Sums], Particles, dict[int, str], Verdict]:
    """The sums of both half sets, the poses behind them, what is wrong with images by row, and whether they show the symmetry; with ``auto`` about axes that fit."""
    halves, loud, verdict = _insert(settings, particles, images, group, device)
    if settings.symmetry_frame != "auto" or verdict.turn is None:
        return halves, particles, loud, verdict
    log.info(
        "The poses do not show %s about the axes that RELION uses; after %s they do: the poses are turned",
        *(settings.symmetry, verdict.words),
    )
    rotation = Frame(verdict.turn, mirrored=False).poses(particles.rotation)
    particles = particles.replace(rotation=rotation)
    halves, loud, again = _insert(settings, particles, images, group, device)
    return halves, particles, loud, replace(again, turn=verdict.turn, words=verdict.words)


def _insert(
    settings: Reconstruct,
    particles: Particles,
    images: ParticleImages,
    group: Tensor,
    device: torch.device,
) -> tuple[list[Sums], dict[int, str], Verdict]:
    """The sums of both half sets, with the symmetry, what is wrong with images by row, and whether the sums show the symmetry.

    One half set after the other, as the sums are the largest thing in memory.
    """

    box, diameter = images.box, settings.particle_diameter
    grid = ImageGrid.whole(box, images.pixel_size)
    curvature = {None: 0, "positive": 1, "negative": -1}[settings.ewald]
    radius = diameter and diameter / 2 / images.pixel_size
    how = Insertion(settings.padding, radius, curvature)
    known = {name: getattr(settings, f"ignore_{name}") for name in ("tilt", "trefoil", "tetra")}
    optics = ignore(particles.optics, **known, anisomag=settings.ignore_anisomag)
    seen = particles.replace(optics=optics)
    size = settings.minibatch_size
    batches = Batches(images, particles.half, batch_size(box) if size == "auto" else size)
    checked = settings.symmetry_frame != "trust" and len(group) > 1
    sums, coarse, verdict = [], [], Verdict(None)
    with torch.no_grad(), tqdm(total=len(particles), unit=" particles", disable=None) as bar:

        def of_half(half: int):
            for number, rows in enumerate(batches.rows):
                if particles.half[rows[0]] == half:
                    yield batches[number]
                    bar.update(len(rows))

        noise, most, _ = initial_noise(seen, noise_sample(images, seen), grid, device)
        watch = Watch(most, len(seen))
        return_freed_memory()
        for half in (0, 1):
            bar.set_description(f"half set {'AB'[half]}")
            inserted = backproject(seen, of_half(half), noise, grid, device, how, watch)
            if checked:
                coarse.append(coarse_sums(inserted, box_for(box / 2 - 1)))
            sums.append(symmetrise_(inserted, group))
        if checked:
            radius = 0.4 if diameter is None else diameter / 2 / (box * images.pixel_size)
            look = SymmetryFit(coarse, box / 2 - 1, radius)
            verdict = judge_symmetry(look, group, settings.symmetry, box * images.pixel_size)
    return sums, watch.faults(box, images.pixel_size), verdict


def other_hand(particles: Particles) -> Particles:
    """The poses of the same images for the map v(-x); shifts stay."""

    mirror = Frame(torch.eye(3, dtype=torch.float64), mirrored=True)
    return particles.replace(rotation=mirror.poses(particles.rotation))


def _check_poses(settings: Reconstruct, has_pose: bool) -> None:
    if not has_pose:
        raise InputError(
            f"{settings.particles} has no orientations (_rlnAngleRot, _rlnAngleTilt, _rlnAnglePsi; alignments3D/pose in a .cs "
            "file): find them with job=homo_refine"
        )


def _padding(settings: Reconstruct, images: ParticleImages, device: torch.device) -> int:
    """The padding that fits; refuses what cannot fit."""
    circle_fits(settings.particle_diameter, images.box, images.pixel_size)
    padding = settings.padding
    if padding == "auto":
        padding = 2 if BYTES_PER_VOXEL * (2 * images.box) ** 3 < memory_of(device) / 2 else 1
        if padding == 1:
            log.info("padding=1, as 2 would take half of the memory")
    said = f"padding={padding} with a box of {images.box} pixels"
    require_room(padding * images.box, device, said, BYTES_PER_VOXEL)
    padded = padding * images.box
    more = sums_memory(images.box, padding)
    more += SYMMETRIC * padded**3 if len(symmetry_group(settings.symmetry)) > 1 else 0.0
    log.info(line(memory_needed("reconstruct", padded, device, more)))
    return padding
