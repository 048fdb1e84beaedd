"""Defocus and astigmatism of single images from known poses: likelihood, search on a grid, and its last steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.ctf.transfer import wavelength

GRID_PHASE_STEP = 0.5  # rad: phase at the highest frequency between two values of the defocus grid
BIN_PHASE = 0.2  # rad: what frequencies that are taken together differ by at the end of the grid
PROPER = 0.3  # of the expected curvature, the least that a maximum is believed to have
DAMPING_START, DAMPING_LEAST, DAMPING_MOST = 1e-2, 1e-4, 1e6


@dataclass(frozen=True)
class CtfTerms:
    """What the score of b images says about their CTF, one value per coefficient:

        score = sum A sin(chi) - B sin(chi)^2 / 2,     A = w g Re(conj(y) p),  B = w g^2 |p|^2

    with the slice p at the pose, the image y, the precision w = 1 / sigma2, and g, scale and envelope. A log-likelihood is
    twice a score.

    Attributes:
        cross, power: (b, m) A and B; chi: (b, m) rad, the phase of the CTF so far, modulo 2 pi.
    """

    cross: Tensor
    power: Tensor
    chi: Tensor

    def turned(self, phase: Tensor) -> CtfTerms:
        """The same with a phase (b, m) or (m,) added to chi."""
        return CtfTerms(self.cross, self.power, self.chi + phase)

    def from_coefficient(self, first: int) -> CtfTerms:
        """Without the first coefficients."""
        return CtfTerms(self.cross[:, first:], self.power[:, first:], self.chi[:, first:])

    def slope(self) -> tuple[Tensor, Tensor, Tensor]:
        """d score / d chi, minus its mean derivative B cos^2, and minus the derivative itself, each (b, m)."""
        sine, cosine = torch.sin(self.chi), torch.cos(self.chi)
        rest = self.cross - self.power * sine
        expected = self.power * cosine**2
        return rest * cosine, expected, expected + rest * sine


@dataclass(frozen=True)
class DefocusFit:
    """Changes of the defocus, Å, relative to the phase in the terms.

    Attributes:
        change: (b, p), see ``defocus_basis``.
        normal: (b, p, p) minus the second derivative of the score; its inverse / 2 is the covariance.
        at_end: (b,) bool, the best value of the grid was at its end.
    """

    change: Tensor
    normal: Tensor
    at_end: Tensor

    @property
    def sigma(self) -> Tensor:
        """(b, p) standard errors, Å."""
        return (0.5 * torch.linalg.inv(self.normal).diagonal(dim1=1, dim2=2)).sqrt()


def defocus_basis(frequency: Tensor, voltage_kv: Tensor) -> Tensor:
    """d chi / d (mean, half difference x cos 2 angle, half difference x sin 2 angle), rad per Å: (m, 3).

    chi = pi lambda (mean k^2 + c (kx^2 - ky^2) + s 2 kx ky): linear in the three, unlike in the angle. frequency (m, 2) in 1/Å,
    voltage_kv scalar.
    """
    kx, ky = frequency.unbind(-1)
    columns = torch.stack([kx * kx + ky * ky, kx * kx - ky * ky, 2 * kx * ky], -1)
    return (torch.pi * wavelength(voltage_kv.double())).to(columns) * columns


def to_form(defocus: Tensor) -> Tensor:
    """(defocus_u, defocus_v, angle) (b, 3) as (mean, half difference x cos 2 angle, x sin 2 angle)."""
    u, v, angle = defocus.unbind(-1)
    half = (u - v) / 2
    return torch.stack([(u + v) / 2, half * torch.cos(2 * angle), half * torch.sin(2 * angle)], -1)


def from_form(form: Tensor) -> Tensor:
    """The inverse of ``to_form``, (b, 3) from (b, 3), with defocus_u >= defocus_v and the angle from 0 to pi."""
    mean, c, s = form.unbind(-1)
    half = torch.hypot(c, s)
    angle = torch.remainder(torch.atan2(s, c) / 2, torch.pi)
    return torch.stack([mean + half, mean - half, angle], -1)


def stretched(form: Tensor, stretch: Tensor) -> Tensor:
    """The defocus (b, 3), as ``to_form`` gives it, that keeps chi(k) when frequencies are stretched by matrices (b, 2, 2)."""
    mean, c, s = form.unbind(-1)
    quadratic = torch.stack([mean + c, s, s, mean - c], -1).unflatten(-1, (2, 2))
    inverse = torch.linalg.inv(stretch.to(quadratic))
    quadratic = inverse.mT @ quadratic @ inverse
    xx, yy, xy = quadratic[..., 0, 0], quadratic[..., 1, 1], quadratic[..., 0, 1]
    return torch.stack([(xx + yy) / 2, (xx - yy) / 2, xy], -1)


def defocus_grid(basis: Tensor, reach: float) -> Tensor:
    """Changes (r,) of the mean defocus from -reach to reach, Å, as dense as the highest frequency of the basis (m, 3) needs."""
    steps = max(1, math.ceil(reach * float(basis[:, 0].max()) / GRID_PHASE_STEP))
    return torch.linspace(-reach, reach, 2 * steps + 1, device=basis.device)


def defocus_profile(terms: CtfTerms, basis: Tensor, grid: Tensor) -> Tensor:
    """The score (b, r) of every change of the mean defocus on a grid (r,); basis (m, 3).

    All coefficients of about the same k^2 turn alike, so that they are summed first:
    score(d) = Im sum_j a_j e^{i q_j d} + Re sum_j b_j e^{2 i q_j d} / 4 - sum B / 4, a = sum A e^{i chi}, b = sum B e^{2 i chi}.
    """
    q, reach = basis[:, 0], float(grid.abs().max())
    low, high = float(q.min()), float(q.max())
    bins = max(1, math.ceil((high - low) * reach / BIN_PHASE))
    width = max(high - low, 1e-30) / bins
    index = ((q - low) / width).long().clamp(max=bins - 1)
    centre = low + (torch.arange(bins, device=q.device) + 0.5) * width

    def summed(weight: Tensor, phase: Tensor) -> Tensor:
        zero = weight.new_zeros(len(weight), bins)
        parts = [zero.index_add(1, index, weight * f(phase)) for f in (torch.cos, torch.sin)]
        return torch.complex(*parts)

    turn = centre[:, None] * grid
    single, double = (torch.polar(torch.ones_like(turn), n * turn) for n in (1, 2))
    cross = (summed(terms.cross, terms.chi) @ single).imag
    power = (summed(terms.power, 2 * terms.chi) @ double).real
    return cross + (power - terms.power.sum(1, keepdim=True)) / 4


def fit_defocus(
    terms: CtfTerms,
    basis: Tensor,
    reach: float,
    prior: Sequence[float] = (math.inf,),
    steps: int = 8,
) -> DefocusFit:
    """Change of the mean defocus, and of the astigmatism too with three priors, at the maximum of the posterior.

    The best mean on a grid, then damped Newton steps (Levenberg and Marquardt) over one or three numbers, all images at once; a step is kept where
    the posterior rises.

    Args:
        basis: (m, 3) of ``defocus_basis``.
        reach: Å, half width of the grid.
        prior: Å, standard deviations of Gaussian priors: of the mean alone, or of all three changes.
    """
    grid, size = defocus_grid(basis, reach), len(prior)
    # of squares, in units of the score: half a log-likelihood
    weight = 0.5 / torch.tensor(prior, device=basis.device) ** 2
    best = (defocus_profile(terms, basis, grid) - 0.5 * weight[0] * grid**2).argmax(1)
    change = terms.chi.new_zeros(len(best), size)
    change[:, 0] = grid[best]
    basis = basis[:, :size]
    products = (basis[:, :, None] * basis[:, None]).flatten(1)

    def evaluate(change: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        now = terms.turned(change @ basis.T)
        slope, expected, curvature = now.slope()
        sine = torch.sin(now.chi)
        score = (sine * (now.cross - 0.5 * now.power * sine)).double().sum(1)
        score = score - 0.5 * (weight * change.double().square()).sum(1)
        gradient = slope @ basis - weight * change
        expected, curvature = (
            (each @ products).unflatten(1, (size, size)) + torch.diag(weight)
            for each in (expected, curvature)
        )
        return score, gradient, expected, curvature

    score, gradient, expected, curvature = evaluate(change)
    damping = torch.full_like(change[:, 0], DAMPING_START)
    for _ in range(steps):
        matrix = _proper(curvature, expected)
        matrix = matrix + torch.diag_embed(
            damping[:, None] * expected.diagonal(dim1=1, dim2=2) + 1e-30
        )
        trial = change + torch.linalg.solve(matrix, gradient)
        new = evaluate(trial)
        better = new[0] > score
        change = torch.where(better[:, None], trial, change)
        score = torch.where(better, new[0], score)
        gradient = torch.where(better[:, None], new[1], gradient)
        expected = torch.where(better[:, None, None], new[2], expected)
        curvature = torch.where(better[:, None, None], new[3], curvature)
        damping = torch.where(better, damping / 5, damping * 5).clamp(DAMPING_LEAST, DAMPING_MOST)
    at_end = (best == 0) | (best == len(grid) - 1)
    return DefocusFit(change, _proper(curvature, expected), at_end)


def _proper(curvature: Tensor, expected: Tensor) -> Tensor:
    """The curvature (b, p, p), or the expected one where noise has left hardly any."""
    # eigenvalues relative to the expected matrix, whose scales differ from row to row
    scale = expected.diagonal(dim1=1, dim2=2).clamp_min(1e-30).rsqrt()
    relative = scale[:, :, None] * (curvature - PROPER * expected) * scale[:, None]
    good = torch.linalg.eigvalsh(relative)[:, 0] > 0
    return torch.where(good[:, None, None], curvature, expected)


def prior_widths(reach: float) -> Tensor:
    """Standard deviations (t,) of the defocus errors to choose from, Å: from 5 Å to the reach of the search."""
    return torch.logspace(math.log10(5.0), math.log10(reach), 25)


def prior_evidence(profile: Tensor, grid: Tensor, widths: Tensor) -> Tensor:
    """log of the probability of b images under each width (t,) of a Gaussian distribution of defocus errors, summed over them.

    profile (b, r): scores on the grid (r,), see ``defocus_profile``. The width with the most evidence is the prior to use
    (empirical Bayes).
    """
    log_prior = -0.5 * (grid / widths[:, None]) ** 2
    log_prior = log_prior - torch.logsumexp(log_prior, 1, keepdim=True)
    return torch.logsumexp(2 * profile[:, None].double() + log_prior, 2).sum(0)
