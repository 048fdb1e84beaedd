"""What a subtraction starts from, checked: posed particles, the map that their images show, the mask, and how far it fits them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cryotorch.data.images import ParticleImages
from cryotorch.data.particle_file import ParticleFile
from cryotorch.data.stacks import Stacks
from cryotorch.errors import InputError
from cryotorch.findings import Finding, remark
from cryotorch.jobs.config.parse import in_angstrom, require
from cryotorch.jobs.inputs.device import pick_device
from cryotorch.jobs.inputs.particles import load_particles, normalize_needed
from cryotorch.jobs.inputs.reference import (
    load_box_mask,
    load_references,
    mask_keeps,
    warn_if_hard,
    warn_if_inverted,
)
from cryotorch.jobs.inputs.source_run import doubts
from cryotorch.jobs.subtraction.settings import Subtract
from cryotorch.ops.fourier.filters import filter_shells
from cryotorch.particles import Batch, Particles
from cryotorch.refinement.backproject import noise_sample
from cryotorch.refinement.em.initialise import MIN_CONTRAST_MATCH, MIN_POSE_MATCH, initial_noise
from cryotorch.refinement.half_sets import refuse_shared_images
from cryotorch.refinement.image_weight import Watch
from cryotorch.refinement.settings import ImageGrid
from cryotorch.refinement.subtraction import (
    Match,
    Subtraction,
    compare,
    without_noise,
)

log = logging.getLogger("cryotorch")
SAMPLE = 1000  # images of each half set that the grey scale is fitted to
AT_ONCE = 64  # of them
MUCH_LEFT = (
    0.2  # of what was to be subtracted, left or too much; noise in half maps alone leaves a tenth
)


@dataclass(frozen=True)
class Prepared:
    """Everything that is known before the first image is written.

    Attributes:
        settings, file, images, particles: of the input; stacks: its files.
        mask: (d, d, d) of what is kept; kept: how much of the density is in it; one_map: whether both half sets have the same map.
        made: what is subtracted; match: of the images and the whole map.
        left: what of it the images still hold afterwards, as a part of it; negative where too much was subtracted.
        told: what is to be said.
    """

    settings: Subtract
    file: ParticleFile
    images: ParticleImages
    stacks: Stacks
    particles: Particles
    mask: Tensor
    kept: Finding
    one_map: bool
    made: Subtraction
    match: Match
    left: float
    told: list[Finding]

    def stored(self, rows: np.ndarray) -> Tensor:
        """The images (b, d, d) of rows (b,) as they are in their files, see ``ParticleImages.as_stored``."""
        return self.images.as_stored(rows)


def prepare(config: Subtract) -> Prepared:
    """Read and check the input, and bring the map to the images' grey scale.

    Raises:
        InputError: no poses, no half sets for half maps, a box that does not fit, or images that do not show the map.
    """
    device, one_map = pick_device(config.device), not Path(str(config.volume)).is_dir()
    file = load_particles(str(config.particles), config.class_, config, need_half_sets=not one_map)
    settings = in_angstrom(config, file.pixel_size)
    particles = _checked(file, settings, one_map)
    cache = (settings.cache_dtype, settings.cache_limit)
    images = ParticleImages(file, None, settings.cache_dir, settings.invert, *cache)
    images.normalize = normalize_needed(images, settings.normalize)
    maps, source = load_references(str(settings.volume), file, images)
    one_map = torch.equal(maps[0], maps[1])
    warn_if_inverted(maps.mean(0), str(settings.volume))
    mask = load_box_mask(str(settings.mask), str(settings.volume), file, images)
    warn_if_hard(mask, str(settings.mask))
    told = [source.plus(compared=True), *doubts(settings.particles, settings.volume)]
    kept = mask_keeps(maps, mask, images.pixel_size)
    if kept["all"]:
        told.append(Finding("nothing_to_subtract", share=kept["share"]))
    if one_map:
        told.append(Finding("one_map_subtracted", file=f"volume={settings.volume}"))
        particles = particles.replace(half=torch.zeros_like(particles.half))
    maps = without_noise(maps.to(device), images.pixel_size)
    sample = _Sample(particles, images, one_map, device)
    match = sample.match(maps)
    told += _judged(match, settings)
    whole = filter_shells(maps, match.amplitude.to(maps))
    outside = whole * (1 - mask.to(device))
    made = Subtraction(particles, outside, images.pixel_size)
    # what is inside is taken out too, as the two look alike where they overlap
    after = sample.match(outside, less=Subtraction(particles, whole, images.pixel_size))
    left = after.factor if after.power.sum() > 0 else 0.0
    if abs(left) > MUCH_LEFT and abs(after.errors) > MIN_POSE_MATCH:
        told.append(Finding("subtraction_incomplete", left=left))
    known = settings, file, images, Stacks(file.stacks), particles
    return Prepared(*known, mask, kept, one_map, made, match, left, told)


class _Sample:
    """Images, evenly spread over the file, each to be compared with a map that it is no part of."""

    def __init__(
        self, particles: Particles, images: ParticleImages, one_map: bool, device: torch.device
    ) -> None:
        self.images, self.one_map = images, one_map
        self.grid = ImageGrid.whole(images.box, images.pixel_size)
        sample = noise_sample(images, particles)
        noise, most, _ = initial_noise(particles, sample, self.grid, device)
        self.known = particles, noise[0], self.grid, Watch(most, len(particles))
        self.rows: list[tuple[int, Tensor]] = []
        for half in particles.half.unique().tolist():
            rows = torch.nonzero(particles.half == half)[:, 0]
            count = min(SAMPLE * (2 if one_map else 1), len(rows))
            rows = rows[torch.linspace(0, len(rows) - 1, count).long()]
            self.rows += [(half, part) for part in rows.split(AT_ONCE)]

    def match(self, maps: Tensor, less: Subtraction | None = None) -> Match:
        """How they show maps (2, d, d, d)."""
        particles, *known = self.known
        return compare(particles, maps, self._batches(less), *known)

    def _batches(self, less: Subtraction | None) -> Iterator[Batch]:
        """The images, each named with the half set of the map that it is compared with, ``less`` their projections."""
        for half, rows in self.rows:
            images = self.images[rows.tolist()]
            if less is not None:
                taken = less.projections(rows, self.images.box, self.images.pixel_size)
                images = images - taken * images.flatten(1).any(1)[:, None, None]  # not of blank
            yield Batch(rows, images, half if self.one_map else 1 - half)


def _checked(file: ParticleFile, settings: Subtract, one_map: bool) -> Particles:
    particles, said = file.particles, f"particles={settings.particles}"
    if not particles.has_pose:
        raise InputError(
            f"{said} has no orientations (rlnAngleRot and the others): give the particles.star of a refinement"
        )
    if not one_map and bool((particles.half < 0).any()):
        raise InputError(
            f"{said} has particles without half set (rlnRandomSubset), so that nobody knows which half map they are part of: give "
            "the particles.star of the refinement that made the half maps, or one map"
        )
    refuse_shared_images(particles, "keep all rows of an image in one half set")
    box = settings.box_size
    requirement = f"the images have {file.box} pixels"
    require(box is None or box <= file.box, "box_size", box, requirement)
    return particles


def _judged(match: Match, settings: Subtract) -> list[Finding]:
    """How the map fits the images; raises InputError where they do not show it, or its inverse."""
    if match.errors < MIN_CONTRAST_MATCH:
        raise InputError(
            "the particles correlate better with the inverted map, their contrast is opposite: change invert (true is for "
            "particles that are dark on bright), or invert the map"
        )
    if match.errors < MIN_POSE_MATCH or not bool(match.amplitude.any()):
        raise InputError(
            f"the images of particles={settings.particles} do not show volume={settings.volume} at their poses: give the map that "
            "they were refined to, with the particles.star of that run"
        )
    return [remark("grey_scale", factor=match.factor, match=None)]
