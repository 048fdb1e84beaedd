"""Fits of one map to another one in Fourier space: their correlation, and the climb to its highest value nearby."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from cryotorch.ops.fourier.slices import Projector, extract_slices
from cryotorch.ops.fourier.transforms import fft_volume
from cryotorch.ops.geometry.rotations import from_rotation_vector

NEWTON_STEPS = 8
TILT, FIRST_DAMPING = 0.2, 1e-2  # difference for the slopes, in radians per Fourier pixel
LONGEST_TURN, LONGEST_MOVE = 0.7, 2.0  # of a step: radians per Fourier pixel, and of phase


class Fits(NamedTuple):
    """Rotations (n, 3, 3), shifts (n, 3) in pixels of the box around the density, whether mirrored (n,), correlations (n,)."""

    rotation: Tensor
    shift: Tensor
    mirrored: Tensor
    correlation: Tensor

    def rows(self, which: Tensor | slice) -> Fits:
        """Some of them, by number or a mask (n,)."""
        return Fits(*(values[which] for values in self))


class Source(NamedTuple):
    """A map to be turned: its slices, and gains by shell (s,), which no turn changes. With them in the map it would ring beyond its box,
    where slices are not exact."""

    slices: Projector
    gain: Tensor


class Band(NamedTuple):
    """Coefficients of a map in the order of |k|, of half of Fourier space.

    Attributes:
        box: of the map; frequency: (m, 3) Fourier pixels; shell: (m,) their shells; value: (m,) complex64.
        weight: (m,), 2 for those whose mate -k is not among them.
    """

    box: int
    frequency: Tensor
    shell: Tensor
    value: Tensor
    weight: Tensor

    def limited(self, limit: float) -> Band:
        """Those up to a limit, Fourier pixels."""
        n = int((self.frequency.norm(dim=1) <= limit + 1e-4).sum())
        return Band(self.box, *(values[:n] for values in self[1:]))


def band_of(volume: Tensor, limit: float, gain: Tensor) -> Band:
    """The coefficients of a volume (d, d, d) up to a limit in Fourier pixels, without the mean, times a gain for each shell (s,)."""
    box, device = len(volume), volume.device
    full, half = torch.fft.fftfreq(box, 1 / box, device=device), torch.arange(box // 2 + 1.0)
    z, y, x = torch.meshgrid(full, full, half.to(device), indexing="ij")
    k = torch.stack([x, y, z], -1).flatten(0, 2)
    radius = k.norm(dim=1)
    order = radius.argsort(stable=True)
    order = order[(radius[order] <= limit + 1e-4) & (radius[order] > 0)]
    shell, k = (radius[order] + 0.5).long(), k[order]
    value = fft_volume(volume).flatten()[order] * gain[shell]
    return Band(box, k, shell, value / value.abs().max(), torch.where(k[:, 0] > 0, 2.0, 1.0))


def norm_of(values: Tensor, weight: Tensor) -> Tensor:
    """sqrt( sum weight |values|^2 ) of values (*b, m), weights (m,): (*b,)."""
    return (torch.view_as_real(values).square().sum(-1) * weight).sum(-1).sqrt().clamp_min(1e-20)


def moved(source: Source, band: Band, fits: Fits) -> Tensor:
    """The map's coefficients (n, m), turned and shifted."""
    values = extract_slices(source.slices, fits.rotation, band.frequency) * source.gain[band.shell]
    values = torch.where(fits.mirrored[:, None], values.conj(), values)
    phase = fits.shift @ band.frequency.T * (-2 * math.pi / band.box)
    return values * torch.polar(torch.ones_like(phase), phase)


