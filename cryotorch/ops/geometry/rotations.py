"""Rotations: RELION's Euler angles, rotation vectors, random and evenly spaced sets."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def euler_to_matrix(rot: Tensor, tilt: Tensor, psi: Tensor) -> Tensor:
    """RELION's ``Euler_angles2matrix``: angles in radians (*b) to R (*b, 3, 3), x_particle = R x_reference.

    R = (Rz(rot) Ry(tilt) Rz(psi))^T with active right-handed Rz and Ry.
    """
    ca, sa, cb, sb, cg, sg = rot.cos(), rot.sin(), tilt.cos(), tilt.sin(), psi.cos(), psi.sin()
    rows = [
        [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
        [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
        [sb * ca, sb * sa, cb],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def matrix_to_euler(rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The inverse of ``euler_to_matrix``, (*b, 3, 3) to three (*b): tilt in [0, pi]; at tilt 0 and pi, where only a sum counts, rot is 0."""
    r = rotation.double()
    sin_tilt = torch.hypot(r[..., 2, 0], r[..., 2, 1])
    tilt = torch.atan2(sin_tilt, r[..., 2, 2])
    pole = sin_tilt < 1e-7
    rot = torch.where(pole, 0.0, torch.atan2(r[..., 2, 1], r[..., 2, 0]))
    free = torch.atan2(r[..., 1, 2], -r[..., 0, 2])
    at_pole = torch.atan2(-r[..., 1, 0] * r[..., 2, 2].sign(), r[..., 0, 0] * r[..., 2, 2].sign())
    psi = torch.where(pole, at_pole, free)
    rot, tilt, psi = (angle.to(rotation.dtype) for angle in (rot, tilt, psi))
    return rot, tilt, psi


def from_rotation_vector(vector: Tensor) -> Tensor:
    """Rodrigues' formula: axis times angle (*b, 3), radians, to R (*b, 3, 3), right-handed."""
    angle2 = (vector * vector).sum(-1)[..., None, None]
    angle = angle2.clamp_min(1e-24).sqrt()
    small = angle2 < 1e-6
    a = torch.where(small, 1 - angle2 / 6, angle.sin() / angle)
    b = torch.where(small, 0.5 - angle2 / 24, (1 - angle.cos()) / angle2.clamp_min(1e-24))
    x, y, z = vector.unbind(-1)
    o = torch.zeros_like(x)
    k = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).unflatten(-1, (3, 3))
    return torch.eye(3, dtype=vector.dtype, device=vector.device) + a * k + b * (k @ k)


def to_rotation_vector(rotation: Tensor) -> Tensor:
    """The inverse of ``from_rotation_vector`` (*b, 3, 3) -> (*b, 3), angle in [0, pi]."""
    q = _to_quaternion(rotation.double())
    w, v = q[..., :1], q[..., 1:]
    norm = v.norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(norm, w)
    return (v * torch.where(norm < 1e-12, 2.0, angle / norm.clamp_min(1e-12))).to(rotation.dtype)


def _to_quaternion(r: Tensor) -> Tensor:
    """(*b, 3, 3) -> unit quaternions (*b, 4), w first and not negative (Shepperd 1978, doi:10.2514/3.55767b)."""
    m = [[r[..., i, j] for j in range(3)] for i in range(3)]
    t = [m[i][i] for i in range(3)]
    skew = [m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]]
    s01, s02, s12 = m[0][1] + m[1][0], m[0][2] + m[2][0], m[1][2] + m[2][1]
    candidates = torch.stack(
        [
            torch.stack([1 + t[0] + t[1] + t[2], *skew], -1),
            torch.stack([skew[0], 1 + t[0] - t[1] - t[2], s01, s02], -1),
            torch.stack([skew[1], s01, 1 - t[0] + t[1] - t[2], s12], -1),
            torch.stack([skew[2], s02, s12, 1 - t[0] - t[1] + t[2]], -1),
        ],
        -2,
    )
    best = candidates.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None]
    q = torch.take_along_dim(candidates, best, -2).squeeze(-2)
    q = q / q.norm(dim=-1, keepdim=True)
    return torch.where(q[..., :1] < 0, -q, q)


def rotation_angle(first: Tensor, second: Tensor) -> Tensor:
    """Geodesic angle (*b) in radians between rotations (*b, 3, 3), exact also for small angles."""
    chord = (first - second).flatten(-2).norm(dim=-1)  # = 2 sqrt(2) sin(angle / 2)
    return 2 * torch.asin((chord / math.sqrt(8)).clamp(max=1))


def random_rotations(n: int, generator: torch.Generator | None = None) -> Tensor:
    """n rotations (n, 3, 3) float32, uniform on SO(3): normalised Gaussian quaternions."""
    q = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    w, x, y, z = (q / q.norm(dim=1, keepdim=True)).unbind(1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2).float()


def fibonacci_directions(n: int) -> Tensor:
    """n evenly spaced unit vectors (n, 3) float64 on the sphere (Gonzalez 2010, doi:10.1007/s11004-009-9257-x)."""
    i = torch.arange(n, dtype=torch.float64)
    z = 1 - (2 * i + 1) / n
    azimuth = i * math.pi * (3 - math.sqrt(5))
    r = (1 - z * z).sqrt()
    return torch.stack([r * azimuth.cos(), r * azimuth.sin(), z], 1)


def rotation_grid(
    step: float,
    keep: Callable[[Tensor], Tensor] = lambda directions: torch.ones(
        len(directions), dtype=torch.bool
    ),
    span: float = 2 * math.pi,
) -> Tensor:
    """Evenly spaced rotations (r, 3, 3) float32, ``step`` radians apart: Fibonacci directions x in-plane angles.

    ``keep(directions (n, 3)) -> (n,) bool`` restricts the viewing directions (R^T z), to an asymmetric unit say. In-plane angles
    go from 0 to ``span``.
    """
    n_directions = max(4, round(4 * math.pi / step**2))
    n_psi = max(2, round(span / step))
    view = fibonacci_directions(n_directions)
    view = view[keep(view)]
    rot, tilt = torch.atan2(view[:, 1], view[:, 0]), torch.acos(view[:, 2].clamp(-1, 1))
    psi = torch.arange(n_psi, dtype=torch.float64) * (span / n_psi)
    rot, tilt, psi = (
        rot[:, None].expand(-1, n_psi),
        tilt[:, None].expand(-1, n_psi),
        psi.expand(len(view), -1),
    )
    return euler_to_matrix(rot, tilt, psi).flatten(0, 1).float()
