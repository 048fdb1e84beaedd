"""cryotorch from Python: tensors, ``Particles`` and typed results in and out, and no file unless it is asked for.

Keyword arguments are the parameters of the job of the same name, with the names, defaults and units of its YAML file, where a nested
name takes two underscores (``search__candidates=4``); ``parameters("homo_refine")`` lists them. Lengths are in Å, angles in degrees.
A map is given as a file, a ``Map``, or a tensor (d, d, d) with ``pixel_size``. What cannot be used raises ``InputError``, one sentence
with a remedy. Results have ``save(folder)``, which writes what the job would have written.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from cryotorch.data.images import ParticleImages
from cryotorch.data.mrc import read_volume
from cryotorch.data.mrc import write_volume as write_map
from cryotorch.data.particle_file import ParticleFile, read_particles, write_particles
from cryotorch.errors import InputError
from cryotorch.jobs.config.catalog import make_settings, parameters
from cryotorch.jobs.config.parse import in_angstrom
from cryotorch.ops.ctf.transfer import contrast_transfer
from cryotorch.ops.fourier import differentiable, image_model
from cryotorch.ops.fourier.transforms import half_plane, unpack
from cryotorch.particles import Optics, Particles
from cryotorch.results import IterationResult

if TYPE_CHECKING:
    from cryotorch.jobs.fsc.validate import Validation
    from cryotorch.jobs.inputs.half_maps import HalfMaps
    from cryotorch.jobs.orientation.diagnose import Diagnosis
    from cryotorch.jobs.sharpening.sharpen_maps import Sharpened

__all__ = [
    "FscResult",
    "InputError",
    "Map",
    "Optics",
    "OrientationResult",
    "ParticleFile",
    "Particles",
    "Reconstruction",
    "Refined",
    "SharpenResult",
    "Simulated",
    "diagnose_orientations",
    "fsc",
    "local_refine",
    "make_mask",
    "parameters",
    "project",
    "read_images",
    "read_map",
    "read_particles",
    "reconstruct",
    "refine",
    "sharpen",
    "simulate",
    "write_map",
    "write_particles",
]


class Map(NamedTuple):
    """A map: ``volume`` (d, d, d) in memory as (z, y, x), origin at voxel d // 2, and ``pixel_size`` in Å."""

    volume: Tensor
    pixel_size: float


MapLike = str | Path | Map | Tensor
ParticlesLike = str | Path | ParticleFile


def read_map(path: str | Path) -> Map:
    """The map of an MRC file; raises InputError where it is no cubic map, or states no pixel size."""
    volume, pixel_size = read_volume(path)
    if pixel_size is None:
        raise InputError(f"{path} does not state its pixel size: write it with write_map first")
    return Map(volume, pixel_size)


def read_images(
    file: ParticleFile, rows: list[int] | None = None, box_size: int | None = None
) -> Tensor:
    """Images (b, d, d) of a particle file, background 0, as a refinement sees them.

    Args:
        rows: which; None = all, which takes 4 d² bytes for each.
        box_size: pixels, even; smaller than the file's crops in Fourier space.

    Raises:
        InputError: a stack cannot be read.
    """
    images = ParticleImages(file, box_size)
    try:
        return images[list(range(len(images))) if rows is None else rows]
    finally:
        images.close()


