"""A reference on the axes of its point group, and whether one lacks the symmetry."""

from __future__ import annotations

import logging
import math

from torch import Tensor

from cryotorch.findings import Finding
from cryotorch.ops.fourier.filters import whitened
from cryotorch.ops.fourier.transforms import resize_volume
from cryotorch.ops.geometry.symmetry import rotate_volume, symmetrise_volume, symmetry_correlation
from cryotorch.ops.geometry.symmetry_frame import holds, largest_group, other_axes

log = logging.getLogger("cryotorch")
ON_AXES = 0.9  # correlation of a map with its rotated copies that counts as symmetric
# The same with all shells alike: about other axes to be named, and by how much it must be higher there.
ON_OTHERS = 0.7
CLEAR_GAIN = 0.15
SMALL_BOX = 48  # voxels: a box that shows them
BAND = 0.75  # of the Nyquist frequency of a smaller box that a map is averaged in: nearer to it interpolation weakens it
LOOK_BOX = 96  # voxels: more tell no more of whether a map is symmetric, as most of its power is at low resolution


def onto_axes(
    volume: Tensor,
    group: Tensor,
    symmetry: str,
    frame: str = "check",
    finest: float = math.inf,
) -> tuple[Tensor, list[Finding]]:
    """Average a map over its point group, and whether it does not have it in RELION's frame.

    The finding names the turn that would bring it there; ``frame="auto"`` makes that turn, ``"trust"`` does not look. What is finer
    than the shell ``finest`` may be lost: the fewer shells count, the less there is to interpolate.
    """
    told: list[Finding] = []
    if len(group) == 1:
        return volume, told
    if frame != "trust":
        volume, told = _on_axes(volume, group, symmetry, frame == "auto")
    box = len(volume)
    small = 2 * math.ceil(finest / BAND) if finest < BAND * box / 2 else box
    return resize_volume(symmetrise_volume(resize_volume(volume, small), group), box), told


def _on_axes(
    volume: Tensor, group: Tensor, symmetry: str, turned: bool
) -> tuple[Tensor, list[Finding]]:
    """Look at all shells of the map alike: at low resolution much looks symmetric."""
    fine = whitened(resize_volume(volume, min(len(volume), SMALL_BOX)))
    worst = float(symmetry_correlation(fine, group)[1:].min())
    tried = other_axes(group) if worst < ON_AXES else []
    others = ((float(symmetry_correlation(fine, a.group)[1:].min()), a) for a in tried)
    best, axes = max(others, key=lambda pair: pair[0], default=(-1.0, None))
    if axes is not None and best > max(ON_OTHERS, worst + CLEAR_GAIN):
        if turned:
            log.info("the initial map is brought onto the axes of %s by %s", symmetry, axes.words)
            return rotate_volume(volume, axes.turn), []
        seen = dict(as_is=worst, turned=best)
        return volume, [Finding("map_about_other_axes", symmetry=symmetry, turn=axes.words, **seen)]
    least = max(ON_OTHERS, worst + CLEAR_GAIN)

    def fits(operators: Tensor) -> bool:
        return float(symmetry_correlation(fine, operators).min()) > least

    other = largest_group(group, fits) if worst < ON_AXES else None
    shows = other[0] if other else ""
    if other is not None and not all(holds(group.double(), r) for r in other[1]):
        seen = dict(shows=shows, correlation=worst, least=least)
        return volume, [Finding("map_of_other_symmetry", symmetry=symmetry, **seen)]
    coarse = resize_volume(volume, min(len(volume), LOOK_BOX))
    worst = float(symmetry_correlation(coarse, group)[1:].min())
    if worst >= ON_AXES:
        return volume, []
    seen = dict(correlation=worst, shows=shows)
    return volume, [Finding("map_not_symmetric", symmetry=symmetry, **seen)]
