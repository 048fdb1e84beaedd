"""The first stage: from random maps, by mini-batches whose posterior over a bank of slices is narrowed step by step.

A mini-batch is compared with all slices of all classes (``ops.pose.bank``). Its posterior is held wide at first, by a temperature that is
found anew for each batch from the effective number of hypotheses that is asked for, so that no step size and no noise level have to be
tuned to a data set. What a batch adds to the normal equations is forgotten by a constant factor per batch, and a shell counts as far as two
halves of the images agree in it.

All classes are as likely, however many images each has: with shares as a prior the first class to lead would swallow those of all species
before any map is good enough to tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.fourier.slices import extract_slices, insert_slices_, projector
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.rotations import (
    from_rotation_vector,
    random_rotations,
    rotation_grid,
)
from cryotorch.ops.geometry.symmetry import in_asymmetric_unit
from cryotorch.ops.pose.bank import Bank, assign, find_temperature
from cryotorch.ops.pose.scores import Observation, templates
from cryotorch.refinement.ab_initio.class_maps import ClassMaps, RunningSums
from cryotorch.refinement.ab_initio.settings import FINEST_STEP, AbInitioSettings
from cryotorch.refinement.pose_search.search import shift_grid

# Where a symmetry is imposed: how much finer than without it ends, steps as a part of those of a start, and width of its posteriors.
FINER, PART, SYMMETRIC_WIDTHS = 1.5, 0.6, (3e-3, 3e-4)
KEPT = 0.6  # of the sums, from one mini-batch to the next
HELD = 0.25  # share of the steps at the first limit
WIDEST, NARROWEST = (
    0.01,
    1e-4,
)  # of all hypotheses: effective number at the beginning and at the end
LEAST_SIZE = 2.0  # hypotheses
SHIFTS_PER_DETAIL = 2.8  # steps of the shift search in a period of the limit
MIN_SHARE = 0.02  # of the images, that a class counts as having at least
START_IMAGES = 3  # batches that a random map is made from


@dataclass(frozen=True)
class Course:
    """What a soft stage goes through.

    Attributes:
        limits: first and last, Fourier pixels; widths: effective number of hypotheses at the beginning and the end, of all.
        held: part of the steps at the first limit; steps: mini-batches; group: (g, 3, 3) that maps have.
    """

    limits: tuple[float, float]
    widths: tuple[float, float]
    held: float
    steps: int
    group: Tensor

    @classmethod
    def of_start(cls, settings: AbInitioSettings) -> Course:
        """A start, in C1."""
        limits = settings.first_limit, settings.soft_limit
        identity = torch.eye(3, dtype=torch.float64)[None]
        return cls(limits, (WIDEST, NARROWEST), HELD, settings.soft_steps, identity)

    @classmethod
    def with_symmetry(cls, settings: AbInitioSettings) -> Course:
        """What follows a start where it showed no more than a ball: the same with the symmetry imposed, to finer detail."""
        first = settings.soft_limit
        last = max(first, min(FINER * first, settings.last_limit))
        steps = max(1, round(PART * settings.soft_steps))
        return cls((first, last), SYMMETRIC_WIDTHS, 0.0, steps, settings.group)

    def at(self, step: int) -> tuple[float, float]:
        """Limit in Fourier pixels and part of the hypotheses that have weight, for a step."""
        done = step / max(1, self.steps - 1)
        grown = min(max((done - self.held) / (1 - self.held), 0.0), 1.0)
        (first, last), (wide, narrow) = self.limits, self.widths
        return first + grown * (last - first), wide * (narrow / wide) ** done

    def rotations(self, limit: float, settings: AbInitioSettings) -> Tensor:
        """The bank's rotations (r, 3, 3) of the asymmetric unit, half of the in-plane angles."""
        order = len(self.group)
        step = max(settings.grid_step(limit) / order ** (1 / 3), FINEST_STEP)
        if order == 1:
            return rotation_grid(step, span=math.pi)
        return rotation_grid(step, lambda view: in_asymmetric_unit(view, self.group), math.pi)


@dataclass(frozen=True)
class SoftResult:
    """What a start ends with: maps with their halves' FSC, (k,) shares of the images, and the last inverse temperature."""

    maps: ClassMaps
    share: Tensor
    inverse_temperature: float