@dataclass(frozen=True)
class _Saved:
    """What can be written as its job would have written it."""

    _save: Callable[[Path, bool], None] = field(repr=False, compare=False, kw_only=True)

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write the results into a folder; raises InputError where it holds results and ``overwrite`` is false."""
        self._save(Path(folder), overwrite)
        return Path(folder)


@dataclass(frozen=True)
class Simulated(_Saved):
    """Simulated particles.

    Attributes:
        images: (n, d, d) float32, noise of variance 1.
        particles: the truth; blind: the same without poses.
        map: that was projected, on the grey scale of the images; pixel_size: Å.
    """

    images: Tensor
    particles: Particles
    blind: Particles
    map: Tensor
    pixel_size: float


def simulate(**settings: Any) -> Simulated:
    """Images of a molecule in random orientations, with CTF and white noise: ``job=simulate``, one body.

    Raises:
        InputError: a parameter has no such name or value, or the source cannot be used.
    """
    from cryotorch.jobs import simulate as job
    from cryotorch.jobs.simulation.particles import images
    from cryotorch.jobs.simulation.simulated import simulated

    given = _settings("simulate", settings)
    if given.second_body is not None:
        raise InputError("second_body cannot be used here: job=simulate writes such a set")
    made = simulated(in_angstrom(given, given.pixel_size))
    stack = torch.cat(list(images(made.bodies, made.settings, made.draw)))

    def save(folder: Path, overwrite: bool) -> None:
        job.run(replace(given, out=str(folder), overwrite=overwrite))

    body = made.bodies[0]
    blind = made.blind()
    return Simulated(stack, body.particles, blind, body.volume, given.pixel_size, _save=save)


@dataclass(frozen=True)
class Refined(_Saved):
    """A refinement after its last iteration; ``result`` holds all of it.

    Attributes:
        result: maps, curves, poses, numbers of every iteration, see ``IterationResult``.
        file: the particle file, whose columns ``save`` keeps.
    """

    result: IterationResult
    file: ParticleFile

    @property
    def map(self) -> Tensor:
        """(d, d, d) of all particles, filtered by what the half maps show."""
        return self.result.map

    @property
    def half_maps(self) -> Tensor:
        """(2, d, d, d), without a filter."""
        return self.result.half_maps

    @property
    def particles(self) -> Particles:
        """With the poses that were found."""
        return self.result.particles

    @property
    def resolution(self) -> float:
        """Å that may be claimed, NaN where nothing can be."""
        return self.result.resolution

    @property
    def warnings(self) -> list[str]:
        """What is wrong with half maps, mask and curves, and what to do about it."""
        return self.result.warnings


def refine(
    particles: ParticlesLike, volume: MapLike, mask: MapLike | None = None, **settings: Any
) -> Refined:
    """Maps and the poses of all particles from an initial map: ``job=homo_refine`` on one device, without its folder.

    Args:
        particles: a file of particles, or one that was read.
        volume: the initial map; mask: (d, d, d), else one is made of the density.

    Raises:
        InputError: a parameter, the particles or a map cannot be used.
    """
    from cryotorch.jobs.homo_refine import prepare

    return _refined("homo_refine", prepare, particles, volume, mask, settings)


def local_refine(
    particles: ParticlesLike, volume: MapLike, mask: MapLike, **settings: Any
) -> Refined:
    """A map of the region in ``mask`` from particles with poses: ``job=local_refine`` on one device, without its folder.

    Arguments and errors as for ``refine``; ``volume`` may be the folder of a refinement, for its half maps.
    """
    from cryotorch.jobs.local_refine import prepare

    return _refined("local_refine", prepare, particles, volume, mask, settings)


def _refined(
    job: str,
    prepare: Callable,
    particles: ParticlesLike,
    volume: MapLike,
    mask: MapLike | None,
    settings: dict[str, Any],
) -> Refined:
    from cryotorch.jobs.files.output_folder import new_files
    from cryotorch.jobs.refinement.run import refine_in_memory
    from cryotorch.report.outputs import write_outputs

    pixel_size = settings.pop("pixel_size", None)
    with _files(pixel_size) as named:
        settings |= {"particles": _path(particles), "volume": named("volume", volume)}
        given = _settings(job, settings | {"mask": named("mask", mask)})
        result, file = refine_in_memory(given, prepare)

    def save(folder: Path, overwrite: bool) -> None:
        place = replace(given, out=str(folder), resume=False)
        with new_files(replace(place, overwrite=overwrite), ("*",)) as made:
            write_outputs(made, result, file, {"symmetry": given.symmetry}, given.write)

    return Refined(result, file, _save=save)


@dataclass(frozen=True)
class Reconstruction(_Saved):
    """A map from known poses.

    Attributes:
        map: (d, d, d) of all particles, filtered; half_maps: (2, d, d, d), not; map_sharp: (d, d, d); pixel_size: Å.
        fsc: the curves of the half maps, their mask and what they claim.
        particles: with the poses that were used.
    """

    map: Tensor
    half_maps: Tensor
    map_sharp: Tensor
    pixel_size: float
    fsc: Validation
    particles: Particles

    @property
    def resolution(self) -> float:
        """Å that may be claimed, NaN where nothing can be."""
        return self.fsc.resolution


def reconstruct(
    particles: ParticlesLike, mask: MapLike | None = None, **settings: Any
) -> Reconstruction:
    """A map from particles whose poses are known: ``job=reconstruct``.

    Raises:
        InputError: a parameter or the particles cannot be used, poses are missing.
    """
    from cryotorch.jobs import reconstruct as job
    from cryotorch.jobs.files.output_folder import new_files

    pixel_size = settings.pop("pixel_size", None)
    with _files(pixel_size) as named:
        settings |= {"particles": _path(particles), "mask": named("mask", mask)}
        given = _settings("reconstruct", settings)
        made = job.reconstructed(given, time.perf_counter())

    def save(folder: Path, overwrite: bool) -> None:
        place = replace(given, out=str(folder), overwrite=overwrite)
        with new_files(place, job.FILES) as into:
            job.write_files(place, into, made)

    found = made.found
    maps = found.map, found.halves.maps, found.sharp, found.halves.pixel_size
    return Reconstruction(*maps, found.judged, made.particles, _save=save)


@dataclass(frozen=True)
class FscResult(_Saved):
    """What two half maps agree on; ``found`` holds masks and numbers.

    Attributes:
        resolution: Å that may be claimed, NaN where nothing can be.
        curves: name -> (d // 2 + 1,) FSC per shell; band: the same, what noise in the mask stays below.
        mask: (d, d, d) behind the tight and the corrected curve.
        warnings: what is wrong with half maps, mask and curves, and what to do about it.
    """

    resolution: float
    curves: dict[str, Tensor]
    band: Tensor
    mask: Tensor
    warnings: list[str]
    found: Validation


def fsc(
    half_map_a: MapLike,
    half_map_b: MapLike,
    pixel_size: float | None = None,
    mask: MapLike | None = None,
    **settings: Any,
) -> FscResult:
    """Fourier shell correlation of two half maps and the resolution that they support: ``job=validation_fsc``.

    Raises:
        InputError: a parameter or a map cannot be used, or the density makes no mask.
    """
    from cryotorch.jobs import validation_fsc as job
    from cryotorch.jobs.fsc.results import write, write_summary
    from cryotorch.jobs.fsc.validate import validate

    given, halves, found = _of_half_maps(
        *("validation_fsc", (half_map_a, half_map_b, mask), pixel_size, settings),
        lambda s, halves, device: validate(s, halves, device),
    )

    def write_all(folder: Path) -> None:
        write(folder, found, halves, relabelled=True)
        write_summary(folder, found, halves, given, {"seed": given.seed})

    parts = found.resolution, found.curves, found.band, found.mask.mask.cpu(), found.warnings
    return FscResult(*parts, found, _save=_saver(given, job.FILES, write_all))


@dataclass(frozen=True)
class SharpenResult(_Saved):
    """Sharpened maps; ``found`` holds the fit, mask and curves.

    Attributes:
        map: (d, d, d), sharpened with the first of the B-factors; bfactor: Å², that one; maps: B-factor -> (d, d, d), all of them.
        resolution: Å that may be claimed, NaN where nothing can be; local: (d, d, d) Å, the local resolution, or None.
        warnings: what to look at.
    """

    map: Tensor
    bfactor: float
    maps: dict[float, Tensor]
    resolution: float
    local: Tensor | None
    warnings: list[str]
    found: Sharpened


def sharpen(
    half_map_a: MapLike,
    half_map_b: MapLike,
    pixel_size: float | None = None,
    mask: MapLike | None = None,
    **settings: Any,
) -> SharpenResult:
    """A sharpened map from two half maps: ``job=sharpen``; errors as for ``fsc``."""
    from cryotorch.jobs import sharpen as job
    from cryotorch.jobs.sharpening.sharpen_maps import sharpen_half_maps

    given, halves, found = _of_half_maps(
        *("sharpen", (half_map_a, half_map_b, mask), pixel_size, settings), sharpen_half_maps
    )

    def write_all(folder: Path) -> None:
        job.write(folder, found, halves, given.guinier_map)
        job.write_summary(folder, given, found, halves, {})

    bfactor, volume = next(iter(found.maps.items()))
    parts = volume, bfactor, found.maps, found.resolution, found.local, found.warnings
    return SharpenResult(*parts, found, _save=_saver(given, job.FILES, write_all))


@dataclass(frozen=True)
class OrientationResult(_Saved):
    """How a map's resolution depends on the direction; ``found`` holds all of it.

    Attributes:
        directions: (n, 3) unit vectors, one of each pair; resolutions: (n,) Å, NaN where a curve never leaves the noise.
        cfar: conical FSC area ratio, 1 for a map resolved alike everywhere; None where the half maps allow no score.
        scf: sampling compensation factor of the views; None without particles.
        reading: what the scores say; warnings: what to look at.
    """

    directions: Tensor
    resolutions: Tensor
    cfar: float | None
    scf: float | None
    reading: str
    warnings: list[str]
    found: Diagnosis


def diagnose_orientations(
    half_map_a: MapLike,
    half_map_b: MapLike,
    pixel_size: float | None = None,
    particles: ParticlesLike | None = None,
    mask: MapLike | None = None,
    **settings: Any,
) -> OrientationResult:
    """Conical FSC of two half maps, and how the particles' views sample Fourier space: ``job=orientation_diagnostics``; errors as for ``fsc``."""
    from cryotorch.jobs import orientation_diagnostics as job
    from cryotorch.jobs.orientation.diagnose import diagnose, load_views
    from cryotorch.jobs.orientation.results import write, write_summary

    settings["particles"] = None if particles is None else _path(particles)
    given, halves, found = _of_half_maps(
        *("orientation_diagnostics", (half_map_a, half_map_b, mask), pixel_size, settings),
        lambda s, halves, device: diagnose(s, halves, load_views(s), device),
    )

    def write_all(folder: Path) -> None:
        write(folder, found, halves, given)
        write_summary(folder, found, halves, given, {"seed": given.seed})

    scf = None if found.sampling is None else found.sampling.scf
    parts = found.directions, found.resolutions, found.cfar, scf, found.reading, found.warnings
    return OrientationResult(*parts, found, _save=_saver(given, job.FILES, write_all))


def make_mask(
    volume: MapLike, pixel_size: float | None = None, threshold: float = 0.2, **settings: Any
) -> Tensor:
    """A mask (d, d, d) from 0 to 1 around the density of a map: ``job=volume_tools``.

    Args:
        threshold: fraction of the density's 99.99th percentile, or a density with ``relative_threshold=False``.
        settings: ``low_pass``, ``keep_largest``, ``fill_holes``, ``dilate``, ``soften`` and the others of that job.

    Raises:
        InputError: a parameter or the map cannot be used, or nothing lies above the threshold.
    """
    from cryotorch.jobs.inputs.half_maps import pick_device
    from cryotorch.jobs.volume.inputs import load
    from cryotorch.jobs.volume.steps import edit

    settings = {"relative_threshold": True} | settings | {"threshold": threshold}
    with _files(pixel_size) as named:
        given = _settings("volume_tools", settings | {"volume": named("volume", volume)})
        work = edit(load(given, pick_device(given.device)), given)
    return work.mask.cpu()


def project(
    volume: Tensor,
    rotation: Tensor,
    shift: Tensor | None = None,
    defocus: Tensor | None = None,
    *,
    pixel_size: float,
    voltage_kv: float = 300.0,
    spherical_aberration: float = 2.7,
    amplitude_contrast: float = 0.1,
    phase_shift: float = 0.0,
    scale: Tensor | None = None,
) -> Tensor:
    """Images (b, d, d) of a map, Y(k) = scale CTF(k) exp(2 pi i k.s) V(R^T k), without noise.

    Where a gradient is wanted of one of the tensors, or the map is float64, autograd follows every step; else the compiled loops of the
    searches make the same images in a tenth of the time. The derivative by rotation and map is that of trilinear interpolation.

    Args:
        volume: (d, d, d), d even; rotation: (b, 3, 3), reference to particle frame, see ``cryotorch``.
        shift: (b, 2) Å, RELION's origin; defocus: (b, 3) as defocus_u Å, defocus_v Å, angle in radians; None = no CTF.
        pixel_size: Å; voltage_kv: kV; spherical_aberration: mm; phase_shift: radians; scale: (b,), contrast.
    """
    box, n = volume.shape[-1], len(rotation)
    given = [t for t in (volume, rotation, shift, defocus, scale) if t is not None]
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in given)
    followed = wanted or volume.dtype == torch.float64
    shift_px = volume.new_zeros(n, 2) if shift is None else shift.to(volume) / pixel_size
    frequency = half_plane(box, volume.device).frequency.to(volume)
    ctf = volume.new_ones(n, len(frequency))
    if defocus is not None:
        lens = (phase_shift, voltage_kv, spherical_aberration, amplitude_contrast)
        at = frequency / (box * pixel_size)
        ctf = contrast_transfer(at, defocus, *(volume.new_full((n,), v) for v in lens))
    model = differentiable if followed else image_model
    spectrum = model.project(volume, rotation.to(volume), shift_px, ctf, scale)
    return unpack(spectrum, box)


