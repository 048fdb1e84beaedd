"""What an ab-initio reconstruction starts from: low-resolution spectra of a random part of the particles, and its settings."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from cryotorch.data.image_names import refuse_duplicates
from cryotorch.data.images import ParticleImages
from cryotorch.data.particle_file import ParticleFile
from cryotorch.errors import InputError
from cryotorch.jobs.config.parse import circle_fits, in_angstrom, require
from cryotorch.jobs.initial_map.settings import LEAST_IMAGES, AbInitio
from cryotorch.jobs.inputs.device import pick_device
from cryotorch.jobs.inputs.particles import load_particles, normalize_needed
from cryotorch.jobs.inputs.symmetry import symmetry_group
from cryotorch.ops.pose.scores import Observation
from cryotorch.particles import Particles
from cryotorch.refinement.ab_initio.settings import AbInitioSettings
from cryotorch.refinement.backproject import noise_sample
from cryotorch.refinement.em.initialise import initial_noise
from cryotorch.refinement.settings import ImageGrid
from cryotorch.refinement.spectra import Spectra

log = logging.getLogger("cryotorch")
PIXELS_PER_DETAIL = 3  # of final_resolution, in a box chosen here
LEAST_BOX, LEAST_SHELLS = 24, 3
MOST_IMAGES = 20_000  # that maps are made of; more do not help at these resolutions
INNER, OUTER = 0.85, 0.99  # of half the box: soft window of the images
SHIFT_EXTENT = 0.1  # of the box
BATCH, BATCH_OF_SEVERAL = 300, 150  # images per class: of one class, and of several


@dataclass(frozen=True)
class Inputs:
    """What was read.

    Attributes:
        settings: the job's, with lengths in Å; file: all particles; images: of all of them.
        particles: without poses; rows: (n,) those that maps are made of; seen: their spectra, up to the last limit.
        spectra: of any particles; algorithm: settings in pixels.
    """

    settings: AbInitio
    file: ParticleFile
    images: ParticleImages
    particles: Particles
    rows: Tensor
    seen: Observation
    spectra: Spectra
    algorithm: AbInitioSettings

    @property
    def rest(self) -> Tensor:
        """Rows of the particles that maps are not made of."""
        left = torch.ones(len(self.particles), dtype=torch.bool)
        left[self.rows] = False
        return torch.nonzero(left)[:, 0]


def read_inputs(given: AbInitio, device: torch.device | None = None) -> Inputs:
    """Read the particles and choose what is not given; ``device``: by default that of the settings.

    Raises:
        InputError: nothing is named, particles are too few, or lengths do not fit the box.
    """
    if given.particles is None:
        raise InputError("job=ab_initio needs particles: add particles=<file>")
    group, device = symmetry_group(given.symmetry), device or pick_device(given.device)
    file = load_particles(given.particles, given.class_, given, need_half_sets=False)
    n = len(file.particles)
    least = LEAST_IMAGES * given.n_classes
    if n < least:
        of = "" if given.class_ is None else f" of class={given.class_}"
        maps = "a map" if given.n_classes == 1 else f"{given.n_classes} maps"
        raise InputError(
            f"{given.particles} has {n} particles{of}: at least {least} are needed to make {maps} of nothing else"
        )
    refuse_duplicates(file.particles.address.numpy(), file.stacks, file.path)
    settings = in_angstrom(given, file.pixel_size)
    cache = (settings.cache_dtype, settings.cache_limit)
    box = choose_box(settings, file)
    images = ParticleImages(file, box, settings.cache_dir, settings.invert, *cache)
    images.normalize = normalize_needed(images, settings.normalize)
    algorithm = in_pixels(settings, images, group, file.box)
    most = MOST_IMAGES if settings.max_particles == "auto" else settings.max_particles
    rows = torch.arange(n)
    if n > most:
        rows = torch.randperm(n, generator=algorithm.generator(-3))[:most].sort().values
    particles = file.particles.replace(
        rotation=torch.eye(3).repeat(n, 1, 1),
        shift=torch.zeros(n, 2),
        scale=torch.ones(n),
        has_pose=False,
    )
    noise, loudest, _ = initial_noise(
        particles, noise_sample(images, particles), algorithm.grid, device
    )
    limit = algorithm.last_limit
    spectra = Spectra(images, particles, algorithm.grid, noise[0], loudest, limit)
    log.info(
        "%d particles, %d of them for the maps, %d pixels of %.4g Å, on %s",
        *(n, len(rows), images.box, images.pixel_size, device),
    )
    with tqdm(total=len(rows), unit=" particles", desc="read", disable=None) as bar:
        seen = spectra.together(rows, bar.update)
    return Inputs(settings, file, images, particles, rows, seen, spectra, algorithm)


def choose_box(settings: AbInitio, file: ParticleFile) -> int:
    """The box in pixels: ``PIXELS_PER_DETAIL`` for the final resolution, or the one that is asked for."""
    if settings.box_size != "auto":
        return settings.box_size
    edge = file.box * file.pixel_size
    wanted = 2 * math.ceil(PIXELS_PER_DETAIL * edge / settings.final_resolution / 2)
    return min(max(wanted, LEAST_BOX), file.box - file.box % 2)


def in_pixels(
    settings: AbInitio, images: ParticleImages, group: Tensor, extracted: int
) -> AbInitioSettings:
    """The settings of the algorithm; the images were ``extracted`` in so many pixels. Raises InputError where lengths do not fit the box."""
    box, pixel = images.box, images.pixel_size
    edge, diameter, extent = box * pixel, settings.particle_diameter, settings.shift_extent
    circle_fits(diameter, box, pixel)
    wish = f"the box ends {edge / 2:.4g} Å from its middle"
    require(extent is None or extent <= edge / 2, "shift_extent", extent, wish)
    last = edge / settings.final_resolution
    larger = "" if box == extracted else " or a larger box_size"
    wish = f"{box} pixels of {pixel:.4g} Å end at {2 * pixel:.4g} Å, give a coarser one{larger}"
    require(last <= box / 2 + 1e-6, "final_resolution", settings.final_resolution, wish)
    first = max(edge / settings.initial_resolution, LEAST_SHELLS)
    wish = f"a box of {edge:.4g} Å has no {LEAST_SHELLS} shells up to it"
    require(last > first, "final_resolution", settings.final_resolution, wish)
    extent = SHIFT_EXTENT * edge if extent is None else extent
    inner = INNER * box / 2
    if diameter is not None:
        inner = min(inner, (diameter / 2 + extent) / pixel)
    batch = settings.minibatch_size
    if batch == "auto":
        batch = BATCH if settings.n_classes == 1 else BATCH_OF_SEVERAL
    return AbInitioSettings(
        grid=ImageGrid(box, pixel, (inner, inner + (OUTER - INNER) * box / 2)),
        group=group,
        diameter=INNER * box if diameter is None else diameter / pixel,
        first_limit=first,
        last_limit=min(last, box / 2 - 0.5),
        n_classes=settings.n_classes,
        shift_extent=extent / pixel,
        batch=batch,
        nonnegative=settings.nonnegative,
        recenter=settings.recenter,
        seed=settings.seed,
    )
