"""What the simulate job is made of: the molecule, the particles' parameters, their images."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from cryotorch.data.atoms import Atoms, density, read_atoms
from cryotorch.data.mrc import read_volume
from cryotorch.errors import InputError
from cryotorch.jobs.inputs.map_grid import BELIEVED, DOUBTED
from cryotorch.jobs.inputs.symmetry import symmetry_group
from cryotorch.jobs.simulation.settings import ZERNIKE, Simulate
from cryotorch.ops.fourier.filters import filter_shells
from cryotorch.ops.fourier.image_model import predict
from cryotorch.ops.fourier.resample import resample_volume
from cryotorch.ops.fourier.slices import Projector, projector
from cryotorch.ops.fourier.transforms import unpack
from cryotorch.ops.geometry.directions import random_views
from cryotorch.ops.geometry.symmetry import symmetry_correlation
from cryotorch.ops.models.phantom import phantom
from cryotorch.particles import Optics, Particles, unposed
from cryotorch.refinement.image_terms import transfer

MAPS = (".mrc", ".mrcs", ".map", ".ccp4", ".rec")
# Particles whose signal sets the noise level: their mean variance is good to half a percent.
CALIBRATION_PARTICLES = 1000
ABERRATIONS = ("beam_tilt", "odd_zernike", "even_zernike", "magnification")
# Pixels of a batch: some hundred MB with all temporaries.
BATCH_PIXELS = 1 << 20
# Correlation with its turned copies below which a model or map does not have the symmetry asked for.
MIN_SYMMETRY = 0.9


class Body(NamedTuple):
    """A rigid body: its map (d, d, d) and the particles with its poses."""

    volume: Tensor
    particles: Particles


def source_volume(settings: Simulate, name: str = "source", seed: int | None = None) -> Tensor:
    """The map (d, d, d) to be projected, on an arbitrary grey scale.

    ``name`` is the parameter that names it; ``seed``: of a phantom, by default ``phantom_seed``.

    Raises:
        InputError: the source cannot be read, does not fit into the box, is blank or lacks the symmetry.
    """
    group = symmetry_group(settings.symmetry)
    box, pixel_size, source = settings.box_size, settings.pixel_size, getattr(settings, name)
    if kind(source) == "phantom":
        seed = settings.phantom_seed if seed is None else seed
        try:
            volume = phantom(box, pixel_size, group, seed, settings.resolution)
        except ValueError as error:
            raise InputError(str(error)) from None
    elif kind(source) == "map":
        volume = map_on_grid(Path(source), box, pixel_size, name)
    else:
        volume = density_on_grid(read_atoms(source, settings.assembly), settings, source)
    if kind(source) != "phantom" and len(group) > 1 and float(volume.std()) > 0:
        _check_symmetry(volume, group, settings, f"{name}={source}")
    return finished(volume, settings, name, source)


def kind(source: str) -> Literal["phantom", "map", "model"]:
    """What ``source`` names."""
    if source == "phantom":
        return "phantom"
    path = Path(source)
    unpacked = path.with_suffix("") if path.suffix.lower() in (".gz", ".bz2") else path
    return "map" if unpacked.suffix.lower() in MAPS else "model"


def finished(volume: Tensor, settings: Simulate, name: str, source: str) -> Tensor:
    """A map with the B-factor applied; ``name`` is the parameter that gave its source, for the refusal of a blank one."""
    if not float(volume.std()) > 0:
        raise InputError(f"{name}={source} is blank: give a map with a molecule in it")
    if not settings.bfactor:
        return volume
    box = settings.box_size
    inverse_d2 = (torch.arange(box // 2 + 1) / (box * settings.pixel_size)) ** 2
    return filter_shells(volume, torch.exp(-settings.bfactor / 4 * inverse_d2))


def map_on_grid(path: Path, box: int, pixel_size: float, name: str = "source") -> Tensor:
    """The map of a file (d, d, d) on another grid, origin on origin; refused where most of it would be cut."""
    volume, stored = read_volume(path)
    stored = stored or pixel_size
    if stored == DOUBTED != pixel_size:
        logging.getLogger("cryotorch").info(BELIEVED, f"{name}={path}")
    old = len(volume)
    if old == box and abs(stored - pixel_size) < 1e-3 * pixel_size:
        return volume
    resampled = resample_volume(volume, stored, box, pixel_size)
    kept = resampled.square().sum() * pixel_size**3 / (volume.square().sum() * stored**3)
    if box * pixel_size < 0.999 * old * stored and kept < 0.5:
        raise InputError(
            f"box_size={box} at pixel_size={pixel_size:g} ({box * pixel_size:g} Å) holds only {kept:.0%} of {path} "
            f"({old * stored:g} Å): use more pixels or larger ones"
        )
    return resampled


def density_on_grid(atoms: Atoms, settings: Simulate, source: str) -> Tensor:
    """The density (d, d, d) of the atoms of a file, the origin of their coordinates in the middle of the box."""
    box, pixel_size = settings.box_size, settings.pixel_size
    radius = atoms.position.norm(dim=1)
    outside = float(atoms.weight[radius > box * pixel_size / 2].sum() / atoms.weight.sum())
    if outside > 0.01:
        need = 2 * math.ceil(1.2 * float(radius.max()) / pixel_size)
        raise InputError(
            f"box_size={box} at pixel_size={pixel_size:g} ({box * pixel_size:g} Å) is too small for {source}, "
            f"whose atoms reach {float(radius.max()):.0f} Å from the middle of the box: use box_size={need}"
        )
    resolution = settings.resolution or 2 * pixel_size
    return density(atoms, box, pixel_size, resolution)


def _check_symmetry(volume: Tensor, group: Tensor, settings: Simulate, which: str) -> None:
    worst = float(symmetry_correlation(volume, group).min())
    if worst < MIN_SYMMETRY:
        raise InputError(
            f"{which} does not have symmetry={settings.symmetry} about its centre "
            f"(correlation {worst:.2f} with a turned copy): turn it onto the axes, or use symmetry=C1"
        )


def draw_particles(settings: Simulate, generator: torch.Generator) -> Particles:
    """Poses, shifts, scales and CTF parameters of all particles."""
    n = settings.n_particles

    def uniform() -> Tensor:
        return torch.rand(n, generator=generator, dtype=torch.float64)

    concentration = settings.concentration if settings.orientations == "preferred" else 0.0
    rotation = random_views(n, concentration, generator)
    normal = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    # log-normal: never negative, mean 1
    scale = torch.exp(settings.scale_sigma * normal[:, 2] - settings.scale_sigma**2 / 2)
    low, high = settings.defocus_min, settings.defocus_max
    mean, spread = low + (high - low) * uniform(), settings.astigmatism * uniform() / 2
    defocus = torch.stack([mean + spread, mean - spread, torch.pi * uniform()], 1)
    return unposed(n, microscope(settings)).replace(
        rotation=rotation,
        shift=(settings.shift_sigma * normal[:, :2]).float(),
        defocus=defocus.float(),
        phase_shift=torch.full((n,), math.radians(settings.phase_shift)),
        scale=scale.float(),
        has_pose=True,
    )


def microscope(settings: Simulate) -> Optics:
    """The optics group of all particles, with the aberrations that were asked for."""
    lens = (
        settings.voltage_kv,
        settings.spherical_aberration,
        settings.amplitude_contrast,
        settings.pixel_size,
    )
    given = {name: value for name in ABERRATIONS if (value := getattr(settings, name)) is not None}
    for name in ZERNIKE.keys() & given:  # as long as RELION writes them
        given[name] = given[name] + [0.0] * (ZERNIKE[name] - len(given[name]))
    aberrations = {name: torch.tensor([value]) for name, value in given.items()}
    return Optics(*(torch.tensor([value]) for value in lens), **aberrations)


def without_truth(
    particles: Particles, settings: Simulate, generator: torch.Generator
) -> Particles:
    """The same particles with CTF only, as far as it is to be known."""
    optics, defocus = particles.optics, particles.defocus
    if not settings.known_aberrations:
        optics = optics.replace(**dict.fromkeys(ABERRATIONS))
    if settings.defocus_error:
        error = torch.randn(len(particles), generator=generator) * settings.defocus_error
        defocus = torch.cat([defocus[:, :2] + error[:, None], defocus[:, 2:]], 1)
    blind = unposed(len(particles), optics)
    return blind.replace(defocus=defocus, phase_shift=particles.phase_shift)


def signal_spectra(reference: Projector, particles: Particles, rows: Tensor) -> Tensor:
    """Packed spectra (b, m) of the noise-free images of some particles."""
    pixel_size = float(particles.optics.pixel_size[0])
    through = transfer(particles, rows, reference.box, pixel_size, reference.table.device)
    spectra = predict(
        reference,
        particles.rotation[rows],
        particles.shift[rows] / pixel_size,
        through.gain,
        particles.scale[rows],
        through.magnification,
    )
    return spectra if through.phase is None else spectra * through.phase


def summed_spectra(bodies: Sequence[Body]) -> Callable[[Tensor], Tensor]:
    """A function from rows to the packed spectra (b, m) of their noise-free images, the bodies' projections added."""
    prepared = [(projector(body.volume), body.particles) for body in bodies]

    def spectra(rows: Tensor) -> Tensor:
        first, *others = (signal_spectra(*body, rows) for body in prepared)
        for other in others:
            first = first + other
        return first

    return spectra


