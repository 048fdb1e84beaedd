"""Images that show no particle: the evidence that an image shows something of which only the power spectrum is known, or nothing.

What junk looks like nobody knows: ice, edges, aggregates, two particles at once. It is described as an object with the mean power p(k) of the
particles' projections, or a blurred one, of a strength a, and random phases, so that the spectrum of its image is Gaussian about zero:

    y(k) ~ N(0, sigma^2 + a |c|^2 p),      g = a |c|^2 p / sigma^2
    log of the likelihood ratio to an image of nothing = sum over k of  |y|^2 / sigma^2 g / (1 + g) - log(1 + g)

The mean over blurs, and strengths from 0, an image of nothing, to several particles is the evidence of junk. It has no pose, and stands on one scale with
``class_search``: an image is a particle's where a projection explains more of it, by more than the choice of a pose is worth, than any object
of that power would.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cryotorch.ops.fourier.slices import Projector, extract_slices
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.rotations import random_rotations
from cryotorch.ops.pose.scores import Observation

STRENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the particles' mean power
SHARPNESS = (
    math.inf,
    8.0,
    4.0,
)  # shells: the power is multiplied by a Gaussian of this standard deviation
VIEWS = 100  # that the mean power of a map's projections is taken over


def mean_power(slices: Projector, limit: float) -> Tensor:
    """(m,) mean power of the projections of a map at every coefficient up to a limit, Fourier pixels; the same all over a shell."""
    device = slices.table.device
    plane = half_plane(slices.box, device)
    count = plane.count(limit)
    rotation = random_rotations(VIEWS, torch.Generator().manual_seed(0)).float().to(device)
    power = extract_slices(slices, rotation, plane.frequency[:count]).abs().square().mean(0)
    shell = plane.shell[:count]
    total, number = power.new_zeros(2, int(shell[-1]) + 1)
    total.index_add_(0, shell, power)
    number.index_add_(0, shell, torch.ones_like(power))
    return (total / number.clamp_min(1))[shell]


def junk_evidence(images: Observation, power: Tensor) -> Tensor:
    """(b,) logarithm of the mean likelihood ratio of junk to an image of nothing, for b images; power (m,): see ``mean_power``."""
    seen = images.limited(len(power))
    shell = half_plane(images.box, power.device).shell[: len(power)]
    one = (seen.gain.square() * seen.precision * power).double()
    own = (seen.spectrum.abs().square() * seen.precision).double()
    evidence = [torch.zeros_like(own[:, 0])]  # nothing
    for sharpness in SHARPNESS:
        blurred = one * torch.exp(-0.5 * (shell / sharpness).square())
        for strength in STRENGTHS:
            g = strength * blurred
            evidence.append((own * g / (1 + g) - g.log1p()).sum(1))
    return torch.stack(evidence, 1).logsumexp(1) - math.log(len(evidence))
