"""Maps, half maps and masks as the input of a job, checked before anything is computed."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cryotorch.data.mrc import read_volume
from cryotorch.errors import InputError
from cryotorch.findings import Finding
from cryotorch.jobs.inputs.map_grid import (
    BELIEVED,
    DOUBTED,
    Grid,
    apart,
    believable,
    bring,
    grid_of,
    how,
)
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.masks.soft import edge_width
from cryotorch.ops.resolution.claims import UNKNOWN, Background

log = logging.getLogger("cryotorch")
HARD = 1.0  # voxels: an edge narrower than this rings in Fourier space
SOFT = 15.0  # Å: a soft edge that suits most maps
OTHER = 0.2  # a pixel size that differs by more is no calibration but perhaps a slip
# How refinements name their unfiltered half maps: cryotorch, CryoSPARC, RELION.
HALF_NAMES = (
    ("map_half_A.mrc", "map_half_B.mrc"),
    ("*_map_half_A.mrc", "*_map_half_B.mrc"),
    ("*_half1_class001_unfil.mrc", "*_half2_class001_unfil.mrc"),
)


def symmetry_group(symmetry: str) -> Tensor:
    """The point group (g, 3, 3) of ``symmetry=``; InputError where there is none of that name."""
    try:
        return point_group(symmetry)
    except ValueError as error:
        raise InputError(f"symmetry={symmetry} cannot be used: {error}") from None


@dataclass(frozen=True)
class HalfMaps:
    """Two half maps on one grid.

    Attributes:
        maps: (2, d, d, d) float32.
        pixel_size: Å, the given one if any, else the header's.
        paths: of the two files.
        folder: the run folder they were found in, None where files were named.
        known: what the run's summary says of them.
    """

    maps: Tensor
    pixel_size: float
    paths: tuple[Path, Path]
    folder: Path | None = None
    known: Background = UNKNOWN

    @property
    def grid(self) -> Grid:
        """Their sampling; those that were made here lie in no file and nowhere else."""
        if not self.paths[0].is_file():
            return Grid(self.maps.shape[-1], self.pixel_size)
        return grid_of(self.paths[0], self.pixel_size)

    @property
    def corner(self) -> tuple[float, float, float]:
        """Where they lie in the coordinates of models, Å: results on their grid are written there too."""
        return self.grid.corner


def load_map(
    path: str | Path, name: str, pixel_size: float | None = None, pad: bool = False
) -> tuple[Tensor, float]:
    """A map (d, d, d) and its pixel size in Å: the given one, else the header's.

    ``name`` is the parameter that named the file, for messages. Raises InputError for a file that is no cubic map,
    a blank one, and a header without pixel size. ``pad`` takes one that is no cube, see ``read_volume``.
    """
    volume, stated = read_volume(path, pad)
    if not float(volume.std()) > 1e-6 * float(volume.abs().max()):
        raise InputError(
            f"{name}={path} is blank, all voxels are {float(volume.mean()):.3g}: give a map with a particle in it"
        )
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


def looks_inverted(volume: Tensor) -> bool:
    """Whether the strong densities of a map are negative: a particle stands out on one side only."""
    centred = (volume - volume.mean()).double()
    return float(centred.pow(3).mean()) < -0.1 * float(centred.square().mean()) ** 1.5


def load_half_maps(
    volume: str | None,
    half_map_a: str | None,
    half_map_b: str | None,
    pixel_size: float | None = None,
    symmetry: str | None = None,
) -> HalfMaps:
    """Two half maps, named one by one or found in the folder ``volume``: of a refinement (ours, CryoSPARC's or RELION's),
    or of a validation. ``symmetry`` is the point group that was imposed on them; None = what the folder says, else C1.

    Raises:
        InputError: none or too many of them, different grids, or twice the same map.
    """
    paths, folder = half_paths(volume, half_map_a, half_map_b)
    (a, size_a), (b, size_b) = (
        load_map(path, name, pixel_size)
        for path, name in zip(paths, ("half_map_a", "half_map_b"), strict=True)
    )
    if a.shape != b.shape:
        raise InputError(
            f"The half maps have different boxes, {len(a)} and {len(b)} voxels: give two of one refinement"
        )
    if abs(size_a / size_b - 1) > 1e-3:
        raise InputError(
            f"The half maps have different pixel sizes, {size_a:.4g} and {size_b:.4g} Å: give two of one refinement, "
            "or add pixel_size=<Å>"
        )
    if float((a - b).abs().max()) <= 1e-6 * float(a.abs().max()):
        raise InputError(
            f"{paths[0]} and {paths[1]} are the same map, their FSC is 1 everywhere: give two independent half maps"
        )
    known = background(folder, symmetry, len(a))
    if len(known.group) > 1:
        log.info("%d copies by symmetry count as one where noise is judged", len(known.group))
    return HalfMaps(torch.stack([a, b]), size_a, paths, folder, known)


def summary_of(folder: Path | None) -> dict:
    """The summary of a run folder, empty where there is none."""
    try:
        found = (
            json.loads((folder / "summary.json").read_text(encoding="utf-8")) if folder else None
        )
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def background(folder: Path | None, symmetry: str | None, box: int) -> Background:
    """What the summary of a run folder says of its half maps."""
    found = summary_of(folder)
    named = symmetry or found.get("symmetry")
    known = Background(symmetry=named.upper() if isinstance(named, str) else "C1")
    known = known._replace(group=symmetry_group(known.symmetry))
    shells = found.get("shells")
    if not isinstance(shells, dict) or found.get("box") != box:
        return known
    return known._replace(
        shared=float(shells.get("shared") or 0.0),
        inserted=float(shells.get("inserted") or math.inf),
    )


def half_paths(
    volume: str | None, half_map_a: str | None, half_map_b: str | None
) -> tuple[tuple[Path, Path], Path | None]:
    """The two files, and the folder that named them."""
    named = [path for path in (half_map_a, half_map_b) if path is not None]
    if volume is not None and named:
        raise InputError(
            f"volume={volume} and half_map_{'a' if half_map_a else 'b'}={named[0]} contradict each other: give a run "
            "folder or two half maps"
        )
    if volume is None:
        if len(named) != 2:
            missing = "half_map_b" if half_map_a else "half_map_a"
            both = "volume=<run folder>, or half_map_a=<file> half_map_b=<file>"
            requirement = both if not named else f"{missing}=<file>"
            raise InputError(f"Two half maps are needed: add {requirement}")
        return (Path(named[0]), Path(named[1])), None
    folder = Path(volume)
    if not folder.is_dir():
        raise InputError(
            f"volume={volume} is not a folder: name that of a refinement, or half_map_a=<file> half_map_b=<file>"
        )
    for pair in HALF_NAMES:
        # iterations sort by their number: the last one counts
        a, b = (sorted(folder.glob(pattern)) for pattern in pair)
        if a and b:
            return (a[-1], b[-1]), folder
    judged = _judged_halves(folder)
    if judged is not None:
        return judged, folder
    raise InputError(
        f"volume={volume} holds no half maps (map_half_A.mrc and map_half_B.mrc): "
        "name them with half_map_a=<file> half_map_b=<file>"
    )


def _judged_halves(folder: Path) -> tuple[Path, Path] | None:
    """The half maps that a validation in this folder was about, which its summary names."""
    try:
        a, b = (Path(path) for path in summary_of(folder)["half_maps"])
    except (ValueError, KeyError, TypeError):
        return None
    return (a, b) if a.is_file() and b.is_file() else None


def load_mask(
    path: str | Path, grid: Grid, name: str = "mask", any_pixel_size: bool = False
) -> tuple[Tensor, list[Finding]]:
    """A mask (d, d, d) with values from 0 to 1 on a known grid, resampled where need be, and what is wrong with it.

    ``any_pixel_size``: the header's is not compared, as the true one was given by the user.

    Raises:
        InputError: another box without a pixel size, values outside 0 .. 1, nothing in it.
    """
    mask, stated = read_volume(path, pad=True)
    low, high = float(mask.min()), float(mask.max())
    if high <= 0.01 and low >= -0.01:
        raise InputError(
            f"{name}={path} is empty, its largest value is {high + 0.0:.3g}: give another"
        )
    if low < -0.01 or high > 1.01:
        raise InputError(
            f"{name}={path} must have values from 0 to 1, got {low:.3g} to {high:.3g}: make a mask of it with "
            "job=volume_tools threshold=<density>"
        )
    known = stated is not None and not any_pixel_size
    if stated == DOUBTED != grid.pixel_size:  # of another box it is all that tells
        plausible = believable(len(mask), grid.box * grid.pixel_size)
        known = known and len(mask) != grid.box and plausible
    if len(mask) != grid.box and not known:
        raise InputError(
            f"{name}={path} has {len(mask)} voxels per edge but the map has {grid.box}, and {_why_unknown(stated)}: bring it onto that grid with job=volume_tools pixel_size=<Å per voxel> like=<map>"
        )
    if stated == DOUBTED and known and grid.pixel_size != DOUBTED:
        log.info(BELIEVED, f"{name}={path}")
    elif stated == DOUBTED and abs(grid.pixel_size - 1) > 0.01:
        log.info(
            "%s=%s states 1 Å per voxel, which some programs write without meaning it: taken as the map's %.4g Å",
            *(name, path, grid.pixel_size),
        )
    same = not known or (len(mask) == grid.box and abs(stated / grid.pixel_size - 1) <= 0.01)
    own = grid_of(path, grid.pixel_size if same else stated)
    away = apart(own, grid)
    if any(away) or not own.samples_like(grid):
        log.info("%s=%s: %s", name, path, how(own, grid, away))
    mask, cut = bring(mask, own, grid, away, f"{name}={path}")
    mask = mask.clamp(0, 1)
    found, width = [cut] if cut else [], edge_width(mask)
    if width < HARD:
        found.append(Finding("mask_hard", file=f"{name}={path}", width=width, soften=SOFT))
    return mask, found


def _why_unknown(stated: float | None) -> str:
    if stated is None:
        return "its header does not state a pixel size"
    if stated == DOUBTED:
        return "its header says 1 Å per voxel, as of programs that do not know it"
    return f"whether the {stated:.4g} Å per voxel of its header are wrong too, as pixel_size= says of the map's, nobody knows"


def pick_device(name: str) -> torch.device:
    """``auto`` (a CUDA device where there is one), ``cpu`` or ``cuda``."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    require_cuda("device", name)
    return torch.device(name)


def require_cuda(name: str, value: str) -> None:
    """Raises InputError for a parameter that asks for a CUDA device where there is none."""
    if value in ("cuda", "gpu") and not torch.cuda.is_available():
        raise InputError(
            f"{name}={value} cannot be used: torch finds no CUDA device, use {name}=cpu"
        )