def soft_stage(
    images: Observation,
    settings: AbInitioSettings,
    start: int,
    told: Callable[[int], None] = lambda step: None,
    course: Course | None = None,
    begun: SoftResult | None = None,
) -> SoftResult:
    """One start from all images given; ``told`` after every step.

    ``course``: by default that of a start, from random maps; ``begun``: maps to go on from instead.
    """
    course = course or Course.of_start(settings)
    generator, device = settings.generator(start), images.spectrum.device
    plane, n, k = half_plane(settings.grid.box, device), len(images.spectrum), settings.n_classes
    sums, alike = RunningSums(settings, device), torch.full((k,), 1 / k, device=device)
    if begun is None:
        maps = _random_maps(images, settings, sums, generator)
        share = alike
    else:
        maps, share = begun.maps, begun.share
    order, at, inverse = torch.randperm(n, generator=generator), 0, 1.0
    batch = min(settings.batch * k, n)
    for step in range(course.steps):
        limit, size = course.at(step)
        if at + batch > n:
            order, at = torch.randperm(n, generator=generator), 0
        rows, at = order[at : at + batch], at + batch
        rotation = course.rotations(limit, settings)
        rotation = (rotation @ _turn(course, rotation, generator)).to(device)
        m, shifts = plane.count(limit), shifts_at(settings, limit, device)
        bank = make_bank(maps.volumes, rotation, limit, alike, settings)
        size = max(LEAST_SIZE, size * 2 * bank.slices.real.shape[1] * len(shifts))
        tried = shifts.expand(len(rows), -1, -1)
        inverse = find_temperature(images.of(rows.to(device)).limited(m), tried, bank, size)
        now = torch.zeros_like(share)
        for half in (0, 1):
            mine = rows[rows % 2 == half].to(device)
            found = assign(
                images.of(mine).limited(m), shifts.expand(len(mine), -1, -1), bank, inverse
            )
            now += found.share.sum(0) / len(rows)
            parts = zip(*(x.chunk(k) for x in (found.numerator, found.weight)), strict=True)
            for number, (numerator, weight) in enumerate(parts):
                into = sums.new()
                insert_slices_(into, numerator, weight, rotation, plane.frequency[:m])
                sums.add(number, half, into, limit, KEPT if step else 0.0)
        share = (KEPT * share + (1 - KEPT) * now).clamp_min(MIN_SHARE / k)
        share /= share.sum()
        maps = sums.maps(course.group)
        if settings.recenter and len(course.group) == 1:
            maps = sums.recentre(maps)
        if settings.nonnegative:
            maps.volumes.clamp_min_(0)
        told(step)
    return SoftResult(maps, share, inverse)


def _turn(course: Course, rotation: Tensor, generator: torch.Generator) -> Tensor:
    """A random turn (3, 3) of the bank against the map: any, or within its step where it covers an asymmetric unit only."""
    if len(course.group) == 1:
        return random_rotations(1, generator)[0]
    step = (4 * math.pi**2 / (len(course.group) * len(rotation))) ** (1 / 3)
    return from_rotation_vector(step * (torch.rand(3, generator=generator) - 0.5))


def shifts_at(settings: AbInitioSettings, limit: float, device: torch.device) -> Tensor:
    """The shifts (t, 2) that are tried at a limit, pixels."""
    step = max(1.0, settings.grid.box / (SHIFTS_PER_DETAIL * limit))
    return shift_grid(max(settings.shift_extent, step), step, device)


def make_bank(
    volumes: Tensor, rotation: Tensor, limit: float, share: Tensor, settings: AbInitioSettings
) -> Bank:
    """Slices of maps (k, d, d, d) at rotations (r, 3, 3); share (k,) of the classes."""
    plane = half_plane(settings.grid.box, volumes.device)
    at = plane.frequency[: plane.count(limit)]
    slices = torch.cat(
        [extract_slices(projector(volume, limit), rotation, at) for volume in volumes]
    )
    every = rotation.repeat(len(volumes), 1, 1)
    return Bank(templates(slices, every), len(volumes), share.log())


def _random_maps(
    images: Observation,
    settings: AbInitioSettings,
    sums: RunningSums,
    generator: torch.Generator,
) -> ClassMaps:
    """Averages of random images in random orientations, one for each class."""
    limit, device = settings.first_limit, images.spectrum.device
    plane = half_plane(settings.grid.box, device)
    m, n = plane.count(limit), len(images.spectrum)
    for number in range(settings.n_classes):
        rows = torch.randperm(n, generator=generator)[: START_IMAGES * settings.batch]
        for half in (0, 1):
            mine = rows[half::2].to(device)
            some, into = images.of(mine).limited(m), sums.new()
            gain = some.gain * some.precision
            rotation = random_rotations(len(mine), generator).to(device)
            terms = some.spectrum * gain, some.gain * gain
            insert_slices_(into, *terms, rotation, plane.frequency[:m])
            sums.add(number, half, into, limit, 0.0)
    maps = sums.maps()
    return ClassMaps(maps.volumes.clamp_min(0), maps.fsc)
