"""What a heterogeneous refinement starts from, checked: particles in half sets, their spectra, initial maps on their grey scale, the mask."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from cryotorch.data.image_names import refuse_duplicates
from cryotorch.data.images import ParticleImages
from cryotorch.data.particle_file import ParticleFile
from cryotorch.errors import InputError
from cryotorch.findings import remark
from cryotorch.jobs.classification3d.searched_settings import LEAST_IMAGES, HeteroRefine
from cryotorch.jobs.config.parse import circle_fits, in_angstrom, require
from cryotorch.jobs.files.memory import memory_needed, require_room
from cryotorch.jobs.initial_map.begin import asked_for
from cryotorch.jobs.initial_map.inputs import INNER, OUTER, SHIFT_EXTENT, choose_box
from cryotorch.jobs.inputs.device import pick_device
from cryotorch.jobs.inputs.maps import map_path
from cryotorch.jobs.inputs.particles import load_particles, normalize_needed
from cryotorch.jobs.inputs.reference import load_box_mask, load_reference, warn_if_inverted
from cryotorch.jobs.inputs.symmetry import symmetry_group
from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.geometry.symmetry import symmetrise_volume
from cryotorch.ops.masks.soft import density_mask, soft_sphere
from cryotorch.particles import Particles
from cryotorch.refinement.backproject import noise_sample
from cryotorch.refinement.em.initialise import MIN_CONTRAST_MATCH, initial_noise
from cryotorch.refinement.half_sets import assign_half_sets, counted_over, image_numbers
from cryotorch.refinement.hetero.grey_scale import SAMPLE, grey_scale
from cryotorch.refinement.hetero.pipeline import Task
from cryotorch.refinement.hetero.settings import HeteroSettings
from cryotorch.refinement.settings import ImageGrid
from cryotorch.refinement.spectra import Spectra
from cryotorch.report.sentences import line

log = logging.getLogger("cryotorch")
USUAL = 20.0  # Å: low-pass of initial maps of which nothing else is known
LEAST_SHELLS = 3  # that initial maps have
CLASS_MAPS = "map_class_*.mrc"  # of a run with several maps
BYTES, BYTES_DIVIDED = (
    20,
    28,
)  # of a coefficient of an image in memory, and more while one map is divided
BYTES_PER_VOXEL = (
    200  # of the box, for each class and half set: padded sums, maps, references, tables
)
SPHERE_EDGE = 0.05  # of the box
MASK_FROM, MASK_THRESHOLD, MASK_NEAR, MASK_FAR, MASK_LOW_PASS = 15.0, 0.2, 6.0, 14.0, 12.0  # Å


@dataclass(frozen=True)
class SearchedInput:
    """What was read.

    Attributes:
        settings: the job's, with lengths in Å; file: all particles; images: of all of them.
        particles: with half sets, without poses; task: of the algorithm, with its settings ``how``.
        maps: names of the initial maps; shared: Å, up to which the half sets see the same maps.
    """

    settings: HeteroRefine
    file: ParticleFile
    images: ParticleImages
    particles: Particles
    task: Task
    how: HeteroSettings
    maps: list[str]
    shared: float


def read_inputs(given: HeteroRefine, device: torch.device | None = None) -> SearchedInput:
    """Read particles and maps, and choose what is not given; ``device``: by default that of the settings.

    Raises:
        InputError: nothing is named, particles are too few, maps cannot be used, or lengths do not fit the box.
    """
    if given.particles is None:
        raise InputError("job=hetero_refine needs particles: add particles=<file>")
    paths = map_paths(given.volume)
    classes = _number_of_classes(given, paths)
    group, device = symmetry_group(given.symmetry), device or pick_device(given.device)
    keep = given.half_sets == "keep"
    file = load_particles(given.particles, given.class_, given, need_half_sets=keep)
    refuse_duplicates(file.particles.address.numpy(), file.stacks, file.path)
    settings = in_angstrom(given, file.pixel_size)
    initial = settings.initial_resolution
    if isinstance(initial, str):
        initial = (asked_for(given.volume) if isinstance(given.volume, str) else None) or USUAL
    settings = replace(settings, initial_resolution=initial)
    cache = (settings.cache_dtype, settings.cache_limit)
    box = choose_box(settings, file)
    images = ParticleImages(file, box, settings.cache_dir, settings.invert, *cache)
    images.normalize = normalize_needed(images, settings.normalize)
    particles, note = assign_half_sets(file.particles, not keep, settings.seed)
    findings = [note, *counted_over(particles, group, settings.symmetry)]
    if particles.has_pose:
        findings.append(remark("poses_not_used", file=str(file.path)))
    for finding in findings:
        log.info(line(finding))
    image = image_numbers(particles)
    least = LEAST_IMAGES * classes
    wish = f"{int(image.max()) + 1} images make {(int(image.max()) + 1) // LEAST_IMAGES} classes at most"
    require(int(image.max()) + 1 >= least, "n_classes", classes, wish)
    n = len(particles)
    blank = torch.eye(3).repeat(n, 1, 1), torch.zeros(n, 2)
    particles = particles.replace(
        rotation=blank[0], shift=blank[1], scale=torch.ones(n), has_pose=False
    )
    how, extent = in_pixels(settings, images, group, classes)
    noise, loudest, _ = initial_noise(particles, noise_sample(images, particles), how.grid, device)
    spectra = Spectra(images, particles, how.grid, noise[0], loudest, how.limit)
    _require_room(spectra, classes, device)
    log.info(
        "%d particles of %d pixels, %.4g Å, in %d class%s%s, on %s",
        *(n, images.box, images.pixel_size, classes, "" if classes == 1 else "es"),
        *(" and junk" if given.junk else "", device),
    )
    maps = [load_reference(path, "volume", file, images).to(device) for path in paths]
    for volume, path in zip(maps, paths, strict=True):
        warn_if_inverted(volume, path)
    mask = make_mask(settings, file, images, paths[0], device)
    begun = prepared(torch.stack(maps), spectra, settings, how, extent) * mask(maps[0][None], 1.0)
    task = Task(spectra, image, begun, mask, extent, bool(given.junk))
    shared = images.box * images.pixel_size / how.split
    names = [str(path) for path in paths]
    return SearchedInput(settings, file, images, particles, task, how, names, shared)


def map_paths(volume: str | list[str] | None) -> list[Path]:
    """The files of the initial maps: those named, those of the classes of a run, or its one map."""
    require(volume is not None, "volume", None, "name the maps of the classes, or one map for all")
    if isinstance(volume, list):
        return [map_path(one) for one in volume]
    folder = Path(volume)
    found = sorted(folder.glob(CLASS_MAPS), key=_class_number) if folder.is_dir() else []
    return found or [map_path(volume)]


def _class_number(path: Path) -> tuple[int, str]:
    number = path.stem.rpartition("_")[2]
    return (int(number) if number.isdecimal() else 10**9, path.name)


def _number_of_classes(given: HeteroRefine, paths: list[Path]) -> int:
    asked = given.n_classes or len(paths)
    wish = f"volume names {len(paths)} maps: give as many classes, or one map for all"
    require(len(paths) in (1, asked), "n_classes", given.n_classes, wish)
    something = asked > 1 or given.junk
    require(something, "n_classes", asked, "one class divides nothing: add n_classes=2, or junk=1")
    return asked


def in_pixels(
    settings: HeteroRefine, images: ParticleImages, group: Tensor, classes: int
) -> tuple[HeteroSettings, float]:
    """The settings of the algorithm, and how far shifts reach. Raises InputError where lengths do not fit the box."""
    box, pixel = images.box, images.pixel_size
    edge, diameter, extent = box * pixel, settings.particle_diameter, settings.shift_extent
    circle_fits(diameter, box, pixel)
    wish = f"the box ends {edge / 2:.4g} Å from its middle"
    require(extent is None or extent <= edge / 2, "shift_extent", extent, wish)
    last = edge / settings.final_resolution
    wish = f"{box} pixels of {pixel:.4g} Å end at {2 * pixel:.4g} Å, give a coarser one or a larger box_size"
    require(last <= box / 2 + 1e-6, "final_resolution", settings.final_resolution, wish)
    assert not isinstance(settings.initial_resolution, str)
    first = max(edge / settings.initial_resolution, LEAST_SHELLS)
    wish = f"it must be finer than the {edge / first:.4g} Å of the initial maps"
    require(last > first, "final_resolution", settings.final_resolution, wish)
    extent = SHIFT_EXTENT * edge if extent is None else extent
    inner = INNER * box / 2
    if diameter is not None:
        inner = min(inner, (diameter / 2 + extent) / pixel)
    made = HeteroSettings(
        grid=ImageGrid(box, pixel, (inner, inner + (OUTER - INNER) * box / 2)),
        group=group,
        n_classes=classes,
        limit=min(last, box / 2 - 0.5),
        split=first,
        first_limit=first,
        n_starts=settings.n_starts,
        ess=settings.similarity,
        hard=settings.assignment == "hard",
        most_passes=settings.max_passes,
        seed=settings.seed,
    )
    return made, extent / pixel


def make_mask(
    settings: HeteroRefine,
    file: ParticleFile,
    images: ParticleImages,
    like: Path,
    device: torch.device,
) -> Callable[[Tensor, float], Tensor]:
    """What gives the mask (d, d, d) of maps (k, d, d, d) with a resolution in Fourier pixels, see ``Refiner``."""
    box, pixel = images.box, images.pixel_size
    diameter = settings.particle_diameter or INNER * box * pixel
    edge = max(2.0, SPHERE_EDGE * box)
    sphere = soft_sphere(box, min(diameter / 2 / pixel, box / 2 - edge), edge, device)
    if settings.mask_mode == "static":
        assert settings.mask is not None
        own = load_box_mask(settings.mask, like, file, images).to(device)
        return lambda maps, limit: own
    if settings.mask_mode == "spherical":
        return lambda maps, limit: sphere

    def dynamic(maps: Tensor, limit: float) -> Tensor:
        if box * pixel / limit > MASK_FROM:
            return sphere
        about = pixel, MASK_THRESHOLD, MASK_NEAR, MASK_FAR, MASK_LOW_PASS
        try:
            every = [density_mask(volume * sphere, *about) for volume in maps]
        except ValueError:  # no positive density
            return sphere
        return torch.stack(every).amax(0) * sphere

    return dynamic


def prepared(
    maps: Tensor, spectra: Spectra, settings: HeteroRefine, how: HeteroSettings, extent: float
) -> Tensor:
    """Initial maps (k, d, d, d), low-passed, with the symmetry, on the grey scale of the images; shifts reach ``extent`` pixels.

    Raises:
        InputError: the images correlate better with the inverted maps.
    """
    assert not isinstance(settings.initial_resolution, str)
    pixel, group = spectra.grid.pixel_size, how.group
    made = torch.stack([low_pass(one, pixel, settings.initial_resolution) for one in maps])
    if len(group) > 1:
        made = torch.stack([symmetrise_volume(one, group) for one in made])
    n = len(spectra)
    rows = torch.linspace(0, n - 1, min(SAMPLE, n)).long()
    sample = spectra.together(rows, lambda images: None)
    found = grey_scale(made, sample, how.first_limit, group, extent)
    if found.doubt < MIN_CONTRAST_MATCH:
        raise InputError(
            "the particles correlate better with the inverted initial maps, their contrast is opposite: "
            "change invert (true is for particles that are dark on bright), or invert the maps"
        )
    factors = ", ".join(f"{one:.3g}" for one in found.factor.tolist())
    log.info("Factor on the grey scale of the initial maps: %s", factors)
    return made * found.factor[:, None, None, None]


def _require_room(spectra: Spectra, classes: int, device: torch.device) -> None:
    """Say what is needed, and refuse what cannot fit."""
    box = spectra.grid.box
    maps = 2 * classes * BYTES_PER_VOXEL * float(box**3)
    require_room(box, device, f"n_classes={classes} with a box of {box} pixels", maps / box**3)
    each = BYTES + (BYTES_DIVIDED if classes > 1 else 0)
    more = each * len(spectra) * spectra.count + maps
    log.info(line(memory_needed("classify", box, device, more)))
