"""Two half maps as the input of a job, by name or by folder, and what is known of them."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cryotorch.errors import InputError
from cryotorch.jobs.files.manifest import read_manifest, summary_of
from cryotorch.jobs.inputs.map_grid import Grid, grid_of
from cryotorch.jobs.inputs.maps import load_map
from cryotorch.jobs.inputs.source_run import doubts, run_of
from cryotorch.jobs.inputs.symmetry import symmetry_group
from cryotorch.ops.resolution.claims import UNKNOWN, Background

log = logging.getLogger("cryotorch")
LEAST_BOX = 8  # voxels per edge, as of the particles
# How refinements name their unfiltered half maps: cryotorch, CryoSPARC, RELION.
HALF_NAMES = (
    ("map_half_A.mrc", "map_half_B.mrc"),
    ("*_map_half_A.mrc", "*_map_half_B.mrc"),
    ("*_half1_class001_unfil.mrc", "*_half2_class001_unfil.mrc"),
)


@dataclass(frozen=True)
class HalfMaps:
    """Two half maps on one grid.

    Attributes:
        maps: (2, d, d, d) float32.
        pixel_size: Å, the given one if any, else the header's.
        paths: of the two files; None = they were made here.
        folder: the run folder they were found in, None where files were named.
        known: what the run's summary says of them.
    """

    maps: Tensor
    pixel_size: float
    paths: tuple[Path, Path] | None = None
    folder: Path | None = None
    known: Background = UNKNOWN

    @property
    def grid(self) -> Grid:
        """Their sampling; those that were made here lie in no file and nowhere else."""
        if self.paths is None or not self.paths[0].is_file():
            return Grid(self.maps.shape[-1], self.pixel_size)
        return grid_of(self.paths[0], self.pixel_size)

    @property
    def corner(self) -> tuple[float, float, float]:
        """Where they lie in the coordinates of models, Å: results on their grid are written there too."""
        return self.grid.corner

    @property
    def made_by(self) -> str:
        """The job of ours that left them, "" where none did."""
        folder = run_of(self.paths[0]) if self.paths else None
        manifest = None if folder is None else read_manifest(folder)
        return "" if manifest is None else manifest.job

    @property
    def in_summary(self) -> dict[str, object]:
        """Their entries of a ``summary.json``."""
        return {
            "half_maps": [str(path.resolve()) for path in self.paths or ()],
            "box": self.maps.shape[-1],
            "pixel_size": self.pixel_size,
            "nyquist": 2 * self.pixel_size,
        }


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
    if len(a) < LEAST_BOX:
        raise InputError(
            f"The half maps have {len(a)} voxels per edge, too few to compare shells: give larger ones"
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
    known = background(folder or _run_of(paths), symmetry, len(a))
    known = known._replace(earlier=tuple(doubts(folder, *paths)))
    if len(known.group) > 1:
        log.info("%d copies by symmetry count as one where noise is judged", len(known.group))
    return HalfMaps(torch.stack([a, b]), size_a, paths, folder, known)


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


def _run_of(paths: tuple[Path, Path]) -> Path | None:
    """The run folder that two half maps which were named one by one lie in, as its summary knows what they have in common."""
    a, b = paths
    if (made := run_of(a)) is not None and made == run_of(b):
        return made
    names = any(a.match(x) and b.match(y) for x, y in HALF_NAMES)
    return (
        a.parent
        if names and a.parent == b.parent and (a.parent / "summary.json").is_file()
        else None
    )


def _judged_halves(folder: Path) -> tuple[Path, Path] | None:
    """The half maps that a validation in this folder was about, which its summary names."""
    try:
        a, b = (Path(path) for path in summary_of(folder)["half_maps"])
    except (ValueError, KeyError, TypeError):
        return None
    return (a, b) if a.is_file() and b.is_file() else None
