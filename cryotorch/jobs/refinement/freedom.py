"""How far the poses of a local refinement may go from where they start, and about which point they turn."""

from __future__ import annotations

import math

from torch import Tensor

from cryotorch.jobs.config.parse import require
from cryotorch.jobs.config.units import parse_length
from cryotorch.jobs.refinement.local_settings import LocalRefine
from cryotorch.ops.geometry.placement import centre_of_mass
from cryotorch.refinement.settings import SearchExtent

ROTATION_EXTENT, SHIFT_EXTENT = 20.0, 10.0  # degrees; Å, the diameter
SIGMAS = 3  # standard deviations of a prior that an extent covers when it is not given


def place_text(corner: list[float], pixel_size: float) -> str:
    """Voxels from the corner of the box, and the same in Å."""
    voxels, lengths = (
        "[" + ", ".join(f"{v * size:.1f}" for v in corner) + "]" for size in (1.0, pixel_size)
    )
    return f"{voxels} voxels from the corner of the box ({lengths} Å)"


def extent_of(
    config: LocalRefine, mask: Tensor, pixel_size: float, extracted: float
) -> SearchExtent:
    """Extents, priors and fulcrum in radians and pixels; ``extracted``: Å per pixel of the images, whose voxels a fulcrum counts."""
    turn, move = config.rotation_extent, config.shift_extent
    sigma_turn, sigma_move = config.prior_rotation, config.prior_shift
    if turn is None:
        turn = ROTATION_EXTENT if sigma_turn is None else min(SIGMAS * sigma_turn, 180.0)
    if move is None:
        move = SHIFT_EXTENT if sigma_move is None else 2 * SIGMAS * sigma_move
    edge = mask.shape[-1] * pixel_size
    require(move <= edge, "shift_extent", move, f"the box is only {edge:.4g} Å wide")
    # no width at all leaves no freedom
    turn, sigma_turn = (0.0, None) if sigma_turn == 0 else (turn, sigma_turn)
    move, sigma_move = (0.0, None) if sigma_move == 0 else (move, sigma_move)
    return SearchExtent(
        fulcrum=_fulcrum(config.fulcrum, mask, pixel_size, extracted),
        rotation=math.radians(turn),
        shift=move / 2 / pixel_size,
        rotation_sigma=math.inf if sigma_turn is None else math.radians(sigma_turn),
        shift_sigma=math.inf if sigma_move is None else sigma_move / pixel_size,
    )


def _fulcrum(
    given, mask, pixel_size: float, particle_pixel_size: float
) -> tuple[float, float, float]:
    """(x, y, z) pixels from pixel d // 2: voxels count those of the particles as extracted, from the corner."""
    box = mask.shape[-1]
    if given == "box_center":
        return (0.0, 0.0, 0.0)
    if given == "mask_center":
        corner = [float(v) for v in centre_of_mass(mask)]
    else:
        lengths = [
            parse_length(v if isinstance(v, str) else f"{v}px", particle_pixel_size, "fulcrum")
            for v in given
        ]
        corner = [length / pixel_size for length in lengths]
        inside = all(-0.5 <= v <= box - 0.5 for v in corner)
        requirement = f"it lies outside the box, whose voxels go from 0 to {box - 1}"
        require(inside, "fulcrum", given, requirement)
    return tuple(v - box // 2 for v in corner)


def describe(extent: SearchExtent, pixel_size: float) -> str:
    """The freedom of the poses as a sentence."""
    text = f"rotations up to {math.degrees(extent.rotation):.3g}°, shifts up to {extent.shift * pixel_size:.3g} Å from the start"
    priors = []
    if math.isfinite(extent.rotation_sigma):
        priors.append(f"{math.degrees(extent.rotation_sigma):.3g}°")
    if math.isfinite(extent.shift_sigma):
        priors.append(f"{extent.shift_sigma * pixel_size:.3g} Å")
    return text + (f", priors of {' and '.join(priors)}" if priors else "")
