"""One pass over images with known poses: what they add to the normal equations of a map."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cryotorch.ops.fourier.ewald import ewald_height, insert_curved_
from cryotorch.ops.fourier.image_model import backproject_terms
from cryotorch.ops.fourier.reconstruct import Sums, collect
from cryotorch.ops.fourier.slices import accumulator, insert_slices_, of_each
from cryotorch.ops.fourier.transforms import half_plane, shift_phase
from cryotorch.particles import Batch, Particles
from cryotorch.refinement.image_terms import observe, transfer
from cryotorch.refinement.image_weight import Watch
from cryotorch.refinement.particle_window import cut_out, particle_window
from cryotorch.refinement.settings import ImageGrid

NOISE_IMAGES = 400  # that the noise is estimated from, and at least so many of each optics group:
MIN_PER_GROUP = 8
NOISE_BATCH = 32  # of them that are transformed at once


@dataclass(frozen=True)
class Insertion:
    """How images go into the sums.

    Attributes:
        padding: of the insertion grid.
        particle_radius: pixels, images are cut around it; None = they are not.
        curvature: sign of the Ewald sphere's, see ``ops.fourier.ewald``; 0 = flat.
    """

    padding: int = 1
    particle_radius: float | None = None
    curvature: int = 0


def backproject(
    particles: Particles,
    batches: Iterable[Batch],
    noise: Tensor,
    grid: ImageGrid,
    device: torch.device,
    how: Insertion = Insertion(),
    watch: Watch | None = None,
) -> Sums:
    """The sums of all batches, at the poses that the particles have.

    Images are used as they are, or, with a particle radius, inside the ``particle_window``.

    Args:
        noise: (2, g, s) sigma2.
        watch: weighs images that are too loud; None = all count alike.
    """
    sums = accumulator(grid.box, how.padding, device)
    plane = half_plane(grid.box, device)
    window, radius = None, how.particle_radius
    if radius is not None:
        window = particle_window(particles, radius, grid.box / 2, grid, device)
    # sin(chi + pi/2) = cos(chi)
    quarter = particles.replace(phase_shift=particles.phase_shift + torch.pi / 2)
    for batch in batches:
        rows, batch = batch.index.cpu(), batch.to(device)
        images = observe(particles, rows, batch.images, noise[batch.half], grid)
        if watch is not None:
            images = watch.weigh(images, rows)
        shift_px = (particles.shift[rows] / grid.pixel_size).to(device)
        if window is not None:
            images = replace(images, spectrum=cut_out(images.spectrum, shift_px, window))
        rotation = particles.rotation[rows].to(device)
        point = of_each(plane.frequency, images.magnification)
        if images.magnification is not None:  # what lies beyond the last shell has no place
            inside = point.norm(dim=-1) < grid.box / 2
            images = replace(images, precision=images.precision * inside)
        if how.curvature:
            scale = particles.scale[rows].to(device)[:, None]
            cosine = transfer(quarter, rows, grid.box, grid.pixel_size, device).gain * scale
            voltage = particles.optics.voltage_kv[particles.optics_group[rows]].to(device)
            edge = grid.box * grid.pixel_size
            height = how.curvature * edge * ewald_height(point / edge, voltage)
            centred = images.spectrum * shift_phase(-shift_px, grid.box)
            wave = torch.complex(cosine, images.gain)
            insert_curved_(sums, centred, wave, images.precision, rotation, point, height)
        else:
            one = torch.ones(len(rows), device=device)  # the gain holds the scale
            numerator, weight = backproject_terms(
                images.spectrum, shift_px, images.gain, images.precision, one, grid.box
            )
            insert_slices_(sums, numerator, weight, rotation, point)
    return collect(sums, forget=True)


def noise_sample(images: Any, particles: Particles) -> list[Batch]:
    """Some images of every optics group, evenly spread over the file, for ``initialise.initial_noise``.

    ``images[rows]`` is a tensor (b, d, d).
    """
    group = particles.optics_group
    present = group.unique()
    each = max(MIN_PER_GROUP, NOISE_IMAGES // len(present))
    sample = []
    for g in present:
        rows = torch.nonzero(group == g)[:, 0]
        rows = rows[torch.linspace(0, len(rows) - 1, min(each, len(rows))).long()]
        sample += [Batch(some, images[some.tolist()], 0) for some in rows.split(NOISE_BATCH)]
    return sample
