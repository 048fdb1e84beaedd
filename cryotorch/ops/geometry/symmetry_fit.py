"""Whether sums that know of no symmetry show one: half maps against their turned copies, where the images looked at both."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d, max_pool3d, pad

from cryotorch.ops.fourier.coarse import coarse_sums
from cryotorch.ops.fourier.reconstruct import Sums, shell_mean_weight, solve_lightly
from cryotorch.ops.fourier.slices import projector, sample
from cryotorch.ops.fourier.transforms import fft_volume, shell_sum, volume_shells
from cryotorch.ops.geometry.rotations import random_rotations
from cryotorch.ops.host import to_device
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.resolution.fsc import THRESHOLD

MAX_COEFFICIENTS = 8000  # coefficients that are compared
MIN_WEIGHT = 0.2  # of the shell's mean weight, from which on a coefficient counts as measured
RANDOM_TURNS = 24  # turns that tell how well a wrong operator correlates by chance
MIN_SHELLS, MAX_SHELL = 4, 48  # shells
MIN_COEFFICIENTS = 100.0  # coefficients: with fewer an operator is not judged
MIN_LACK = 0.5  # of the score, that an operator lacks to be called wrong
MIN_ERRORS = 3.0  # and in standard errors


@dataclass(frozen=True)
class Fit:
    """How well operators fit.

    Attributes:
        score: (g,) of each: 1 where turned copies agree as well as the half maps as they are, about 0 where the operator is
            wrong; NaN where the images tell nothing of it.
        noise: (g,) standard error of a right operator's score, from the noise.
        chance: (g,) standard error of a wrong operator's score, from what structures have in common by chance.
    """

    score: Tensor
    noise: Tensor
    chance: Tensor

    @property
    def wrong(self) -> Tensor:
        """(g,) bool, operators that the images contradict."""
        short = 1 - self.score
        return (
            (short > MIN_LACK)
            & (short > MIN_ERRORS * self.noise)
            & (short > MIN_ERRORS * self.chance)
        )

    @property
    def right(self) -> Tensor:
        """(g,) bool, operators that the images show."""
        return (self.score > 1 - MIN_LACK) & (self.score > MIN_ERRORS * self.chance)


def box_for(limit: float) -> int:
    """The box of coarse sums that hold what is looked at for a limit in shells."""
    return 2 * (math.ceil(min(limit, MAX_SHELL)) + 2)


class SymmetryFit:
    """Two half maps without symmetry, ready to be compared with turned copies.

    With half maps a, b and an operator R, over coefficients k that were measured at k and at R k,

        score = sum h Re a(k) b(R k)* / sum h Re (a(k) b(k)* + a(R k) b(R k)*) / 2

    is 1 if R is a symmetry, whatever the views were, as noise of a and b is independent. h whitens the shells, and weighs by how
    well both coefficients were measured. The mean of each shell, which every turn leaves alone, is taken out.

    Args:
        sums: of both half sets, not symmetrised.
        limit: the last shell to look at.
        radius: of the sphere that holds the particle, as a part of the box.
    """

    def __init__(self, sums: list[Sums], limit: float, radius: float) -> None:
        limit = min(limit, MAX_SHELL)
        box = min(sums[0].box, box_for(limit))
        cut = [coarse_sums(half, box) for half in sums]
        device = cut[0].weight.device
        sphere = soft_sphere(box, radius * box, max(2.0, 0.04 * box), device)
        maps = [solve_lightly(half) * sphere for half in cut]
        transforms = [fft_volume(volume) for volume in maps]
        power = [shell_sum(f.abs().square(), box) for f in transforms]
        cross = shell_sum((transforms[0] * transforms[1].conj()).real, box)
        curve = cross / (power[0] * power[1]).sqrt().clamp_min(1e-30)
        curve[int(min(limit, box / 2 - 1)) + 1 :] = 0
        fallen = torch.nonzero(curve[1:] < THRESHOLD)
        self.high = int(fallen[0]) if len(fallen) else len(curve) - 1
        self.low = max(2, self.high // 3)
        self.resolves = self.high >= self.low + MIN_SHELLS
        if not self.resolves:
            return
        self.tables = [projector(volume, correct=False) for volume in maps]
        self.measured, self.padding = _measured(cut), cut[0].padding
        self.point, shell = _points(box, self.low, self.high, device)
        self.h = (1 / (power[0] * power[1]).sqrt().clamp_min(1e-30))[shell]
        self.shell = shell
        self.here = self._look(torch.eye(3, dtype=torch.float64))
        self.mean = [self._shell_mean(values) for values in self.here[:2]]
        turns = random_rotations(RANDOM_TURNS, torch.Generator().manual_seed(0))
        self.independent = float(sphere.square().mean()) ** 2 / float(sphere.pow(4).mean())
        chance = self._scores(turns)
        spread = [score * math.sqrt(n) for score, n, _ in chance if n >= MIN_COEFFICIENTS]
        self.kappa = float(torch.tensor(spread).square().mean().sqrt()) if spread else math.inf

    def __call__(self, rotations: Tensor) -> Fit:
        """The fit of operators (g, 3, 3)."""
        found = self._scores(rotations)
        score = [s if n >= MIN_COEFFICIENTS else math.nan for s, n, _ in found]
        chance = [self.kappa / math.sqrt(max(n, 1.0)) for _, n, _ in found]
        return Fit(*(torch.tensor(v) for v in (score, [e for *_, e in found], chance)))

    def _look(self, rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        point = to_device(rotation, self.point.device, self.point.dtype) @ self.point
        a, b = (sample(table, point[None])[0] for table in self.tables)
        x, y, z = (point * self.padding).round().long() % len(self.measured)
        return a, b, self.measured[z, y, x]

    def _shell_mean(self, values: Tensor) -> Tensor:
        weight = self.here[2].to(values.real)
        total = torch.zeros(self.high + 1, dtype=weight.dtype, device=weight.device)
        count = total.index_add(0, self.shell, weight)
        return total.index_add(0, self.shell, weight * values.real) / count.clamp_min(1e-30)

    def _scores(self, rotations: Tensor) -> list[tuple[float, float, float]]:
        """Of each operator (g, 3, 3) the score, the number of coefficients behind it, and the score's error from noise."""
        if not len(rotations):
            return []
        rows = torch.stack(
            [self._score(r) for r in rotations]
        ).tolist()  # a device is waited for once
        return [tuple(row) if expected > 0 else (0.0, 0.0, math.inf) for expected, *row in rows]

    def _score(self, rotation: Tensor) -> Tensor:
        """Of an operator what is expected (none = no score), and what ``_scores`` gives: (4,).

        What half maps share is real in a b*, as they show the same, so the imaginary part has the noise alone.
        """
        (a, b, c), (ra, rb, rc) = self.here, self._look(rotation)
        weight = (c & rc).to(self.h)
        mean_a, mean_b = (mean[self.shell] for mean in self.mean)
        a, b, ra, rb = a - mean_a, b - mean_b, ra - mean_a, rb - mean_b
        h = weight * self.h
        shared = (h * ((a * rb.conj()).real + (b * ra.conj()).real)).sum()
        own, turned = a * b.conj(), ra * rb.conj()
        expected = (h * (own.real + turned.real)).sum()
        noise = (h.square() * (own.imag.square() + turned.imag.square()) / self.independent).sum()
        score, error = shared / expected, noise.sqrt() / expected
        return torch.stack([expected, score, weight.sum(), error])


