"""Viewing directions: random ones for simulated particles, evenly spaced ones for templates."""

from __future__ import annotations

import math

import torch
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]
from torch import Tensor

from cryotorch.ops.geometry.rotations import euler_to_matrix, fibonacci_directions
from cryotorch.ops.geometry.symmetry import GENERIC, in_asymmetric_unit

# Directions per view that stand for the sphere, and rounds in which the views settle.
PROBES, PASSES = 200, 40
NUMBERS_AT_ONCE = 2_000_000  # numbers held at once


def random_views(
    n: int, concentration: float = 0.0, generator: torch.Generator | None = None
) -> Tensor:
    """n rotations (n, 3, 3) float32 whose viewing directions gather around the reference's z axis.

    The viewing direction R^T z has the density of von Mises and Fisher, proportional to
    exp(concentration * cos tilt) on the sphere; 0 is uniform on SO(3). The angle in the image plane is uniform.
    Drawn by inversion (Ulrich 1984, doi:10.2307/2347441), in float64.

    Raises ValueError for a negative concentration.
    """
    if concentration < 0:
        raise ValueError(f"The concentration of views must not be negative, got {concentration:g}.")
    u = torch.rand(n, 3, generator=generator, dtype=torch.float64)
    if concentration < 1e-6:
        cosine = 1 - 2 * u[:, 0]
    else:
        # cos = 1 + ln(u + (1 - u) exp(-2 kappa)) / kappa
        low = math.exp(-2 * concentration)
        cosine = 1 + torch.log(u[:, 0] + (1 - u[:, 0]) * low) / concentration
    rot, psi = 2 * math.pi * u[:, 1], 2 * math.pi * u[:, 2]
    return euler_to_matrix(rot, torch.acos(cosine.clamp(-1, 1)), psi).float()


def even_views(n: int, group: Tensor) -> Tensor:
    """n viewing directions (n, 3) float64, evenly spaced over the asymmetric unit of a group (g, 3, 3), from +z to -z.

    Lloyd's algorithm (1982, doi:10.1109/TIT.1982.1056489) on the sphere modulo the group: every direction belongs to the
    nearest view or copy of one, and every view moves to the mean of what belongs to it, brought to it by the group. It
    starts from a Fibonacci sphere. Directions u and -u are told apart: their projections are mirror images, which a
    rotation in the plane does not bring together.

    Raises ValueError for n below 1.
    """
    if n < 1:
        raise ValueError(f"At least one view is needed, got {n}.")
    group = group.double()
    more = n * len(group)
    while len(view := _of_one_unit(fibonacci_directions(more), group)) < n:
        more += len(group)
    view = view[torch.linspace(0, len(view) - 1, n).round().long()]
    direction = fibonacci_directions(PROBES * n)
    for _ in range(PASSES):
        place, element, _ = nearest_views(direction, view, group)
        home = (group[element].mT @ direction[..., None])[..., 0]
        mean = torch.zeros_like(view).index_add_(0, place, home)
        view = mean / mean.norm(dim=1, keepdim=True)
    copies = group @ view.T  # (g, 3, n)
    best = (torch.tensor(GENERIC, dtype=torch.float64) @ copies).argmax(0)
    view = copies[best, :, torch.arange(n)]
    return view[view[:, 2].argsort(descending=True)]


def largest_gap(view: Tensor, group: Tensor) -> float:
    """The angle in radians between views (n, 3), with their copies by a group (g, 3, 3), and the direction that is farthest from all."""
    direction = fibonacci_directions(PROBES * len(view))
    return float(nearest_views(direction, view, group.double())[2].max())


def ideal_gap(n: int, order: int) -> float:
    """The largest gap in radians between n views and their copies by a group of this order if all cells were hexagons.

    A hexagon of area A has its corners at sqrt(2 A / (3 sqrt 3)) from its middle; A = 4 pi / (n order).
    """
    return math.sqrt(8 * math.pi / (3 * math.sqrt(3) * n * order))


def _of_one_unit(direction: Tensor, group: Tensor) -> Tensor:
    parts = direction.split(max(1, NUMBERS_AT_ONCE // len(group)))
    return torch.cat([part[in_asymmetric_unit(part, group)] for part in parts])


def nearest_views(direction: Tensor, view: Tensor, group: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For directions (m, 3): the nearest of views (n, 3) or their copies by a group (g, 3, 3), which view (m,) and the group element (m,) that brings it there, and the angle (m,)."""
    copies = (view @ group.mT).flatten(0, 1)  # element by element
    chord, index = cKDTree(copies.numpy()).query(direction.numpy())
    index, angle = torch.from_numpy(index), 2 * torch.asin(torch.from_numpy(chord / 2).clamp(max=1))
    return index % len(view), index // len(view), angle
