"""Half sets of particles, of which several may show one image, as after symmetry expansion."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cryotorch.errors import InputError
from cryotorch.findings import Finding, remark
from cryotorch.ops.geometry.rotations import rotation_angle
from cryotorch.particles import Particles

MIN_PER_HALF = 8
# Copies made by symmetry expansion differ from the group's rotations by rounding.
SAME_POSE = math.radians(1.0)


def assign_half_sets(particles: Particles, resplit: bool, seed: int) -> tuple[Particles, Finding]:
    """Keep the half sets, or draw equal ones where there are none or ``resplit``; what was done.

    All particles of one image come into the same half set: halves that share images share their noise.

    Raises:
        InputError: a half set is left with too few images, or an image is in both.
    """
    known, image = particles.half >= 0, image_numbers(particles)
    half = particles.half.clone()
    if resplit or not known.any():
        half = _drawn(image, seed)
        how = "drawn"
    elif known.all():
        how = "kept"
    else:
        of_image = torch.full((int(image.max()) + 1,), -1, dtype=torch.int64)
        of_image[image[known]] = half[known]
        half = torch.where(known, half, of_image[image])
        left = half < 0
        half[left] = _drawn(image[left], seed)
        how = "completed"
    particles = particles.replace(half=half)
    refuse_shared_images(particles, "add half_sets=resplit to draw them anew, image by image")
    count = [len(image[half == h].unique()) for h in (0, 1)]
    if min(count) < MIN_PER_HALF:
        few = len(image.unique()) < 2 * MIN_PER_HALF
        cure = "give more particles" if few else "add half_sets=resplit to draw them anew"
        raise InputError(
            f"the half sets have {count[0]} and {count[1]} particles, at least {MIN_PER_HALF} each are needed: {cure}"
        )
    rows = [int((half == h).sum()) for h in (0, 1)]
    made = dict(how=how, seed=seed, drawn=int((~known).sum()), first=rows[0], second=rows[1])
    return particles, remark("half_sets", **made)


def draw_half_sets(n: int, seed: int) -> Tensor:
    """Half sets (n,) of 0 and 1, equal in number, by a seeded draw."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    half = torch.zeros(n, dtype=torch.int64)
    half[order[n // 2 :]] = 1
    return half


def image_numbers(particles: Particles) -> Tensor:
    """Number (n,) int64 of the recorded image that each particle shows; images are numbered as they appear."""
    stack, image = particles.address.T
    key = stack * (image.amax() + 1 if len(image) else 1) + image
    if particles.origin is not None:
        key = particles.origin
    _, same = key.unique(return_inverse=True)
    rows = torch.arange(len(key))
    first = torch.full_like(rows, len(key)).scatter_reduce(0, same, rows, "amin")[same]
    return ((first == rows).cumsum(0) - 1)[first]


def refuse_shared_images(particles: Particles, cure: str) -> None:
    """Raise InputError where an image is in both half sets."""
    first, second = (image_numbers(particles)[particles.half == half].unique() for half in (0, 1))
    both = int(torch.isin(first, second).sum())
    if both:
        raise InputError(
            f"{both} images are in both half sets, which then share noise that would pass for resolution: {cure}"
        )


def copies_by_symmetry(particles: Particles, group: Tensor) -> int:
    """How many particles show an image again at a pose that the ``group`` (g, 3, 3) takes to that of its first particle.

    That is what expansion by the same symmetry gives: a map to which the symmetry is applied counts such an image more than once.
    """
    image = image_numbers(particles)
    rows = torch.arange(len(image))
    first = torch.full_like(rows, len(image)).scatter_reduce(0, image, rows, "amin")[image]
    again = torch.nonzero(first != rows)[:, 0]
    turn = particles.rotation[first[again]].mT @ particles.rotation[again]  # of the reference
    angle = torch.full((len(again),), math.inf)
    for element in group.to(turn):
        angle = torch.minimum(angle, rotation_angle(turn, element))
    return int((angle < SAME_POSE).sum())


def counted_over(particles: Particles, group: Tensor, symmetry: str) -> list[Finding]:
    """Whether the symmetry that is applied to the map, ``group`` (g, 3, 3), has made copies of the particles before."""
    copies = copies_by_symmetry(particles, group) if len(group) > 1 else 0
    if not copies:
        return []
    numbers = dict(copies=copies, particles=len(particles))
    return [Finding("counted_over", **numbers, symmetry=symmetry)]


def _drawn(image: Tensor, seed: int) -> Tensor:
    """Half sets (m,) of particles of these images (m,), one for each image."""
    _, number = image.unique(return_inverse=True)
    return draw_half_sets(int(number.amax()) + 1 if len(number) else 0, seed)[number]
