"""Where a map lies by its header, and bringing it onto the grid of another one or of the particles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cryotorch.data.mrc import read_corner, read_header
from cryotorch.errors import InputError
from cryotorch.findings import Finding
from cryotorch.ops.fourier.resample import resample_volume
from cryotorch.ops.fourier.transforms import resize_volume
from cryotorch.ops.masks.soft import high_percentile

ROUNDING = 1e-3  # relative difference of pixel sizes that only rounding makes
STRONG_DENSITY = 0.2  # of the high density: what counts as lost outside the box
COARSE_BOX = 32  # voxels per edge at which that is judged, as single voxels are noise
CUT_SHARE, ELSEWHERE_SHARE = 0.01, 0.5  # part of it that is spoken of, and that cannot be meant
# 1 Å per voxel may be true, and is what programs write that do not know it.
DOUBTED = 1.0
BELIEVED = (
    "%s states exactly 1 Å per voxel, which some programs write without knowing it: taken as true, as nothing else tells; if it is "
    "another, write that into the header with job=volume_tools volume=<it> pixel_size=<Å per voxel>"
)
ELSEWHERE_CURE = "put it in place with job=volume_tools like=<map> center=true"

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Grid:
    """Sampling of a cubic map.

    Attributes:
        box: voxels per edge.
        pixel_size: Å.
        corner: (x, y, z) Å, where voxel 0 lies in the coordinates of atomic models, as ChimeraX shows them.
        stated: whether a header says so; a corner of 0 is what most programs write without meaning it.
    """

    box: int
    pixel_size: float
    corner: Point = (0.0, 0.0, 0.0)
    stated: bool = False

    @property
    def middle(self) -> Point:
        """Where voxel d // 2 lies, Å: what a refinement turns about."""
        x, y, z = (c + self.box // 2 * self.pixel_size for c in self.corner)
        return x, y, z

    @property
    def centred(self) -> bool:
        """Whether the middle is the origin of the coordinates, to a voxel: a convention, not a place in another map."""
        return max(map(abs, self.middle)) <= self.pixel_size

    def samples_like(self, other: Grid, tolerance: float = ROUNDING) -> bool:
        """Same box and pixel size."""
        close = abs(self.pixel_size / other.pixel_size - 1) <= tolerance
        return self.box == other.box and close


def believable(box: int, edge: float) -> bool:
    """Whether voxels of 1 Å make a box (voxels) about as wide as one of ``edge`` Å that it goes with: half to twice as wide."""
    return edge / 2 <= box * DOUBTED <= 2 * edge


def grid_of(path: str | Path, pixel_size: float) -> Grid:
    """The grid of a map, of the cube it is padded to where it is none; ``pixel_size`` as it was read or given."""
    header = read_header(path)
    return Grid(max(header.size), pixel_size, read_corner(path, pixel_size), any(header.corner))


def apart(own: Grid, other: Grid) -> Point:
    """How far the middle of ``own`` lies from that of ``other`` (x, y, z), Å, as far as their headers tell.

    Middle on middle where neither says anything; and where one does, but both have one sampling or that one puts its
    middle at the origin. Else the places that ChimeraX shows: a part that was cut out of a map lies where it was.
    """
    if own.stated != other.stated:
        told = own if own.stated else other
        silent = own.samples_like(other) or told.centred
    else:
        silent = not own.stated
    return (0.0, 0.0, 0.0) if silent else between(own, other)


def between(own: Grid, other: Grid) -> Point:
    """How far the middle of ``own`` lies from that of ``other`` (x, y, z), Å; 0 where that is rounding."""
    step = (a - b for a, b in zip(own.middle, other.middle, strict=True))
    x, y, z = (v if abs(v) > 0.01 * other.pixel_size else 0.0 for v in step)
    return x, y, z


def bring(
    volume: Tensor, own: Grid, grid: Grid, away: Point, said: str, cure: str = ELSEWHERE_CURE
) -> tuple[Tensor, Finding | None]:
    """A volume (d, d, d) on another grid, ``away`` Å from its middle, and whether density is cut off.

    Raises:
        InputError: by its header most of it lies outside; ``said`` names the file in it, ``cure`` a way out.
    """
    if not any(away) and own.samples_like(grid):
        return volume, None
    part = _outside(volume, own, grid, away)
    if part > ELSEWHERE_SHARE and any(away):
        raise InputError(
            f"{said} lies {point_text(away)} Å from the middle by the origins in the headers, {part:.0%} of it outside the box: "
            f"correct them, or {cure}"
        )
    warning = None
    if part > CUT_SHARE:
        warning = Finding("density_cut", part=part, file=said)
    pixel_size = grid.pixel_size if abs(own.pixel_size / grid.pixel_size - 1) <= ROUNDING else None
    steps = [v / grid.pixel_size for v in away]
    if pixel_size and all(abs(s - round(s)) < 0.02 for s in steps):  # voxels are copied
        x, y, z = (round(s) * pixel_size for s in steps)
        away = x, y, z
    return resample_volume(
        volume, pixel_size or own.pixel_size, grid.box, grid.pixel_size, away
    ), warning


def how(own: Grid, grid: Grid, away: Point) -> str:
    """What ``bring`` does, for the log."""
    sampling = f"{grid.box} voxels per edge of {grid.pixel_size:.4g} Å"
    if not own.samples_like(grid):
        sampling = (
            f"resampled from {own.box} voxels per edge of {own.pixel_size:.4g} Å to {sampling}"
        )
    if not any(away):
        return f"{sampling}, middle on middle"
    return f"{sampling}, {point_text(away)} Å from the middle, as its header says"


def point_text(point: Point) -> str:
    """Coordinates for the log."""
    return "(" + ", ".join(f"{c:.4g}" for c in point) + ")"


def _outside(volume: Tensor, own: Grid, grid: Grid, away: Point) -> float:
    """The part of the strong density, judged on coarse voxels, that the other box does not hold."""
    box = min(own.box, COARSE_BOX)
    coarse = resize_volume(volume, box).abs()
    strong = torch.where(coarse > STRONG_DENSITY * high_percentile(coarse), coarse, 0.0).double()
    line = (torch.arange(box, device=volume.device) - box // 2) * (own.box * own.pixel_size / box)
    start, size = -(grid.box // 2) * grid.pixel_size, grid.pixel_size
    ends = (start - size, start + grid.box * size)
    x, y, z = ((line + a >= ends[0]) & (line + a <= ends[1]) for a in away)
    total = float(strong.sum())
    held = float((strong * (z[:, None, None] & y[:, None] & x)).sum())
    return 1 - held / total if total else 0.0
