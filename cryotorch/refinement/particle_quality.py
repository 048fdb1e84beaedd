"""How probable it is that an image shows the molecule of the map, from what the last search of a refinement knows of it.

Two numbers tell. The amplitude a = cross / power is how much of the projection is in the image: about 1 where the molecule is,
and what a search makes of noise where it is not. The misfit is the power that is left when the projection is taken away, over that of noise, at
frequencies where projections have theirs: about 1 where nothing else is in the image, more for neighbours, ice and carbon. Particles
lie together in this plane. Where the set falls into groups N_j of weights w_j, as noise, and dirt or neighbours, make them, each is taken
for Gaussian, and

    P(particle) = sum of w_j N_j(a, log misfit) over the molecule's groups / that over all.

All of it comes from the set at hand. There are as many groups as the Bayesian information criterion prefers; one whose
middle lies among the particles of the molecule's is a part of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.findings import Finding, remark
from cryotorch.ops.gaussian_mixture import Gaussians, fit_gaussians

MIN_PARTICLES = 200  # fewer tell no groups
FITTED = 10_000  # particles that Gaussians are fitted to at most
STARTS = 0.05, 0.2, 0.5  # shares of junk that a fit begins with
CUT = 0.5  # probability below which a particle is called junk
# Powers of the amplitude: that is taken which makes groups most Gaussian (Box & Cox 1964).
EXPONENTS = 1.0, 0.5, 0.0
MIN_PRECISION, MIN_RECALL = 0.8, 0.6  # of the junk that is called so, for the cut to be worth it
MIN_DISTANCE = 3.0  # standard deviations of the molecule's group to the middle of another one
SAME_AMPLITUDE = (
    0.8  # of the molecule's group, above which another one is a part of it, however narrow both are
)
MIN_JUNK = (
    10.0  # particles; fewer have no shape, and a pose that was not found makes a few in any set
)
MIN_ERRORS = 5.0  # standard errors by which a particle must match better than noise


@dataclass(frozen=True)
class Quality:
    """What the particles of a set are worth.

    Attributes:
        probability: (n,) that each shows the molecule of the map; None where no junk stands apart.
        junk: expected share of junk, 0 where none stands apart; None where it cannot be told.
        found: what is to be said of it, None for a few particles, of which nothing is.
    """

    probability: Tensor | None
    junk: float | None
    found: Finding | None


def particle_quality(
    cross: Tensor, power: Tensor, misfit: Tensor, part: Tensor, noise_match: float
) -> Quality:
    """Judge n particles; all arguments (n,) but the last.

    Args:
        cross, power: inner products with the projection and of the projection, at scale 1; misfit: as said above, 0 of blank images.
        part: number of half set and optics group, whose particles may differ in contrast from others; noise_match: what a search makes of
            noise, see ``noise_match``.
    """
    cross, power, misfit = (x.double() for x in (cross, power, misfit))
    sound = (power > 0) & (misfit > 0) & torch.isfinite(cross + misfit)
    if sound.sum() < MIN_PARTICLES:
        return Quality(None, None, None)
    match = (cross * (2 / power.clamp_min(1e-30)).sqrt())[sound]
    amplitude = cross / power.clamp_min(1e-30)
    amplitude /= amplitude[sound].median().clamp_min(1e-6)
    for mine in (sound & (part == number) for number in part.unique()):
        if mine.sum() >= MIN_PARTICLES // 2:
            amplitude[mine] /= amplitude[mine].median().clamp_min(1e-6)
    points, groups, exponent = _groups(amplitude[sound], misfit[sound].log())
    of_noise = (noise_match + 1) * float((amplitude[sound] / match).nanmedian())
    good, same = _molecule(groups, exponent, of_noise)
    own = groups.log_joint(points).softmax(1)[:, same].sum(1) > CUT
    if not match[own].median() > noise_match + MIN_ERRORS:
        return Quality(None, None, remark("junk_not_told"))
    if same.all():
        return Quality(None, 0.0, remark("no_junk_apart"))
    # what matches better than most, or leaves less, is no junk, however wide the Gaussian of that is
    most, least = groups.mean[good]
    points = torch.stack([points[:, 0].clamp(max=most), points[:, 1].clamp(min=least)], 1)
    probability = torch.zeros(len(cross))
    probability[sound] = groups.log_joint(points).softmax(1)[:, same].sum(1).float()
    apart = float((1 - probability[sound]).sum())
    if apart < MIN_JUNK:
        few = remark("junk_too_few", images=max(round(apart), 1), particles=int(sound.sum()))
        return Quality(None, None, few)
    return _told(probability)


def noise_match(limit: float, shift_extent: float, box: int, symmetries: int) -> float:
    """About what the best of all poses makes of an image of noise, in standard errors: sqrt(2 ln n) for n independent poses.

    ``limit``, of n = 8 pi² / symmetries limit³ rotations times pi (2 limit ``shift_extent`` / box)² shifts, in Fourier pixels; extent in pixels.
    """
    rotations = max(8 * math.pi**2 * limit**3 / symmetries, math.e)
    shifts = max(math.pi * (2 * limit * shift_extent / box) ** 2, 1.0)
    return math.sqrt(2 * math.log(rotations * shifts))


def _groups(amplitude: Tensor, log_misfit: Tensor) -> tuple[Tensor, Gaussians, float]:
    """Points (n, 2), as few Gaussians as explain them best, and the power of amplitudes (n,) that the points have, 0 for the logarithm.

    Amplitudes of particles that are alike scatter by the noise, and are Gaussian; where contrast differs they are log-normal.
    """
    logs = amplitude.clamp_min(0.05 * amplitude.median().clamp_min(1e-6)).log()
    found = []
    for exponent in EXPONENTS:
        values = (exponent * logs).exp() if exponent else logs
        slope = math.log(exponent or 1) + (exponent - 1) * float(
            logs.mean()
        )  # d value / d amplitude
        points = torch.stack([values, log_misfit], 1)
        some = points[:: -(-len(points) // FITTED)]
        for start in _starts(some):
            fit = fit_gaussians(some, start)
            criterion = fit.criterion - 2 * slope * len(some)  # of densities of the amplitude
            found.append((criterion, len(found), points, fit, exponent))
    return min(found)[2:]


def _starts(points: Tensor) -> list[Tensor]:
    """What fits to points (n, 2) begin with, the shares (n, k) of 1 to 3 groups: alike, those of little amplitude, and of these some of much misfit."""
    starts = [torch.ones(len(points), 1, dtype=points.dtype)]
    for part in STARTS:
        low = points[:, 0] <= points[:, 0].quantile(part)
        loud = points[:, 1] > points[:, 1].quantile(1 - part)
        for parts in ([~low, low], [~low & ~loud, low & ~loud, loud]):
            share = torch.stack(parts, 1).to(points)
            starts.append(0.05 + (1 - 0.05 * len(parts)) * share)
    return starts


def _molecule(groups: Gaussians, exponent: float, of_noise: float) -> tuple[int, Tensor]:
    """Which group the map is of, the one that explains most power; and which (k,) are parts of it.

    Those are whose middle lies among its particles, above the amplitude ``of_noise``, or which have nearly its amplitude or more.
    """
    value = groups.mean[:, 0]
    amplitude = value.clamp_min(0) ** (1 / exponent) if exponent else value.exp()
    good = int((groups.weight * amplitude**2).argmax())
    off = groups.mean - groups.mean[good]
    distance = (off * torch.linalg.solve(groups.covariance[good], off.T).T).sum(1).sqrt()
    near = (distance < MIN_DISTANCE) & (amplitude > of_noise)
    return good, near | (amplitude >= SAME_AMPLITUDE * amplitude[good])


def _told(probability: Tensor) -> Quality:
    """What probabilities (n,) say of the set, and of the cut."""
    junk, called = 1 - probability.double(), probability < CUT
    share, out = float(junk.mean()), float(called.double().mean())
    precision = float(junk[called].mean()) if called.any() else 0.0
    recall = float(junk[called].sum() / junk.sum().clamp_min(1e-12))
    if precision < MIN_PRECISION or recall < MIN_RECALL:
        return Quality(None, None, remark("junk_not_told"))
    found = remark("junk", share=share, cut=CUT, out=out)
    return Quality(probability, share, found)
