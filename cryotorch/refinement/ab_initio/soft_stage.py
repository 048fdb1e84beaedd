"""The first stage: from random maps, by mini-batches whose posterior over a bank of slices is narrowed step by step.

A mini-batch is compared with all slices of all classes (``ops.pose.bank``). Its posterior is held wide at first, by a temperature that is
found anew for each batch from the effective number of hypotheses that is asked for, so that no step size and no noise level have to be
tuned to a data set. What a batch adds to the normal equations is forgotten by a constant factor per batch, and a shell counts as far as two
halves of the images agree in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.fourier.slices import extract_slices, insert_slices_, projector
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.rotations import random_rotations, rotation_grid
from cryotorch.ops.pose.bank import Bank, assign, find_temperature
from cryotorch.ops.pose.scores import Observation, templates
from cryotorch.refinement.ab_initio.class_maps import ClassMaps, RunningSums
from cryotorch.refinement.ab_initio.settings import AbInitioSettings
from cryotorch.refinement.pose_search.search import shift_grid

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
class SoftResult:
    """What a start ends with: maps with their halves' FSC, (K,) shares of the images, and the last inverse temperature."""

    maps: ClassMaps
    share: Tensor
    inverse_temperature: float


def soft_stage(
    images: Observation,
    settings: AbInitioSettings,
    start: int,
    told: Callable[[int], None] = lambda step: None,
) -> SoftResult:
    """One random start from all images given, in C1; ``told`` after every step."""
    generator, device = settings.generator(start), images.spectrum.device
    plane, n = half_plane(settings.grid.box, device), len(images.spectrum)
    sums = RunningSums(settings, device)
    maps = _random_maps(images, settings, sums, generator)
    share = torch.full((settings.n_classes,), 1 / settings.n_classes, device=device)
    order, at, inverse = torch.randperm(n, generator=generator), 0, 1.0
    batch = min(settings.batch * settings.n_classes, n)
    for step in range(settings.soft_steps):
        limit, size = schedule(settings, step)
        if at + batch > n:
            order, at = torch.randperm(n, generator=generator), 0
        rows, at = order[at : at + batch], at + batch
        turn = random_rotations(1, generator)[0].to(device)
        rotation = rotation_grid(settings.grid_step(limit), span=math.pi).to(device) @ turn
        m, shifts = plane.count(limit), shifts_at(settings, limit, device)
        bank = make_bank(maps.volumes, rotation, limit, share, settings)
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
            parts = zip(
                *(x.chunk(settings.n_classes) for x in (found.numerator, found.weight)), strict=True
            )
            for number, (numerator, weight) in enumerate(parts):
                into = sums.new()
                insert_slices_(into, numerator, weight, rotation, plane.frequency[:m])
                sums.add(number, half, into, limit, KEPT if step else 0.0)
        share = (KEPT * share + (1 - KEPT) * now).clamp_min(MIN_SHARE / settings.n_classes)
        share /= share.sum()
        maps = sums.maps()
        if settings.recenter:
            maps = sums.recentre(maps)
        if settings.nonnegative:
            maps.volumes.clamp_min_(0)
        told(step)
    return SoftResult(maps, share, inverse)


def schedule(settings: AbInitioSettings, step: int) -> tuple[float, float]:
    """Limit in Fourier pixels and share of the hypotheses that have weight, for a step."""
    done = step / max(1, settings.soft_steps - 1)
    grown = min(max((done - HELD) / (1 - HELD), 0.0), 1.0)
    limit = settings.first_limit + grown * (settings.soft_limit - settings.first_limit)
    return limit, WIDEST * (NARROWEST / WIDEST) ** done


def shifts_at(settings: AbInitioSettings, limit: float, device: torch.device) -> Tensor:
    """The shifts (t, 2) that are tried at a limit, pixels."""
    step = max(1.0, settings.grid.box / (SHIFTS_PER_DETAIL * limit))
    return shift_grid(max(settings.shift_extent, step), step, device)


def make_bank(
    volumes: Tensor, rotation: Tensor, limit: float, share: Tensor, settings: AbInitioSettings
) -> Bank:
    """Slices of maps (K, d, d, d) at rotations (r, 3, 3); share (K,) of the classes."""
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