def _settings(job: str, values: dict[str, Any]) -> Any:
    """The typed settings of a job, from keyword arguments."""
    values.setdefault("out", None)
    return make_settings(job, **values)


def _path(particles: ParticlesLike) -> str:
    return str(particles.path if isinstance(particles, ParticleFile) else particles)


@contextmanager
def _files(pixel_size: float | None) -> Iterator[Callable[[str, MapLike | None], str | None]]:
    """Names for maps: what is no file becomes one for as long as the block lasts, so that every map is read and checked in one way."""
    with tempfile.TemporaryDirectory(prefix="cryotorch-") as place:

        def named(name: str, value: MapLike | None) -> str | None:
            if value is None or isinstance(value, str | Path):
                return None if value is None else str(value)
            volume, size = value if isinstance(value, Map) else (value, pixel_size)
            if size is None:
                raise InputError(f"{name} is a tensor: add pixel_size=<Å>, or give a Map")
            path = Path(place) / f"{name}.mrc"
            write_map(path, volume.detach().cpu().float(), float(size))
            return str(path)

        yield named


def _of_half_maps(
    job: str,
    maps: tuple[MapLike, MapLike, MapLike | None],
    pixel_size: float | None,
    settings: dict[str, Any],
    work: Callable[[Any, HalfMaps, torch.device], Any],
) -> tuple[Any, HalfMaps, Any]:
    """Settings, half maps and what ``work`` finds in them."""
    from cryotorch.jobs.inputs.half_maps import load_half_maps, pick_device

    with _files(pixel_size) as named:
        names = ("half_map_a", "half_map_b", "mask")
        paths = {name: named(name, value) for name, value in zip(names, maps, strict=True)}
        given = _settings(job, settings | paths | {"pixel_size": pixel_size})
        device = pick_device(given.device)
        halves = load_half_maps(
            *(None, given.half_map_a, given.half_map_b, pixel_size, given.symmetry)
        )
        found = work(in_angstrom(given, halves.pixel_size), halves, device)
    return given, halves, found


def _saver(given: Any, files: tuple[str, ...], write: Callable[[Path], None]) -> Callable:
    from cryotorch.jobs.files.output_folder import new_files

    def save(folder: Path, overwrite: bool) -> None:
        with new_files(replace(given, out=str(folder), overwrite=overwrite), files) as made:
            write(made)

    return save
