"""The part of the images that a process compares and inserts in every pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.fourier.slices import Projector, projector
from cryotorch.refinement.hetero.class_sums import ClassSums, merge_all
from cryotorch.refinement.hetero.fixed_poses import (
    PosedImages,
    compare,
    insert,
    residual_of_best,
    scale_free,
)
from cryotorch.refinement.hetero.settings import HeteroSettings
from cryotorch.refinement.runtime.team import Team

AT_ONCE = 512  # images
LEAST_BOX = 16  # of coarse maps


@dataclass(frozen=True)
class Compared:
    """What a process found: evidence (n, k) of its images; power (groups, m) residual over assumed, count (groups,) of images."""

    evidence: Tensor
    power: Tensor
    count: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Compared]) -> Compared:
        """What all processes found."""
        power = torch.stack([one.power for one in parts]).sum(0)
        count = torch.stack([one.count for one in parts]).sum(0)
        return cls(torch.cat([one.evidence for one in parts]), power, count)


def coarse_box(settings: HeteroSettings) -> int:
    """The box of coarse maps: that of all maps has the same edge."""
    least = max(LEAST_BOX, 2 * math.ceil(1.25 * settings.first_limit + 1))
    return min(settings.grid.box, least)


class ClassPart:
    """What ``team`` can be asked for of this process's images: "insert", "compare" and "judge".

    Maps are ``fine``, up to the last limit, or coarse, of starts.

    Args:
        images: of this process, those of ``team.part`` of all n; groups: of optics, in all.
    """

    def __init__(
        self, images: PosedImages, n: int, groups: int, settings: HeteroSettings, team: Team
    ) -> None:
        self.settings, self.team, self.groups = settings, team, groups
        self.mine = team.part(n, 1)
        box = coarse_box(settings)
        coarse = images.limited(min(settings.first_limit, box / 2 - 0.5), box)
        self.images = {True: images, False: coarse}
        self.sums = {
            fine: ClassSums(one.box, settings.n_classes, limit, settings.group, settings.padding)
            for (fine, one), limit in zip(
                self.images.items(), (settings.limit, settings.first_limit), strict=True
            )
        }
        team.tasks |= {"insert": self.insert, "compare": self.compare, "judge": self.judge}

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.images[True].weight.device

    def insert(self, share: Tensor, noise: Tensor, fine: bool) -> None:
        """Make the sums, those of all processes, of images with shares (n, k)."""
        images, sums = self.images[fine], self.sums[fine]
        share, inserted = share[self.mine].to(self.device), sums.new(self.device)
        rows = torch.nonzero(share.sum(1) > 0)[:, 0]
        for some in rows.split(AT_ONCE):
            insert(images.of(some).with_noise(noise.to(self.device)), share[some], inserted)
        merge_all(inserted, self.team.sum_)
        sums.take(inserted)

    def compare(
        self, volumes: Tensor, influence: Tensor, share: Tensor, noise: Tensor, fine: bool
    ) -> Compared:
        """Compare images with references (2, k, d, d, d) of their half sets, in which they are with shares (n, k)."""
        images, device = self.images[fine], self.device
        projectors = [self._projectors(half.to(device), fine) for half in volumes]
        share, noise, influence = (v.to(device) for v in (share[self.mine], noise, influence))
        evidence, m = [], images.weight.shape[1]
        power = torch.zeros(len(noise), m, dtype=torch.float64, device=device)
        for rows in torch.arange(len(images), device=device).split(AT_ONCE):
            some = images.of(rows).with_noise(noise)
            found = compare(some, projectors, share[rows], influence)
            evidence.append(found)
            residual = residual_of_best(some, projectors, found.argmax(1), share[rows], influence)
            power.index_add_(0, some.group, residual.double())
        count = torch.bincount(images.group, minlength=len(noise))
        return Compared(torch.cat(evidence), power, count)

    def judge(self, volumes: Tensor, noise: Tensor, rows: Tensor, fine: bool, free: bool) -> Tensor:
        """Log-likelihoods (h, k) of this process's images among ``rows`` of all, under maps (k, d, d, d); ``free``: at any scale."""
        images, device = self.images[fine], self.device
        projectors = self._projectors(volumes.to(device), fine)
        rows = rows[(rows >= self.mine.start) & (rows < self.mine.stop)] - self.mine.start
        found = [images.weight.new_empty(0, len(volumes))]
        for some in rows.to(device).split(AT_ONCE):
            seen = images.of(some).with_noise(noise.to(device))
            found.append(scale_free(seen, projectors) if free else compare(seen, [projectors]))
        return torch.cat(found)

    def _projectors(self, volumes: Tensor, fine: bool) -> list[Projector]:
        limit = self.settings.limit if fine else self.settings.first_limit
        return [projector(volume, limit=limit) for volume in volumes]
