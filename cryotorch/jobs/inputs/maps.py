"""A map as the input of a job, checked before anything is computed."""

from __future__ import annotations

import logging
from pathlib import Path

from torch import Tensor

from cryotorch.data.mrc import read_volume
from cryotorch.errors import InputError
from cryotorch.jobs.config.parse import require
from cryotorch.jobs.inputs.map_grid import DOUBTED

log = logging.getLogger("cryotorch")
OTHER = 0.2  # a pixel size that differs by more is no calibration but perhaps a slip
# The last map of a refinement: cryotorch's, CryoSPARC's, RELION's.
MAP_NAMES = ("map.mrc", "*_volume_map.mrc", "*_class001.mrc")


def map_path(volume: str | None, name: str = "volume") -> Path:
    """The file of the map: the one named, or the last map in the folder of a run; ``name`` of the parameter, for messages."""
    require(volume is not None, name, None, "name a map or the folder of a run")
    path = Path(volume)
    if not path.is_dir():
        return path
    for pattern in MAP_NAMES:
        # iterations sort by their number; half maps of RELION end as its maps do
        found = [p for p in sorted(path.glob(pattern)) if "_half" not in p.name]
        if found:
            return found[-1]
    raise InputError(f"{name}={volume} holds no map.mrc or another program's map: name the file")


def load_map(
    path: str | Path, name: str, pixel_size: float | None = None, pad: bool = False
) -> tuple[Tensor, float]:
    """A map (d, d, d) and its pixel size in Å: the given one, else the header's.

    ``name`` is the parameter that named the file, for messages. Raises InputError for a file that is no cubic map,
    a blank one, and a header without pixel size. ``pad`` takes one that is no cube, see ``read_volume``.
    """
    volume, stated = read_volume(path, pad)
    check_blank(volume, f"{name}={path}")
    used = stated if pixel_size is None else pixel_size
    if used is None:
        raise InputError(f"{name}={path} does not state its pixel size: add pixel_size=<Å>")
    if pixel_size is None and stated == DOUBTED:
        log.info(
            "%s=%s states a pixel size of exactly 1 Å, which some programs write without meaning it: "
            "if it is another, add pixel_size=<Å>",
            *(name, path),
        )
    if stated is not None and stated != DOUBTED and abs(used / stated - 1) > OTHER:
        log.info(
            "The header of %s=%s says %.4g Å: pixel_size=%.4g is used",
            *(name, path, stated, used),
        )
    return volume, used


def check_blank(volume: Tensor, said: str) -> None:
    """Raises InputError for a map without density; ``said`` names it."""
    if not float(volume.std()) > 1e-6 * float(volume.abs().max()):
        raise InputError(
            f"{said} is blank, all voxels are {float(volume.mean()):.3g}: give a map with a particle in it"
        )


def looks_inverted(volume: Tensor) -> bool:
    """Whether the strong densities of a map are negative: a particle stands out on one side only."""
    centred = (volume - volume.mean()).double()
    return float(centred.pow(3).mean()) < -0.1 * float(centred.square().mean()) ** 1.5
