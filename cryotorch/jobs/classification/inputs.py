"""What a classification starts from, checked: particles in half sets, their images, the limits in pixels."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import torch

from cryotorch.data.files import host_memory
from cryotorch.data.images import ParticleImages
from cryotorch.data.particle_file import ParticleFile
from cryotorch.jobs.classification.settings import Class2d
from cryotorch.jobs.config.parse import in_angstrom, require
from cryotorch.jobs.inputs.device import pick_device
from cryotorch.jobs.inputs.particles import load_particles, normalize_needed
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.particles import Particles
from cryotorch.refinement.class2d.settings import ClassSettings
from cryotorch.refinement.half_sets import assign_half_sets
from cryotorch.refinement.settings import ImageGrid

log = logging.getLogger("cryotorch")
NYQUIST = 0.75  # of max_resolution, that the box is chosen for
FIRST_RESOLUTION = 40.0  # Å, what images are compared at in the beginning
SHARED_RESOLUTION = 40.0  # Å, up to which both half sets see the same averages
FIRST_SHELLS, SHARED_SHELLS = 4.0, 5.0  # Fourier pixels that these are at least
MASK_SHARE = 0.8  # of the box
WINDOW = (0.85, 0.99)  # of half the box, where the window on the images begins and ends
PER_CLASS, MOST_OF_ALL, LEAST_BATCH = 100, 1 / 3, 300  # images of a batch
MIN_LIMIT = 6.0  # Fourier pixels, less than which tells classes of nothing apart
MIN_PER_CLASS = 5  # particles
AT_ONCE = 256  # images


@dataclass(frozen=True)
class ClassInput:
    """Everything that is known before the first iteration; ``how`` in the units of the algorithm."""

    settings: Class2d
    file: ParticleFile
    images: ParticleImages
    particles: Particles
    how: ClassSettings
    device: torch.device


def load(given: Class2d, device: torch.device | None = None) -> ClassInput:
    """Read and check the input of a job; ``device``: by default that of the settings.

    Raises:
        InputError: too few particles, or lengths that do not fit the box.
    """
    device = device or pick_device(given.device)
    file = load_particles(given.particles, given.class_, given, need_half_sets=False)
    settings = in_angstrom(given, file.pixel_size)
    box = _box(settings, file)
    cache = (settings.cache_dtype, settings.cache_limit)
    images = ParticleImages(file, box, settings.cache_dir, settings.invert, *cache)
    particles, _ = assign_half_sets(file.particles, False, settings.seed)
    most = len(particles) // MIN_PER_CLASS
    requirement = f"{len(particles)} particles make {most} classes at most"
    require(settings.n_classes <= most, "n_classes", settings.n_classes, requirement)
    chosen = settings.select if isinstance(settings.select, list) else []
    wrong = [number for number in chosen if number > settings.n_classes]
    requirement = f"the classes have the numbers 1 to {settings.n_classes}"
    require(not wrong, "select", settings.select, requirement)
    how = in_pixels(settings, images, len(particles))
    _require_room(how, len(particles))
    images.normalize = normalize_needed(images, settings.normalize)
    log.info(
        "%d particles of %d pixels, %.4g Å, in %d classes, compared up to %.3g Å, on %s",
        *(len(particles), images.box, images.pixel_size, settings.n_classes),
        *(images.box * images.pixel_size / how.last_limit, device),
    )
    return ClassInput(settings, file, images, particles, how, device)


def _require_room(how: ClassSettings, n: int) -> None:
    """InputError where the truncated spectra of n images cannot stay in memory."""
    need, there = 12.0 * n * half_plane(how.grid.box).count(how.last_limit), host_memory()
    finest = how.grid.box * how.grid.pixel_size / how.last_limit
    requirement = (
        f"the images up to it need {need / 1e9:.2g} GB of memory, and there are {there / 1e9:.2g}: choose "
        f"{math.ceil(finest * math.sqrt(need / there))} Å or coarser, or fewer particles"
    )
    require(need <= there, "max_resolution", finest, requirement)


def _box(settings: Class2d, file: ParticleFile) -> int:
    """The box that images are cropped to."""
    if settings.box_size != "auto":
        return settings.box_size
    edge = file.box * file.pixel_size
    return min(file.box, max(16, 2 * math.ceil(edge / (NYQUIST * settings.max_resolution))))


def in_pixels(settings: Class2d, images: ParticleImages, n: int) -> ClassSettings:
    """How n particles are classified, in pixels and radians."""
    box, pixel = images.box, images.pixel_size
    edge, diameter = box * pixel, settings.mask_diameter
    requirement = f"the box is only {edge:.4g} Å wide"
    require(diameter is None or diameter <= edge, "mask_diameter", diameter, requirement)
    requirement = f"nothing is left in it, it must be at least {8 * pixel:.4g} Å"
    require(diameter is None or diameter >= 8 * pixel, "mask_diameter", diameter, requirement)
    last, most = edge / settings.max_resolution, box / 2 - 1
    requirement = f"classes need detail, it must be at most {math.floor(edge / MIN_LIMIT):d} Å"
    require(last >= MIN_LIMIT, "max_resolution", settings.max_resolution, requirement)
    extent = settings.shift_extent
    requirement = f"it must be at most a quarter of the box, {edge / 4:.4g} Å"
    require(extent <= edge / 4, "shift_extent", extent, requirement)
    step, batch = settings.in_plane_step, settings.batch
    if batch == "auto":
        batch = min(PER_CLASS * settings.n_classes, max(LEAST_BATCH, round(MOST_OF_ALL * n)))
    last = min(last, most)
    at_once = settings.minibatch_size
    return ClassSettings(
        grid=ImageGrid(box, pixel, (WINDOW[0] * box / 2, WINDOW[1] * box / 2)),
        radius=(diameter or MASK_SHARE * edge) / 2 / pixel,
        n_classes=settings.n_classes,
        first_limit=min(max(edge / FIRST_RESOLUTION, FIRST_SHELLS), last),
        last_limit=last,
        shared_limit=max(edge / SHARED_RESOLUTION, SHARED_SHELLS),
        step=None if step == "auto" else math.radians(step),
        extent=extent / pixel,
        batch=min(batch, n),
        iterations=settings.iterations,
        passes=settings.epochs,
        recentre=settings.recenter,
        seed=settings.seed,
        at_once=AT_ONCE if at_once == "auto" else at_once,
    )
