"""Whether a start found structure: what images that it has not seen make of its maps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.pose.bank import assign
from cryotorch.ops.pose.scores import Observation
from cryotorch.ops.resolution.fsc import phase_randomise
from cryotorch.refinement.ab_initio.settings import AbInitioSettings
from cryotorch.refinement.ab_initio.soft_stage import Course, make_bank, shifts_at

MIN_LEAD = (
    5.0  # standard errors by which unseen images must prefer the maps to maps without structure
)


LEAST = 1e-30  # posterior of a class


@dataclass(frozen=True)
class Judgement:
    """What h unseen images say of maps.

    Attributes:
        of_class: (h, k) logarithm of the mean likelihood ratio of each class to an empty image, at the soft limit.
        null_of_class: (h, k) the same for maps of the same power in each shell, whose shape but for its radial mean is random.
        prior: (k,) logarithm of the share of the classes.
    """

    of_class: Tensor
    null_of_class: Tensor
    prior: Tensor

    @property
    def evidence(self) -> Tensor:
        """(h,) that of all classes together."""
        return (self.of_class + self.prior).logsumexp(1)

    @property
    def null(self) -> Tensor:
        """(h,) that of all classes without structure."""
        return (self.null_of_class + self.prior).logsumexp(1)

    @property
    def share(self) -> Tensor:
        """(k,) mean posterior of the classes."""
        return (self.of_class + self.prior).softmax(1).mean(0)

    @property
    def score(self) -> float:
        """Mean evidence, by which starts are compared."""
        return float(self.evidence.mean())

    @property
    def lead(self) -> float:
        """Standard errors by which the images prefer the maps to those without structure."""
        difference = self.evidence - self.null
        return float(
            difference.mean() / difference.std().clamp_min(1e-12) * math.sqrt(len(difference))
        )

    @property
    def class_leads(self) -> Tensor:
        """(k,) the same of each class, among the images that are its own.

        Which these are is told by map and shapeless map alike, so that choosing them favours neither.
        """
        both = torch.logaddexp(self.of_class, self.null_of_class) + self.prior
        weight, difference = both.softmax(1), self.of_class - self.null_of_class
        total = weight.sum(0).clamp_min(1e-12)
        mean = (weight * difference).sum(0) / total
        error = (weight * (difference - mean)).square().sum(0).sqrt() / total
        return mean / error.clamp_min(1e-12)

    @property
    def worth(self) -> Tensor:
        """(k,) weight of each class where starts are compared: its share, none without structure unless all are."""
        shown = self.class_leads > MIN_LEAD
        return self.share * shown if bool(shown.any()) else self.share

    @property
    def shows_structure(self) -> bool:
        """Whether that is beyond chance."""
        return self.lead > MIN_LEAD


def judge(
    images: Observation,
    maps: Tensor,
    share: Tensor,
    settings: AbInitioSettings,
    inverse_temperature: float,
    sphere: Tensor,
    course: Course | None = None,
) -> Judgement:
    """Compare unseen images with maps (k, d, d, d) inside a sphere (d, d, d), and with maps without structure.

    share (k,) of the classes; ``course``: that the maps went through, by default a start's.
    """
    course = course or Course.of_start(settings)
    limit, device = course.limits[1], maps.device
    m = half_plane(settings.grid.box).count(limit)
    rotation = course.rotations(limit, settings).to(device)
    shifts = shifts_at(settings, limit, device).expand(len(images.spectrum), -1, -1)
    generator = settings.generator(-2)
    empty = torch.stack([without_structure(volume, generator) * sphere for volume in maps])

    def of_class(volumes: Tensor) -> Tensor:
        bank = make_bank(volumes, rotation, limit, share, settings)
        found = assign(images.limited(m), shifts, bank, inverse_temperature)
        return found.evidence[:, None] + found.share.clamp_min(LEAST).log() - bank.log_share

    return Judgement(of_class(maps), of_class(empty), share.log())


def without_structure(volume: Tensor, generator: torch.Generator) -> Tensor:
    """A volume (d, d, d) with its radial mean, and random phases for all that differs from it."""
    ball = radial_mean(volume)
    return ball + phase_randomise(volume - ball, 1, generator)


def radial_mean(volume: Tensor) -> Tensor:
    """The mean of a volume (d, d, d) over directions, about pixel d // 2, linear between whole radii."""
    box = volume.shape[-1]
    x = (torch.arange(box, device=volume.device) - box // 2).float().square()
    radius = (x[:, None, None] + x[:, None] + x).sqrt().flatten()
    lower = radius.long()
    part = radius - lower
    bins = int(lower.max()) + 2
    total, count = torch.zeros(2, bins, device=volume.device)
    for index, weight in ((lower, 1 - part), (lower + 1, part)):
        total.index_add_(0, index, volume.flatten() * weight)
        count.index_add_(0, index, weight)
    profile = total / count.clamp_min(1e-6)
    return torch.lerp(profile[lower], profile[lower + 1], part).view(volume.shape)