def _measured(sums: list[Sums]) -> Tensor:
    """Where both half sets have measured a coefficient and all around it: bool (P, P, P) in the order of fftn.

    Next to what was not measured a value holds only a part of its neighbours, and correlates with no copy.
    """
    padded, padding = sums[0].padding * sums[0].box, sums[0].padding
    shell = sums[0].shells().long()
    known = torch.ones(1, 1, 1, 1, 1, device=sums[0].weight.device)
    for half in sums:
        mean = shell_mean_weight(half).to(half.weight)
        share = half.weight / mean[shell.clamp(max=len(mean) - 1)].clamp_min(1e-30)
        share = torch.where(shell < half.box // 2, share, 0)
        mirrored = share[..., 1 : padded - padded // 2].flip(0, 1, 2).roll((1, 1), (0, 1))
        share = torch.cat([share, mirrored], -1)[None, None]
        if padding > 1:  # a mean over the unpadded grid's distance
            share = avg_pool3d(_wrapped(share, padding - 1), 2 * padding - 1, stride=1)
        known = known * (share > MIN_WEIGHT)
    return max_pool3d(_wrapped(1 - known, padding), 2 * padding + 1, stride=1)[0, 0] < 0.5


def _wrapped(values: Tensor, reach: int) -> Tensor:
    return pad(values, [reach] * 6, mode="circular")


def _points(box: int, low: int, high: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Coefficients (3, m) of some shells, each pair k, -k once, and their shells (m,); the same in every call."""
    shell = volume_shells(box)
    z, y, x = torch.nonzero((shell >= low) & (shell <= high), as_tuple=True)
    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:MAX_COEFFICIENTS]
    number = shell[z, y, x].long()
    z, y = (torch.where(v > box // 2, v - box, v) for v in (z, y))
    point = torch.stack([x, y, z]).float()
    return point[:, chosen].to(device), number[chosen].to(device)
