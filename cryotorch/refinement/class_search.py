"""Images searched against the maps of several classes: the pose of each against each map, and how well each map explains it.

The evidence of a class is the logarithm of the mean likelihood ratio to an image of nothing, over all poses that are possible before:
rotations, and shifts in a disc of area A. The likelihood is a Gaussian about its best pose (Laplace), and a map with a point group of
order g has g such poses:

    log (1 / (8 pi^2 A) integral of exp(2 S)) = 2 S + log(g (2 pi)^(5/2) sqrt(det C) / (8 pi^2 A))

S the score of the best pose and C its covariance. So the evidence of any other account of an image, as that of ``junk``, stands on the same scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from cryotorch.ops.fourier.image_model import backproject_terms, predict
from cryotorch.ops.fourier.slices import Accumulator, insert_spread_
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.pose.precision import coarse_dtype
from cryotorch.ops.pose.scores import Observation, residual_power
from cryotorch.refinement.em.pose_spread import spread_poses
from cryotorch.refinement.pose_search.search import (
    Poses,
    Reference,
    coarse_candidates,
    polish,
    prepare_reference,
)
from cryotorch.refinement.settings import SearchSettings

SEARCH = SearchSettings(candidates=12, coarse_limit=8, grid_step=math.radians(10))
NEAR_SHIFT = 2.0  # pixels about the last shift, once there is one
AT_ONCE = 200  # images
MIN_INSERTED = 0.01  # posterior share of a class below which an image is left out of it


@dataclass(frozen=True)
class Found:
    """The most probable class and pose of n images.

    Attributes:
        rotation: (n, 3, 3); shift_px: (n, 2); sigma: (n, 2), standard errors of rotation (radians) and shift (pixels).
        share: (n, k) posterior of the classes.
        correlation: (n,) of the image with its projection, each coefficient weighted by its precision.
    """

    rotation: Tensor
    shift_px: Tensor
    sigma: Tensor
    share: Tensor
    correlation: Tensor

    @property
    def best(self) -> Tensor:
        """(n,) the most probable class."""
        return self.share.argmax(1)

    @classmethod
    def joined(cls, parts: Sequence[Found]) -> Found:
        """What was found of parts of the images, one after the other."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})

    def of(self, rows: Tensor) -> Found:
        """That of some images, ``rows`` (r,)."""
        return Found(**{name: values[rows] for name, values in vars(self).items()})

    def cpu(self) -> Found:
        """The same in host memory."""
        return Found(**{name: values.cpu() for name, values in vars(self).items()})

    @classmethod
    def of_best(cls, poses: list[Poses], share: Tensor, images: Observation, limit: float) -> Found:
        """That of b images with share (b, j), whose first k classes were searched up to a limit in Fourier pixels."""
        best = share[:, : len(poses)].argmax(1)
        at = torch.arange(len(best), device=best.device)
        rotation, shift, variance, cross, power = (
            torch.stack(values)[best, at]
            for values in (
                [p.rotation for p in poses],
                [p.shift_px for p in poses],
                [p.covariance.diagonal(dim1=1, dim2=2) for p in poses],
                [p.terms.cross for p in poses],
                [p.terms.power for p in poses],
            )
        )
        sigma = torch.stack([variance[:, :3].mean(1).sqrt(), variance[:, 3:].mean(1).sqrt()], 1)
        count = half_plane(images.box).count(limit)
        own = (images.precision[:, :count] * images.spectrum[:, :count].abs().square()).sum(1)
        correlation = cross / (power * own).sqrt().clamp_min(1e-30)
        return cls(rotation, shift, sigma, share, correlation)


@dataclass(frozen=True)
class Before:
    """The last poses of images against each class: rotation (n, k, 3, 3), shift_px (n, k, 2)."""

    rotation: Tensor
    shift_px: Tensor

    def of(self, rows: Tensor | slice) -> Before:
        """Those of some images, ``rows`` (r,)."""
        return Before(self.rotation[rows], self.shift_px[rows])

    @classmethod
    def joined(cls, parts: Sequence[Before]) -> Before:
        """Those of parts of the images, one after the other."""
        both = ([p.rotation for p in parts], [p.shift_px for p in parts])
        return cls(*map(torch.cat, both))

    @classmethod
    def of_poses(cls, poses: list[Poses]) -> Before:
        """Those that were found against each class."""
        rotations, shifts = [p.rotation for p in poses], [p.shift_px for p in poses]
        return cls(torch.stack(rotations, 1), torch.stack(shifts, 1))


