"""Random poses for simulated particles."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cryotorch.ops.rotations import euler_to_matrix


def random_views(
    n: int, concentration: float = 0.0, generator: torch.Generator | None = None
) -> Tensor:
    """n rotations (n, 3, 3) float32 whose viewing directions gather around the reference's z axis.

    The viewing direction R^T z has the density of von Mises and Fisher, proportional to
    exp(concentration * cos tilt) on the sphere; 0 is uniform on SO(3). The angle in the image plane is uniform.
    Drawn by inversion (Ulrich 1984, doi:10.2307/2347441), in float64.
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
