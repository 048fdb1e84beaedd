"""What the simulate job is made of: the molecule, the particles' parameters, their images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from cryotorch.data.atoms import Atoms, density, read_atoms
from cryotorch.data.mrc import read_volume
from cryotorch.errors import InputError
from cryotorch.jobs.simulate import Simulate
from cryotorch.ops.ctf import contrast_transfer
from cryotorch.ops.filters import filter_shells
from cryotorch.ops.forward import predict
from cryotorch.ops.fourier import half_plane, unpack
from cryotorch.ops.phantom import phantom
from cryotorch.ops.resample import resample_volume
from cryotorch.ops.slices import Projector
from cryotorch.ops.symmetry import point_group, symmetry_correlation
from cryotorch.ops.views import random_views
from cryotorch.particles import Optics, Particles, unposed

MAPS = (".mrc", ".mrcs", ".map", ".ccp4", ".rec")
# Particles whose signal sets the noise level: their mean variance is good to half a percent.
CALIBRATION = 1000
# Pixels of a batch: some hundred MB with all temporaries.
BATCH_PIXELS = 1 << 20
# Correlation with its turned copies below which a model or map does not have the symmetry asked for.
SYMMETRIC = 0.9


def source_volume(settings: Simulate) -> Tensor:
    """The map (d, d, d) to be projected, on an arbitrary grey scale.

    Raises:
        InputError: the source cannot be read, does not fit into the box, is blank or lacks the symmetry.
    """
    try:
        group = point_group(settings.symmetry)
    except ValueError as error:
        raise InputError(f"symmetry={settings.symmetry} cannot be used: {error}") from None
    box, pixel_size = settings.box_size, settings.pixel_size
    path = Path(settings.source)
    unpacked = path.with_suffix("") if path.suffix.lower() in (".gz", ".bz2") else path
    if settings.source == "phantom":
        try:
            volume = phantom(box, pixel_size, group, settings.phantom_seed, settings.resolution)
        except ValueError as error:
            raise InputError(str(error)) from None
    elif unpacked.suffix.lower() in MAPS:
        volume = _from_map(path, box, pixel_size)
    else:
        volume = _from_atoms(read_atoms(path, settings.assembly), settings)
    if not float(volume.std()) > 0:
        raise InputError(f"source={settings.source} is blank: give a map with a molecule in it")
    if settings.source != "phantom" and len(group) > 1:
        _check_symmetry(volume, group, settings)
    if settings.bfactor:
        inverse_d2 = (torch.arange(box // 2 + 1) / (box * pixel_size)) ** 2
        volume = filter_shells(volume, torch.exp(-settings.bfactor / 4 * inverse_d2))
    return volume


def _from_map(path: Path, box: int, pixel_size: float) -> Tensor:
    volume, stored = read_volume(path)
    stored = stored or pixel_size
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


def _from_atoms(atoms: Atoms, settings: Simulate) -> Tensor:
    box, pixel_size = settings.box_size, settings.pixel_size
    radius = atoms.position.norm(dim=1)
    outside = float(atoms.weight[radius > box * pixel_size / 2].sum() / atoms.weight.sum())
    if outside > 0.01:
        need = 2 * math.ceil(1.2 * float(radius.max()) / pixel_size)
        raise InputError(
            f"box_size={box} at pixel_size={pixel_size:g} ({box * pixel_size:g} Å) is too small for {settings.source}, "
            f"whose atoms reach {float(radius.max()):.0f} Å from its centre: use box_size={need}"
        )
    resolution = settings.resolution or 2 * pixel_size
    return density(atoms, box, pixel_size, resolution)


def _check_symmetry(volume: Tensor, group: Tensor, settings: Simulate) -> None:
    worst = float(symmetry_correlation(volume, group).min())
    if worst < SYMMETRIC:
        raise InputError(
            f"source={settings.source} does not have symmetry={settings.symmetry} about its centre "
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
    lens = (
        settings.voltage_kv,
        settings.spherical_aberration,
        settings.amplitude_contrast,
        settings.pixel_size,
    )
    return unposed(n, Optics(*(torch.tensor([value]) for value in lens))).replace(
        rotation=rotation,
        shift=(settings.shift_sigma * normal[:, :2]).float(),
        defocus=defocus.float(),
        scale=scale.float(),
        has_pose=True,
    )


def without_truth(particles: Particles) -> Particles:
    """The same particles with CTF only."""
    return unposed(len(particles), particles.optics).replace(defocus=particles.defocus)


def signal_spectra(reference: Projector, particles: Particles, rows: Tensor) -> Tensor:
    """Packed spectra (b, m) of the noise-free images of some particles."""
    optics, group = particles.optics, particles.optics_group[rows]
    pixel_size = float(optics.pixel_size[0])
    ctf = contrast_transfer(
        half_plane(reference.box).frequency / (reference.box * pixel_size),
        particles.defocus[rows],
        particles.phase_shift[rows],
        optics.voltage_kv[group],
        optics.spherical_aberration[group],
        optics.amplitude_contrast[group],
    )
    shift_px = particles.shift[rows] / pixel_size
    return predict(reference, particles.rotation[rows], shift_px, ctf, particles.scale[rows])


def signal_power(reference: Projector, particles: Particles, settings: Simulate) -> float:
    """Mean variance over the whole image of the first noise-free images."""
    total, n = 0.0, min(len(particles), CALIBRATION)
    for rows in _batches(n, settings):
        # Parseval: each packed coefficient stands for two of the d^2
        spectra = signal_spectra(reference, particles, rows)
        total += 2 * float(spectra.abs().double().square().sum()) / reference.box**2
    return total / n


def images(
    reference: Projector, particles: Particles, settings: Simulate, generator: torch.Generator
) -> Iterator[Tensor]:
    """The images in batches (b, d, d), with white noise of variance 1 unless ``snr`` is None."""
    box = reference.box
    with tqdm(total=len(particles), desc="simulate", unit=" particles", disable=None) as bar:
        for rows in _batches(len(particles), settings):
            batch = unpack(signal_spectra(reference, particles, rows), box)
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
