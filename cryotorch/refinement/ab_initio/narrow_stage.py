"""The second stage: few poses per image, found by the refinements' search against each class's map, up to the last resolution.

Every image is searched against all classes; the evidence of a class is that of its best pose with the Gaussian posterior about it
(Laplace), and an image is inserted into each class with its posterior share, over that Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from cryotorch.ops.fourier.image_model import backproject_terms, predict
from cryotorch.ops.fourier.slices import Accumulator, insert_spread_, merge_
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.pose.precision import coarse_dtype
from cryotorch.ops.pose.scores import Observation, residual_power
from cryotorch.refinement.ab_initio.class_maps import RunningSums
from cryotorch.refinement.ab_initio.settings import AbInitioSettings
from cryotorch.refinement.em.pose_spread import spread_poses
from cryotorch.refinement.pose_search.search import (
    Poses,
    Reference,
    coarse_candidates,
    polish,
    prepare_reference,
)
from cryotorch.refinement.runtime.team import Team, on
from cryotorch.refinement.settings import SearchSettings

SEARCH = SearchSettings(candidates=12, coarse_limit=8, grid_step=math.radians(10))
NEAR_SHIFT = 2.0  # pixels about the last shift, once there is one
AT_ONCE = 200  # images
MIN_INSERTED = 0.01  # posterior share of a class below which an image is left out of it
LEAST_SHARE = 1e-3  # of the images, that a class counts as having
LEAST_NOISE = 1e-3  # of the noise before: what residuals may bring it down to in a pass


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


class NarrowSearch:
    """The maps of a pass, ready to be searched; share (k,) of the classes."""

    def __init__(
        self, maps: Tensor, share: Tensor, limit: float, settings: AbInitioSettings, group: Tensor
    ) -> None:
        self.settings, self.limit, self.log_share = settings, limit, share.log()
        dtype = coarse_dtype(maps.device)
        self.references: list[Reference] = [
            prepare_reference(volume, limit, SEARCH, group.to(maps.device), dtype)
            for volume in maps
        ]

    def __call__(
        self, images: Observation, before: Before | None = None
    ) -> tuple[list[Poses], Tensor]:
        """The best pose of b images against each class, and the posterior (b, k) of the classes."""
        inside = images.limited(half_plane(images.box).count(self.limit))
        poses, evidence = [], []
        for number, reference in enumerate(self.references):
            if before is None:
                rotation, extent = None, self.settings.shift_extent
                centre = images.gain.new_zeros(len(images.spectrum), 2)
            else:
                rotation, centre = before.rotation[:, number], before.shift_px[:, number]
                extent = NEAR_SHIFT
            candidates = coarse_candidates(reference, inside, rotation, centre, extent, SEARCH)
            found = polish(reference, inside, *candidates, SEARCH)
            poses.append(found)
            evidence.append(2 * found.terms.score + 0.5 * torch.logdet(found.covariance.double()))
        return poses, (torch.stack(evidence, 1) + self.log_share).softmax(1).float()

    def insert(
        self,
        images: Observation,
        poses: list[Poses],
        share: Tensor,
        half: Tensor,
        sums: list[list[Accumulator]],
    ) -> None:
        """Add images, with share (b, k) and half (b,), to the sums of each class and half."""
        count = half_plane(images.box).count(self.limit)
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
        """Residual power (b, m) of images at their most probable poses, m up to the limit."""
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


def search_all(
    search: NarrowSearch,
    images: Observation,
    before: Before | None = None,
    sums: list[list[Accumulator]] | None = None,
    told: Callable[[int], None] = lambda images: None,
) -> tuple[Found, Before, Tensor]:
    """Search n images, and insert them where there are sums, every other one into each half.

    Returns what was found, the poses against each class, and the residual power (n, m), m up to the limit.
    """
    found, every, residuals = [], [], []
    n, device = len(images.spectrum), images.spectrum.device
    for rows in torch.arange(n, device=device).split(AT_ONCE):
        some = images.of(rows)
        poses, share = search(some, before and before.of(rows))
        every.append(
            Before(
                torch.stack([p.rotation for p in poses], 1),
                torch.stack([p.shift_px for p in poses], 1),
            )
        )
        best = share.argmax(1)
        if sums is not None:
            search.insert(some, poses, share, rows % 2, sums)
        residuals.append(search.residual(some, poses, best))
        found.append(_of_best(poses, share, best, some, search.limit))
        told(len(rows))
    return Found.joined(found), Before.joined(every), torch.cat(residuals)


def _of_best(
    poses: list[Poses], share: Tensor, best: Tensor, images: Observation, limit: float
) -> Found:
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
    return Found(rotation, shift, sigma, share, correlation)


@dataclass(frozen=True)
class Narrow:
    """Where the narrow stage is.

    Attributes:
        maps: (k, d, d, d); share: (k,); before: the last poses against each class.
        noise: (groups, d // 2 + 1) how many times the noise is what it was assumed to be.
        passes: that were made.
    """

    maps: Tensor
    share: Tensor
    noise: Tensor
    before: Before | None = None
    passes: int = 0

    @classmethod
    def begun(cls, maps: Tensor, share: Tensor, groups: int) -> Narrow:
        """Before the first pass, from maps (k, d, d, d) with share (k,), for images of so many optics groups."""
        share = share.clamp_min(LEAST_SHARE)
        return cls(maps, share / share.sum(), maps.new_ones(groups, maps.shape[-1] // 2 + 1))


@dataclass(frozen=True)
class Searched:
    """What a process found of its part of the images; power: (groups, m) residual over assumed, count: (groups,) of images."""

    found: Found
    before: Before
    power: Tensor
    count: Tensor


class NarrowPart:
    """The part of the images that a process searches in every pass: what ``team`` can be asked for as "search".

    Args:
        optics_group: (n,), each with a noise level of its own.
        told: hears which part of all passes and the last search is done.
    """

    def __init__(
        self,
        images: Observation,
        optics_group: Tensor,
        settings: AbInitioSettings,
        team: Team,
        told: Callable[[float], None] = lambda done: None,
    ) -> None:
        self.settings, self.team, self.told = settings, team, told
        self.running = RunningSums(settings, images.spectrum.device)
        self.groups = int(optics_group.max()) + 1
        self.rows = team.part(len(optics_group), 2)  # every other one is of one half
        self.images, self.optics_group = images.of(self.rows), optics_group[self.rows]
        self.sums: list[list[Accumulator]] = []
        team.tasks["search"] = self.search

    def search(self, state: Narrow, insert: bool) -> Searched:
        """Search them, and add them to ``sums``, which hold those of all processes then."""
        settings, device = self.settings, self.images.spectrum.device
        state = on(state, device)
        images = with_noise(self.images, state.noise, self.optics_group)
        limit = limit_of(settings, min(state.passes, settings.passes - 1))
        search = NarrowSearch(state.maps, state.share, limit, settings, settings.group)
        self.sums = [[self.running.new(), self.running.new()] for _ in state.maps if insert]
        before, done = state.before and state.before.of(self.rows), 0

        def told(count: int) -> None:
            nonlocal done
            done += count
            self.told((state.passes + done / len(self.optics_group)) / (settings.passes + 1))

        found, before, residual = search_all(search, images, before, self.sums or None, told)
        for halves in self.sums:
            for half in halves:
                self.team.sum_(merge_(half))
        power = noise_power(images, residual, self.optics_group, self.groups)
        count = torch.bincount(self.optics_group, minlength=self.groups)
        return Searched(found, before, power, count)


def next_pass(part: NarrowPart, state: Narrow) -> Narrow:
    """One pass of all processes over all images, on rank 0."""
    settings = part.settings
    every = on(part.team.ask("search", state, True), part.images.spectrum.device)
    limit = limit_of(settings, state.passes)
    for k, halves in enumerate(part.sums):
        for half, inserted in enumerate(halves):
            part.running.add(k, half, inserted, limit, 0.0)
    share = torch.cat([one.found.share for one in every]).mean(0).clamp_min(LEAST_SHARE)
    power = torch.stack([one.power for one in every]).sum(0)
    count = torch.stack([one.count for one in every]).sum(0)
    return Narrow(
        part.running.maps(settings.group).volumes,
        share / share.sum(),
        state.noise * noise_factors(power, count, settings.grid.box),
        Before.joined([one.before for one in every]),
        state.passes + 1,
    )


def limit_of(settings: AbInitioSettings, number: int) -> float:
    """Fourier pixels, in a pass."""
    first, last = settings.soft_limit, settings.last_limit
    return first * (last / first) ** (number / max(1, settings.passes - 1))


def noise_power(images: Observation, residual: Tensor, optics_group: Tensor, groups: int) -> Tensor:
    """Sums (groups, m) over images of residual (n, m) over assumed power, of the most probable poses; optics_group (n,)."""
    relative = (residual * images.precision[:, : residual.shape[1]]).double()
    total = relative.new_zeros(groups, residual.shape[1])
    return total.index_add_(0, optics_group, relative)


def noise_factors(power: Tensor, count: Tensor, box: int) -> Tensor:
    """How much larger the noise of each optics group and shell is than assumed, (groups, d // 2 + 1): 1 where nothing is known.

    power (groups, m): ``noise_power`` of all images, count (groups,) of them.
    """
    shell = half_plane(box, power.device).shell[: power.shape[1]]
    sums = power.new_zeros(len(power), box // 2 + 1).index_add_(1, shell, power)
    of_shell = torch.bincount(shell, minlength=sums.shape[1])
    number = (count[:, None] * of_shell).clamp_min(1)
    factor = (sums / number).clamp_min(LEAST_NOISE)
    return torch.where((count[:, None] > 0) & (of_shell > 0), factor, 1.0).float()


def with_noise(images: Observation, factor: Tensor, optics_group: Tensor) -> Observation:
    """The images with their noise multiplied by a factor (groups, d // 2 + 1)."""
    m = images.precision.shape[1]
    shell = half_plane(images.box, factor.device).shell[:m]
    return replace(images, precision=images.precision / factor[optics_group][:, shell])
