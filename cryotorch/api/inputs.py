"""What the functions of the Python face share: maps and particles in any form, settings from keyword arguments, results that can be saved."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cryotorch.api.calls import checked
from cryotorch.data.mrc import write_volume
from cryotorch.data.particle_file import ParticleFile
from cryotorch.errors import InputError
from cryotorch.findings import Finding
from cryotorch.jobs.config import catalog, limits
from cryotorch.jobs.config.catalog import Parameter, make_settings
from cryotorch.jobs.config.parse import plain, shown
from cryotorch.jobs.config.units import parse_length
from cryotorch.ops.resolution.claims import Background

# What belongs to the folder of a job, which ``save`` names.
OF_FOLDERS = ("out", "overwrite", "dry_run", "resume", "profile")
ALIASES = {
    "refine": "homo_refine",
    "fsc": "validation_fsc",
    "fit_map": "volume_tools",
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
        place = file_name("folder", folder)
        self._save(place, overwrite)
        return place


@dataclass(frozen=True, eq=False)
class WithHalfMaps(Saved):
    """A result with two half maps, of which it is known what they have in common: that is no resolution."""

    @property
    def halves(self) -> tuple[Map, Map, Background]:
        """Half map A and B, without a filter, and what is known of them."""
        raise NotImplementedError


@checked
def parameters(job: str | Callable) -> list[Parameter]:
    """The parameters of a job, or of the function here that does the same, by name or itself: name, default, meaning, section.

    Raises:
        InputError: there is no such job.
    """
    name = str(getattr(job, "__name__", job))
    return catalog.parameters(catalog.find_job(ALIASES.get(name, name)))


def settings_of(job: str, values: dict[str, Any]) -> Any:
    """The typed settings of a job, from keyword arguments.

    Raises:
        InputError: a name or value that the job does not have, or that belongs to its folder.
    """
    for name in OF_FOLDERS:
        if name in values:
            raise InputError(f"{name} cannot be used here: save(folder) writes the results")
    for name, value in values.items():
        if is_map(value):
            raise InputError(
                f"{name} cannot be a map in memory: write it with write_map, and give that file"
            )
    named = {k: v.type if isinstance(v, torch.device) else v for k, v in values.items()}
    return make_settings(job, **named, out=None)


def is_map(value: object) -> bool:
    """Whether a value looks like a map in memory."""
    return isinstance(value, Map) or (isinstance(value, Tensor | np.ndarray) and value.ndim > 2)


def path_of(particles: ParticlesLike) -> str:
    """The file of particles.

    Raises:
        InputError: it is no file, or was changed in memory since it was read.
    """
    if isinstance(particles, str | os.PathLike):
        return str(particles)
    if not isinstance(particles, ParticleFile):
        raise InputError(
            f"particles is of the type {type(particles).__name__}, which names no images: give a file, or what read_particles returned"
        )
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
        if value is None or isinstance(value, str | os.PathLike):
            return None if value is None else str(value)
        volume, size = map_of(name, value, self.pixel_size)
        write_volume(self._path(name), volume, size)
        self.made.append(name)
        return self._path(name)

    def require_pixel_size_used(self) -> None:
        """Raises InputError where a pixel size was given that no map in memory needed."""
        if self.pixel_size is not None and not self.made:
            raise InputError(
                "pixel_size is for maps in memory, those of files state it in their headers: leave it out"
            )

    def forget(self, settings: Any) -> Any:
        """The settings to be saved: files that were made here are gone by then."""
        return replace(settings, **dict.fromkeys(self.made, IN_MEMORY))

    def in_words(self, text: str) -> str:
        """A sentence about a file that was made here, which the user knows by the name of the argument."""
        for name in self.made:
            path = self._path(name)
            text = text.replace(f"{name}={path}", name).replace(path, name)
        return text

    def in_findings(self, findings: Iterable[Finding]) -> list[Finding]:
        """The same of findings."""
        return [self._of_finding(finding) for finding in findings]

    def in_log(self, record: logging.LogRecord) -> bool:
        """The same of lines of the log, as a filter that lets all of them pass."""
        record.msg, record.args = self.in_words(record.getMessage()), ()
        return True

    def _of_finding(self, finding: Finding) -> Finding:
        texts = {k: self.in_words(v) for k, v in finding.pairs if isinstance(v, str)}
        return finding.plus(**texts)

    def _path(self, name: str) -> str:
        return str(self.folder / f"{name}.mrc")


def map_of(name: str, value: object, pixel_size: float | None, cube: bool = True) -> Map:
    """A map in memory as float32 on the CPU, with its pixel size.

    Raises:
        InputError: it is no map of finite real numbers, cubic where a ``cube`` is needed, or has no pixel size, or two.
    """
    volume, size = value if isinstance(value, Map) else (value, pixel_size)
    size = length("pixel_size", size)
    if pixel_size not in (None, size):
        raise InputError(
            f"{name} is a Map of {size} Å per pixel, not {pixel_size}: give one of both"
        )
    if isinstance(volume, np.ndarray) and volume.dtype.kind in "biuf":
        # torch knows no other byte order, no negative strides and not all types
        volume = torch.from_numpy(np.array(volume, np.float64 if volume.itemsize > 4 else "f4"))
    sound = check_map(name, volume, cube)
    if size is None:
        raise InputError(f"{name} is a tensor: add pixel_size=<Å>, or give a Map")
    return Map(sound.detach().cpu().float(), size)


def check_map(name: str, volume: object, cube: bool = True) -> Tensor:
    """The same; raises InputError unless it is a tensor (d, d, d), without ``cube`` (z, y, x), of finite real numbers."""
    if not isinstance(volume, Tensor):
        kind = f"{type(volume).__name__} {getattr(volume, 'dtype', '')}".rstrip()
        raise InputError(
            f"{name} is of the type {kind}: give a file, a Map or a tensor of real numbers"
        )
    wrong = volume.dim() != 3 or 0 in volume.shape or (cube and len(set(volume.shape)) != 1)
    if wrong:
        wanted = "a cube (d, d, d)" if cube else "a map (z, y, x)"
        raise InputError(f"{name} must be {wanted}, got {tuple(volume.shape)}")
    if volume.is_complex() or not bool(volume.detach().isfinite().all()):
        kind = "complex numbers" if volume.is_complex() else "values that are not finite"
        raise InputError(f"{name} has {kind}: give a map of finite real numbers")
    return volume


def length(name: str, value: object) -> float | None:
    """A length in Å within the limits of the parameter of this name; None stays.

    Raises:
        InputError: it is none.
    """
    value = plain(value)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InputError(f"{name} is of the type {type(value).__name__}: give a number in Å")
    found = parse_length(value, None, name)
    limits.check(name, found, shown(value))
    return found


def file_name(name: str, value: object) -> Path:
    """A path; raises InputError where it is of another type, or empty."""
    if not isinstance(value, str | os.PathLike):
        raise InputError(
            f"{name} is of the type {type(value).__name__}: give the name of a file or folder"
        )
    if not str(value):
        raise InputError(f"{name} is empty: give the name of a file or folder")
    return Path(value)


HalvesLike = WithHalfMaps | str | Path | Map | Tensor | np.ndarray


@contextmanager
def files_of(pixel_size: object) -> Iterator[Files]:
    """``Files`` that last as long as the block, whose sentences name them as the caller does."""
    log = logging.getLogger("cryotorch")
    with tempfile.TemporaryDirectory(prefix="cryotorch-") as place:
        files = Files(Path(place), length("pixel_size", pixel_size))
        log.addFilter(files.in_log)
        try:
            yield files
        except InputError as error:
            raise InputError(files.in_words(str(error))) from None
        finally:
            log.removeFilter(files.in_log)


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
