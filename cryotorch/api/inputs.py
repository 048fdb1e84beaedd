"""What the functions of the Python face share: maps and particles in any form, settings from keyword arguments, results that can be saved."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from cryotorch.data.mrc import write_volume as write_map
from cryotorch.data.particle_file import ParticleFile
from cryotorch.errors import InputError
from cryotorch.jobs.config.catalog import make_settings

if TYPE_CHECKING:
    pass


class Map(NamedTuple):
    """A map: ``volume`` (d, d, d) in memory as (z, y, x), origin at voxel d // 2, and ``pixel_size`` in Å."""

    volume: Tensor
    pixel_size: float


MapLike = str | Path | Map | Tensor
ParticlesLike = str | Path | ParticleFile


@dataclass(frozen=True)
class Saved:
    """What can be written as its job would have written it."""

    _save: Callable[[Path, bool], None] = field(repr=False, compare=False, kw_only=True)

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write the results into a folder; raises InputError where it holds results and ``overwrite`` is false."""
        self._save(Path(folder), overwrite)
        return Path(folder)


def settings_of(job: str, values: dict[str, Any]) -> Any:
    """The typed settings of a job, from keyword arguments."""
    values.setdefault("out", None)
    return make_settings(job, **values)


def path_of(particles: ParticlesLike) -> str:
    return str(particles.path if isinstance(particles, ParticleFile) else particles)


@contextmanager
def files_of(pixel_size: float | None) -> Iterator[Callable[[str, MapLike | None], str | None]]:
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


def saver(given: Any, files: tuple[str, ...], write: Callable[[Path], None]) -> Callable:
    from cryotorch.jobs.files.output_folder import new_files

    def save(folder: Path, overwrite: bool) -> None:
        with new_files(replace(given, out=str(folder), overwrite=overwrite), files) as made:
            write(made)

    return save