class ClassSearch:
    """Maps (k, d, d, d) with a point group (g, 3, 3), ready to be searched up to a limit in Fourier pixels; shift_extent: pixels."""

    def __init__(self, maps: Tensor, limit: float, group: Tensor, shift_extent: float) -> None:
        self.limit, self.shift_extent = limit, shift_extent
        dtype = coarse_dtype(maps.device)
        self.references: list[Reference] = [
            prepare_reference(volume, limit, SEARCH, group.to(maps.device), dtype)
            for volume in maps
        ]
        peak = math.log(len(group)) + 2.5 * math.log(2 * math.pi)
        self.log_room = peak - math.log(8 * math.pi**2 * math.pi * max(shift_extent, 1.0) ** 2)

    def __call__(
        self, images: Observation, before: Before | None = None, near: Tensor | None = None
    ) -> tuple[list[Poses], Tensor]:
        """The best pose of b images against each class, and the evidence (b, k) of the classes.

        ``near`` (b,) bool: images whose last pose is only climbed from, the others are searched everywhere.
        """
        inside = images.limited(half_plane(images.box).count(self.limit))
        poses, evidence = [], []
        for number, reference in enumerate(self.references):
            last = None
            if before is not None:
                last = before.rotation[:, number], before.shift_px[:, number]
            found = self._search(reference, inside, last, near)
            poses.append(found)
            spread = 0.5 * torch.logdet(found.covariance.double())
            evidence.append(2 * found.terms.score + spread + self.log_room)
        return poses, torch.stack(evidence, 1)

    def _search(
        self,
        reference: Reference,
        images: Observation,
        last: tuple[Tensor, Tensor] | None,
        near: Tensor | None,
    ) -> Poses:
        """The best pose of b images; ``last``: rotation (b, 3, 3) and shift (b, 2) of each."""
        if last is None:
            centre = images.gain.new_zeros(len(images.spectrum), 2)
            start = coarse_candidates(*(reference, images, None, centre, self.shift_extent, SEARCH))
            return polish(reference, images, *start, SEARCH)
        if near is None or not bool(near.any()):
            start = coarse_candidates(*(reference, images, *last, NEAR_SHIFT, SEARCH))
            return polish(reference, images, *start, SEARCH)
        here, there = torch.nonzero(near)[:, 0], torch.nonzero(~near)[:, 0]
        rotation, shift = (values[here] for values in last)
        image = torch.arange(len(here), device=here.device)
        climbed = polish(reference, images.of(here), image, rotation, shift, SEARCH)
        if not len(there):
            return climbed
        others = self._search(reference, images.of(there), (last[0][there], last[1][there]), None)
        return climbed.joined(others, torch.cat([here, there]))

    def insert(
        self,
        images: Observation,
        poses: list[Poses],
        share: Tensor,
        half: Tensor,
        sums: list[list[Accumulator]],
        limit: float | None = None,
    ) -> None:
        """Add images, with share (b, k) and half (b,), to the sums of each class and half, up to a limit, by default that of the search."""
        count = half_plane(images.box).count(limit or self.limit)
        for number, found in enumerate(poses):
            spread = spread_poses(found, "laplace")
            n = spread.rotation.shape[1]
            weighed = images.precision[:, :count] * share[:, number, None] / n
            gain = images.gain[:, :count]
            one = torch.ones_like(share[:, 0])
            terms = backproject_terms(
                images.spectrum[:, :count], found.shift_px, gain, weighed, one, images.box
            )
            for which in (0, 1):
                rows = torch.nonzero((half == which) & (share[:, number] > MIN_INSERTED))[:, 0]
                if len(rows):
                    stretch = images.magnification
                    at = spread.rotation[rows], spread.offset_px[rows]
                    stretch = None if stretch is None else stretch[rows]
                    values = terms[0][rows], terms[1][rows]
                    insert_spread_(sums[number][which], *values, *at, stretch)

    def residual(self, images: Observation, poses: list[Poses], best: Tensor) -> Tensor:
        """Residual power (b, m) of images at their poses of the classes best (b,), m up to the limit."""
        count = half_plane(images.box).count(self.limit)
        out = torch.empty(len(best), count, device=best.device)
        for number, found in enumerate(poses):
            rows = torch.nonzero(best == number)[:, 0]
            if len(rows):
                slices = self.references[number].slices
                at = found.rotation[rows], found.shift_px[rows]
                some = images.of(rows)
                gain = some.gain[:, :count]
                prediction = predict(slices, *at, gain, magnification=some.magnification)
                out[rows] = residual_power(images.spectrum[rows, :count], prediction)
        return out