def weighed(source: Source, band: Band, best: Fits) -> Band:
    """The band, each shell weighed by how well it agrees in a fit: f / (1 - f^2), f its correlation, which is what noise asks for."""
    shell = band.shell
    fitted = moved(source, band, best)[0]
    sums = fitted.abs().new_zeros(3, int(shell[-1]) + 1)
    products = (fitted.conj() * band.value).real, fitted.abs().square(), band.value.abs().square()
    sums = sums.index_add_(1, shell, torch.stack(products) * band.weight)
    curve = (sums[0] / (sums[1] * sums[2]).sqrt().clamp_min(1e-20)).clamp(0.01, 0.99)
    return band._replace(weight=band.weight * (curve / (1 - curve.square()))[shell])


def climb(source: Source, band: Band, fits: Fits) -> Fits:
    """Every fit after damped Gauss-Newton steps towards the highest correlation near it."""
    weight, limit = band.weight.sqrt(), float(band.frequency[-1].norm())
    target = band.value * (weight / norm_of(band.value, band.weight))
    phases = band.frequency.T * (2 * math.pi / band.box)
    tilts = from_rotation_vector(torch.eye(3, device=weight.device) * (TILT / limit))

    def look(at: Fits) -> tuple[Fits, Tensor, Tensor]:
        values = moved(source, band, at) * weight
        norm = values.abs().square().sum(1).sqrt().clamp_min(1e-20)[:, None]
        values = values / norm
        score = (values.conj() * target).real.sum(1)
        return at._replace(correlation=score), values, norm

    def slopes(at: Fits, values: Tensor, norm: Tensor) -> Tensor:
        """(n, 6, 2 m): by a turn in the reference's frame, and by the shift."""
        sides = [
            [moved(source, band, at._replace(rotation=t @ at.rotation)) for t in (tilt, tilt.mT)]
            for tilt in tilts
        ]
        scale = weight * limit / (2 * TILT * norm)
        found = [(ahead - behind) * scale for ahead, behind in sides]
        found += [values * torch.complex(torch.zeros_like(p), -p) for p in phases]
        return torch.view_as_real(torch.stack(found, 1)).flatten(2)

    at, values, norm = look(fits)
    damping = torch.full_like(at.correlation, FIRST_DAMPING)
    for _ in range(NEWTON_STEPS):
        slope = slopes(at, values, norm)
        rest = torch.view_as_real(target - at.correlation[:, None] * values).flatten(1)
        step = _step(slope, rest / at.correlation.clamp_min(0.1)[:, None], damping)
        turn, move = step[:, :3], step[:, 3:]
        phase = move.norm(dim=1) * (2 * math.pi * limit / band.box)
        longest = torch.maximum(turn.norm(dim=1) * limit / LONGEST_TURN, phase / LONGEST_MOVE)
        turn, move = (part / longest.clamp_min(1)[:, None] for part in (turn, move))
        rotation = from_rotation_vector(turn) @ at.rotation
        tried = look(at._replace(rotation=rotation, shift=at.shift + move))
        better = tried[0].correlation > at.correlation
        at, values, norm = _chosen(better, tried, (at, values, norm))
        damping = torch.where(better, damping / 4, damping * 8).clamp(1e-4, 1e3)
    return at


def _step(slope: Tensor, rest: Tensor, damping: Tensor) -> Tensor:
    """(J^T J + damping diag) x = J^T r, (n, 6), J^T (n, 6, 2 m), r (n, 2 m)."""
    normal = slope @ slope.mT
    diagonal = normal.diagonal(dim1=1, dim2=2)
    ridge = torch.diag_embed(damping[:, None] * diagonal + 1e-6 * diagonal.amax(1, keepdim=True))
    return torch.linalg.solve_ex(normal + ridge, (slope @ rest[..., None])[..., 0]).result


def _chosen(
    better: Tensor, new: tuple[Fits, Tensor, Tensor], old: tuple[Fits, Tensor, Tensor]
) -> tuple[Fits, Tensor, Tensor]:
    pairs = [
        torch.where(better.view(-1, *[1] * (a.dim() - 1)), a, b)
        for a, b in zip((*new[0], *new[1:]), (*old[0], *old[1:]), strict=True)
    ]
    return Fits(*pairs[:4]), pairs[4], pairs[5]