def signal_power(bodies: Sequence[Body], settings: Simulate) -> float:
    """Mean variance over the whole image of the first noise-free images."""
    spectra = summed_spectra(bodies)
    total, n = 0.0, min(settings.n_particles, CALIBRATION_PARTICLES)
    for rows in _batches(n, settings):
        # Parseval: each packed coefficient stands for two of the d^2
        total += 2 * float(spectra(rows).abs().double().square().sum()) / settings.box_size**2
    return total / n


def images(
    spectra: Callable[[Tensor], Tensor], settings: Simulate, generator: torch.Generator
) -> Iterator[Tensor]:
    """The images in batches (b, d, d), with white noise of variance 1 unless ``snr`` is None; ``spectra`` of rows without it."""
    box, n = settings.box_size, settings.n_particles
    with tqdm(total=n, desc="simulate", unit=" particles", disable=None) as bar:
        for rows in _batches(n, settings):
            batch = unpack(spectra(rows), box)
            if settings.snr is not None:
                # one draw per image: the same noise whatever the size of the batches
                batch += torch.stack([torch.randn(box, box, generator=generator) for _ in rows])
            yield batch
            bar.update(len(rows))


def _batches(n: int, settings: Simulate) -> tuple[Tensor, ...]:
    size = settings.minibatch_size
    if size == "auto":
        size = max(1, BATCH_PIXELS // settings.box_size**2)
    return torch.arange(n).split(size)
