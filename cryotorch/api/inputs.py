"""What the functions of the Python face share: maps and particles in any form, settings from keyword arguments, results that can be saved."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cryotorch.data.mrc import write_volume as write_map
from cryotorch.data.particle_file import ParticleFile
from cryotorch.errors import InputError
from cryotorch.jobs.config import catalog
from cryotorch.jobs.config.catalog import Parameter, make_settings
from cryotorch.ops.resolution.claims import Background
from cryotorch.particles import Particles

# What belongs to the folder of a job, which ``save`` names.
OF_FOLDERS = ("out", "overwrite", "resume", "profile")
ALIASES = {
    "refine": "homo_refine",
    "fsc": "validation_fsc",
    "make_mask": "volume_tools",
    "diagnose_orientations": "orientation_diagnostics",
}
IN_MEMORY = "<tensor>"  # what stands in saved settings for a file that was none


class Map(NamedTuple):
    """A map: ``volume`` (d, d, d) in memory as (z, y, x), origin at voxel d // 2, and ``pixel_size`` in Å."""

    volume: Tensor
    pixel_size: float


MapLike = str | Path | Map | Tensor | np.ndarray
ParticlesLike = str | Path | ParticleFile


@dataclass(frozen=True, eq=False)
class Saved:
    """What can be written as its job would have written it."""

    _save: Callable[[Path, bool], None] = field(repr=False, kw_only=True)

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write the results into a folder; raises InputError where it holds results and ``overwrite`` is false."""
        self._save(Path(folder), overwrite)
        return Path(folder)


@dataclass(frozen=True, eq=False)
class WithHalfMaps(Saved):
    """A result with two half maps, of which it is known what they have in common: that is no resolution."""

    @property
    def halves(self) -> tuple[Map, Map, Background]:
        """Half map A and B, without a filter, and what is known of them."""
        raise NotImplementedError


def parameters(job: str) -> list[Parameter]:
    """The parameters of a job, or of the function of this face that does the same: name, default, meaning, section.

    Raises:
        InputError: there is no such job.
    """
    return catalog.parameters(catalog.find_job(ALIASES.get(job, job)))


def settings_of(job: str, values: dict[str, Any]) -> Any:
    """The typed settings of a job, from keyword arguments.

    Raises:
        InputError: a name or value that the job does not have, or that belongs to its folder.
    """
    for name in OF_FOLDERS:
        if name in values:
            raise InputError(f"{name} cannot be used here: save(folder) writes the results")
    return make_settings(job, **values, out=None)


def path_of(particles: ParticlesLike) -> str:
    """The file of particles.

    Raises:
        InputError: it is no file, or was changed in memory since it was read.
    """
    if isinstance(particles, Particles | Tensor):
        raise InputError(
            f"particles is of the type {type(particles).__name__}, which names no images: give a file, or what read_particles returned"
        )
    if not isinstance(particles, ParticleFile):
        return str(particles)
    if particles.particles is not particles.as_read:
        raise InputError(
            "particles was changed since it was read: write it with write_particles, and give that file"
        )
    return str(particles.path)


class Files:
    """Names for maps: what is no file is one in a folder of its own, so that every map is read and checked in one way."""

    def __init__(self, folder: Path, pixel_size: float | None) -> None:
        self.folder, self.pixel_size = folder, pixel_size
        self.made: list[str] = []

    def __call__(self, name: str, value: MapLike | None) -> str | None:
        """The name of a map's file.

        Raises:
            InputError: it is no cubic map of finite real numbers, or has no pixel size.
        """
        if value is None or isinstance(value, str | Path):
            return None if value is None else str(value)
        volume, size = value if isinstance(value, Map) else (value, self.pixel_size)
        if self.pixel_size not in (None, size):
            raise InputError(
                f"{name} is a Map of {size} Å per pixel, not {self.pixel_size}: give one of both"
            )
        volume = torch.from_numpy(volume) if isinstance(volume, np.ndarray) else volume
        check_map(name, volume)
        if size is None:
            raise InputError(f"{name} is a tensor: add pixel_size=<Å>, or give a Map")
        if not (isinstance(size, int | float) and 0 < size < float("inf")):
            raise InputError(f"{name} has a pixel size of {size}: give it in Å")
        path = self.folder / f"{name}.mrc"
        write_map(path, volume.detach().cpu().float(), float(size))
        self.made.append(name)
        return str(path)

    def require_pixel_size_used(self) -> None:
        """Raises InputError where a pixel size was given that no map in memory needed."""
        if self.pixel_size is not None and not self.made:
            raise InputError(
                "pixel_size is for maps in memory, those of files state it in their headers: leave it out"
            )

    def forget(self, settings: Any) -> Any:
        """The settings to be saved: files that were made here are gone by then."""
        return replace(settings, **dict.fromkeys(self.made, IN_MEMORY))


def check_map(name: str, volume: object) -> None:
    """Raises InputError unless it is a cubic map (d, d, d) of finite real numbers."""
    if not isinstance(volume, Tensor):
        raise InputError(
            f"{name} is of the type {type(volume).__name__}: give a file, a Map or a tensor"
        )
    if volume.dim() != 3 or len(set(volume.shape)) != 1:
        raise InputError(f"{name} must be a cube (d, d, d), got {tuple(volume.shape)}")
    if volume.is_complex() or not bool(volume.detach().isfinite().all()):
        kind = "complex numbers" if volume.is_complex() else "values that are not finite"
        raise InputError(f"{name} has {kind}: give a map of finite real numbers")


HalvesLike = WithHalfMaps | str | Path | Map | Tensor | np.ndarray


@contextmanager
def files_of(pixel_size: float | None) -> Iterator[Files]:
    """``Files`` that last as long as the block."""
    with tempfile.TemporaryDirectory(prefix="cryotorch-") as place:
        yield Files(Path(place), pixel_size)


def saver(given: Any, files: tuple[str, ...], write: Callable[[Any, Path], None]) -> Callable:
    """What writes results into a folder as the job does: all of them or none.

    Args:
        files: names of all that it may write, in order.
        write: gets the settings with the folder they end in, and the one that they are made in.
    """
    from cryotorch.jobs.files.output_folder import new_files

    def save(folder: Path, overwrite: bool) -> None:
        settings = replace(given, out=str(folder), overwrite=overwrite)
        with new_files(settings, files) as made:
            write(settings, made)

    return save
