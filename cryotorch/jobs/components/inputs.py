"""What the search for components starts from, checked: particles with poses in half sets, their images, the limits in pixels."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.data.images import ParticleImages
from cryotorch.data.particle_file import ParticleFile
from cryotorch.errors import InputError
from cryotorch.findings import Finding
from cryotorch.jobs.components.settings import Variability
from cryotorch.jobs.config.parse import in_angstrom, require
from cryotorch.jobs.files.memory import memory_needed, memory_of, require_room, sums_memory
from cryotorch.jobs.inputs.device import pick_device
from cryotorch.jobs.inputs.particles import load_particles, normalize_needed
from cryotorch.jobs.inputs.source_run import doubts
from cryotorch.jobs.inputs.symmetry import symmetry_group
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.particles import Particles
from cryotorch.refinement.half_sets import assign_half_sets, image_numbers
from cryotorch.refinement.settings import ImageGrid
from cryotorch.refinement.variability.em import Poses
from cryotorch.refinement.variability.settings import VariabilitySettings
from cryotorch.refinement.variability.sums import PADDING
from cryotorch.report.sentences import line

log = logging.getLogger("cryotorch")
AUTO_RESOLUTION = 10.0  # Å
NYQUIST = 0.75  # of the resolution, that the box is chosen for
WINDOW = (0.85, 0.99)  # of half the box, where the window on the images begins and ends
MIN_LIMIT = 4.0  # Fourier pixels, less than which shows no parts
MIN_IMAGES = 20  # of a half set, for each component
AT_ONCE = 256  # images


@dataclass(frozen=True)
class ComponentInput:
    """Everything that is known before the first map; ``how`` in pixels, without a mask; image (n,): which recorded image a row shows;
    earlier: what the runs that the poses come from doubt."""

    settings: Variability
    file: ParticleFile
    images: ParticleImages
    particles: Particles
    image: Tensor
    poses: Poses
    how: VariabilitySettings
    device: torch.device
    earlier: list[Finding]

    @property
    def edge(self) -> float:
        """Å, of the box."""
        return self.how.grid.box * self.how.grid.pixel_size


def load(given: Variability) -> ComponentInput:
    """Read and check the input of the job.

    Raises:
        InputError: no poses, a symmetry, too few particles, or lengths that do not fit the box.
    """
    device = pick_device(given.device)
    if len(symmetry_group(given.symmetry)) > 1:
        raise InputError(
            f"symmetry={given.symmetry} cannot be used: a part that moves by itself breaks the symmetry; make copies of the particles "
            f"with job=particles expand_symmetry={given.symmetry} and give these with symmetry=C1"
        )
    keep = given.half_sets == "keep"
    file = load_particles(given.particles, given.class_, given, need_half_sets=keep)
    if not file.particles.has_pose:
        raise InputError(
            f"{given.particles} has no orientations, and variability is looked for at known poses: find them with job=homo_refine"
        )
    settings = in_angstrom(given, file.pixel_size)
    cache = (settings.cache_dtype, settings.cache_limit)
    box = _box(settings, file)
    images = ParticleImages(file, box, settings.cache_dir, settings.invert, *cache)
    particles, note = assign_half_sets(file.particles, not keep, settings.seed)
    log.info(line(note))
    earlier = doubts(given.particles)
    image = image_numbers(particles)
    few = min(len(image[particles.half == half].unique()) for half in (0, 1))
    requirement = f"half sets of {few} images tell {few // MIN_IMAGES} components at most"
    enough = settings.n_components <= few // MIN_IMAGES
    require(enough, "n_components", settings.n_components, requirement)
    how = in_pixels(settings, images)
    _require_room(settings, how, len(particles), device)
    images.normalize = normalize_needed(images, settings.normalize)
    log.info(
        "%d particles of %d pixels, %.4g Å, %d components, on %s",
        *(len(particles), images.box, images.pixel_size, settings.n_components, device),
    )
    shift_px = _in_the_specimen(particles, particles.shift / images.pixel_size)
    poses = Poses(particles.rotation, shift_px, particles.half)
    return ComponentInput(settings, file, images, particles, image, poses, how, device, earlier)


def in_pixels(settings: Variability, images: ParticleImages) -> VariabilitySettings:
    """How components are looked for, in pixels; the mask is made later."""
    box, pixel = images.box, images.pixel_size
    edge, finest = box * pixel, settings.max_resolution or AUTO_RESOLUTION
    requirement = f"it must be at most {math.floor(edge / MIN_LIMIT):d} Å, a quarter of the box, to tell parts apart"
    require(edge / finest >= MIN_LIMIT, "max_resolution", finest, requirement)
    limit = min(edge / finest, box / 2 - 1)
    lowest = 0.0 if settings.high_pass is None else edge / settings.high_pass
    requirement = f"it must be coarser than twice max_resolution, {2 * edge / limit:.4g} Å"
    require(2 * lowest <= limit, "high_pass", settings.high_pass, requirement)
    at_once = settings.minibatch_size
    return VariabilitySettings(
        grid=ImageGrid(box, pixel, (WINDOW[0] * box / 2, WINDOW[1] * box / 2)),
        mask=torch.ones(box, box, box),
        n_components=settings.n_components,
        limit=limit,
        lowest=lowest,
        iterations=settings.iterations,
        seed=settings.seed,
        at_once=AT_ONCE if at_once == "auto" else at_once,
    )


def _box(settings: Variability, file: ParticleFile) -> int:
    """The box that images are cropped to."""
    finest, edge = settings.max_resolution or AUTO_RESOLUTION, file.box * file.pixel_size
    nyquist = 2 * file.pixel_size
    requirement = f"pixels of {file.pixel_size:.4g} Å hold nothing finer than {nyquist:.4g} Å"
    given = settings.max_resolution
    require(given is None or given >= 0.999 * nyquist, "max_resolution", given, requirement)
    return min(file.box, max(16, 2 * math.ceil(edge / (NYQUIST * finest))))


def _require_room(
    settings: Variability, how: VariabilitySettings, n: int, device: torch.device
) -> None:
    """Says what memory is needed; InputError where there is not as much."""
    q, padded = how.n_components + 1, PADDING * how.grid.box
    sums = q + math.ceil(q * (q - 1) / 4)
    kept = 12.0 * n * half_plane(how.grid.box).count(how.limit)
    each = 12.0 * sums + 8 * q
    said = f"n_components={how.n_components} with a box of {how.grid.box} pixels"
    require_room(padded, device, said, each)
    requirement = (
        f"the images up to it need {kept / 1e9:.2g} GB of memory, and there are "
        f"{memory_of(torch.device('cpu')) / 1e9:.2g}: choose a coarser one, or fewer particles"
    )
    finest = how.grid.box * how.grid.pixel_size / how.limit
    fits = kept <= memory_of(torch.device("cpu"))
    require(fits, "max_resolution", settings.max_resolution or finest, requirement)
    more = kept + each * padded**3 + sums * sums_memory(how.grid.box, PADDING)
    log.info(line(memory_needed("variability", how.grid.box, device, more)))


def _in_the_specimen(particles: Particles, shift_px: Tensor) -> Tensor:
    """Shifts (n, 2) of images whose magnification M is undone: s' = M^-T s."""
    stretch = particles.optics.magnification
    if stretch is None:
        return shift_px
    of_each = torch.linalg.inv(stretch.mT)[particles.optics_group].to(shift_px)
    return (of_each @ shift_px[:, :, None])[:, :, 0]
