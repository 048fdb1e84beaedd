"""How far a score can still rise: by the rings beyond a limit, and by moving inside a cell of poses.

Scores as in ``likelihood``: S = <y, f> - <f, f> / 2 with <a, b> = sum w Re(conj(a) b) over coefficients that stand for +k and
-k, w = 1 / sigma2. The image is y = f* + n with E |n|^2 = 1 / w, so <n, g> is Gaussian with variance <g, g> / 2: only half of
the noise lies along g. Let c be the prediction at the centre of a cell, S_L its score up to limit L, and f* the truth, which we
suppose in the cell. Then

    S(f*) - S_L(c) = x + <n, f* - c_L>,      x = Q + D,      Q = <f*, f*>_{>L} / 2,      D = <f* - c, f* - c>_L / 2,

and the noise has variance x. (In the notation E = -S + const with variance 2 v Q of its tail, v is 1/2.) With X no less than x
anywhere in the cell,

    S_L(c) + X + kappa sqrt(X) < S(f*)      with probability 3e-5 at most, kappa = 4.

For another pose f of the cell the tail is bounded all the same, by Cauchy-Schwarz: <f*, f> - <f, f> / 2 <= 2 sqrt(Q^ Q) - Q <= Q^
where Q^ is the largest Q of any slice and Q = <f, f>_{>L} / 2. Powers are kept ring by ring, ring n holding n - 1 < |k| <= n so
that whole limits cut between rings:

    Q^ = max_v 1/2 sum_{ring > L} g_ring p_ring(v),      D^ = max_v 1/2 sum_{ring <= L} g_ring d_ring(v),

g the mean of w gain^2 in the ring, p(v) the power of the slice of direction v, d(v) that of the difference between the slices at
the centre and elsewhere in a cell. Both are tabulated once per reference.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cryotorch.ops.fourier.slices import Projector, extract_slices
from cryotorch.ops.fourier.transforms import half_plane, shift_phase
from cryotorch.ops.geometry.rotations import (
    euler_to_matrix,
    fibonacci_directions,
    from_rotation_vector,
)
from cryotorch.ops.pose.scores import Observation

GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
KAPPA = 4.0


def ring_number(box: int, device: torch.device | str = "cpu") -> Tensor:
    """The ring ceil(|k|) of every packed coefficient, (m,) int64 in 1 .. ceil(d / 2)."""
    return torch.ceil(half_plane(box, device).radius - 1e-4).long()


def ring_count(box: int) -> int:
    """Length of a table by ring, ring 0 included."""
    return (box + 1) // 2 + 1


def views(n: int) -> Tensor:
    """n rotations (n, 3, 3) whose directions fill a hemisphere evenly (the other one mirrors it), in-plane angles mixed."""
    direction = fibonacci_directions(2 * n)[:n]
    psi = GOLDEN_ANGLE * torch.arange(n, dtype=torch.float64)
    azimuth = torch.atan2(direction[:, 1], direction[:, 0])
    return euler_to_matrix(azimuth, torch.acos(direction[:, 2]), psi).float()


def view_power(slices: Projector, n: int = 512) -> Tensor:
    """p, the sum of |slice|^2 in each ring, for n directions: (n, rings)."""
    device = slices.table.device
    frequency = half_plane(slices.box, device).frequency[: _count(slices.box, slices.limit)]
    return _power(extract_slices(slices, views(n).to(device), frequency), slices.box)


def cell_change(
    slices: Projector,
    limit: float,
    turn: float,
    move: float,
    fulcrum: tuple[float, float, float] = (0.0, 0.0, 0.0),
    n: int = 2048,
) -> Tensor:
    """d, the sum of |difference|^2 in each ring up to ``limit``, for n directions with a place drawn in a cell around each: (n, rings).

    A cell is a cube of rotation vectors about the fulcrum (pixels), of edge ``turn`` radians, by a square of shifts, of edge
    ``move`` pixels. Always the same draw.
    """
    device = slices.table.device
    rotation, count = views(n).to(device), _count(slices.box, limit)
    frequency = half_plane(slices.box, device).frequency[:count]
    generator = torch.Generator().manual_seed(0)
    place = (torch.rand(n, 5, generator=generator) - 0.5).to(device)
    turned = from_rotation_vector(turn * place[:, :3]) @ rotation
    shift = (turned - rotation)[:, :2] @ torch.tensor(fulcrum, device=device) + move * place[:, 3:]
    here = extract_slices(slices, rotation, frequency)
    there = extract_slices(slices, turned, frequency) * shift_phase(shift, slices.box, count)
    return _power(there - here, slices.box)


def ring_weight(seen: Observation) -> Tensor:
    """g, the mean of w gain^2 in each ring (b, rings): what a slice's power there counts, whatever its in-plane angle."""
    weight = seen.gain**2 * seen.precision
    ring = ring_number(seen.box, weight.device)[: weight.shape[1]]
    sums = weight.new_zeros(len(weight), ring_count(seen.box)).index_add_(1, ring, weight)
    return sums / ring.bincount(minlength=sums.shape[1]).clamp_min(1)


def headroom(expected: Tensor, kappa: float = KAPPA) -> Tensor:
    """X + kappa sqrt(X), any shape: the most that a score gains which is expected to gain X, with noise of variance X."""
    return expected + kappa * expected.sqrt()


def _count(box: int, limit: float) -> int:
    return half_plane(box).count(limit)


def _power(slices: Tensor, box: int) -> Tensor:
    """Power by ring of slices (n, m): (n, rings)."""
    ring = ring_number(box, slices.device)[: slices.shape[1]]
    power = slices.real**2 + slices.imag**2
    return power.new_zeros(len(power), ring_count(box)).index_add_(1, ring, power)
