"""A mask as the input of a job: its values, its place, and what is wrong with its edge."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

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
from cryotorch.ops.masks.soft import edge_width

log = logging.getLogger("cryotorch")
HARD = 1.0  # voxels: an edge narrower than this rings in Fourier space
SOFT = 15.0  # Å: a soft edge that suits most maps
NEAR = 0.01  # how far beyond 0 and 1 interpolation may take the values of a mask
FULL = 0.5  # what a mask that reaches less is no mask


def check_mask(mask: Tensor, said: str) -> None:
    """Raises InputError unless the values of a mask are from 0 to 1, and some are near 1; one of ones is none the less a mask."""
    low, high = float(mask.min()), float(mask.max())
    if high <= NEAR and low >= -NEAR:
        raise InputError(f"{said} is empty, its largest value is {high + 0.0:.3g}: give another")
    if low < -NEAR or high > 1 + NEAR:
        raise InputError(
            f"{said} must have values from 0 to 1, got {low:.3g} to {high:.3g}: make a mask of it with "
            "job=volume_tools threshold=<density>"
        )
    if high < FULL:
        raise InputError(f"{said} reaches {high:.3g} only, and a mask is 1 inside: scale it")


def load_mask(
    path: str | Path, grid: Grid, name: str = "mask", any_pixel_size: bool = False
) -> tuple[Tensor, list[Finding]]:
    """A mask (d, d, d) with values from 0 to 1 on a known grid, resampled where need be, and what is wrong with it.

    ``any_pixel_size``: the header's is not compared, as the true one was given by the user.

    Raises:
        InputError: another box without a pixel size, or values that are those of no mask.
    """
    mask, stated = read_volume(path, pad=True)
    check_mask(mask, f"{name}={path}")
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


def try_mask(settings: Any, grid: Grid) -> None:
    """For a dry run, which ends before a run reads ``mask``: raises InputError where that cannot be used on the grid of its maps."""
    if settings.dry_run and settings.mask is not None:
        trusted = getattr(settings, "pixel_size", None) is not None
        load_mask(settings.mask, grid, any_pixel_size=trusted)


def _why_unknown(stated: float | None) -> str:
    if stated is None:
        return "its header does not state a pixel size"
    if stated == DOUBTED:
        return "its header says 1 Å per voxel, as of programs that do not know it"
    return f"whether the {stated:.4g} Å per voxel of its header are wrong too, as pixel_size= says of the map's, nobody knows"
