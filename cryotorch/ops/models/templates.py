"""Projections of a map as templates for picking: low-passed, without CTF, on any grid."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from cryotorch.ops.fourier.filters import low_pass as filter_low_pass
from cryotorch.ops.fourier.resample import resample_images
from cryotorch.ops.fourier.slices import extract_slices, projector
from cryotorch.ops.fourier.transforms import half_plane, resize_volume, unpack
from cryotorch.ops.masks.soft import soft_sphere

# The transform is kept up to this multiple of the low-pass frequency, where the filter has 2^-8 of the amplitude left.
SKIRT = 2.0
MIN_BOX = 32
BATCH_PIXELS = 1 << 22


def template_images(
    volume: Tensor,
    pixel_size: float,
    rotation: Tensor,
    box: int,
    new_pixel_size: float,
    low_pass: float | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Projections (b, box, box) of a volume (d, d, d) for rotations (n, 3, 3), in batches, each with the part (b,) of its power that the box holds.

    The density above its mean outside of the sphere that fits into the volume is low-passed at ``low_pass`` Å
    (``filters.low_pass``) and summed along the view, and what the box leaves out is cut off. The grey scale is that on which particles
    have noise of variance 1, if it is in the map, so values are sums over its voxels times new_pixel_size / pixel_size.
    """
    old, edge = volume.shape[-1], volume.shape[-1] * pixel_size
    wanted = edge / new_pixel_size
    if low_pass is not None:
        wanted = min(wanted, 2 * SKIRT * edge / low_pass)
    # finer than what is wanted of the transform nothing is computed
    small = min(old, max(MIN_BOX, 2 * math.ceil(wanted / 2)))
    volume = resize_volume(volume, small)
    step = edge / small
    volume = volume - volume[soft_sphere(small, small / 2, 0, volume.device) < 0.5].mean()
    if low_pass is not None:
        volume = filter_low_pass(volume, step, low_pass)
    # a sum over fewer, larger voxels, and the change of the noise when pixels grow
    grey = old / small * new_pixel_size / pixel_size
    mean = float(volume.sum()) / small**2
    reference, frequency = projector(volume), half_plane(small, volume.device).frequency
    for part in rotation.split(max(1, BATCH_PIXELS // max(box, small) ** 2)):
        images = unpack(extract_slices(reference, part, frequency), small) + mean
        new = resample_images(images, step, box, new_pixel_size)
        power, kept = (x.double().square().sum((1, 2)) for x in (images, new))
        yield new * grey, kept * new_pixel_size**2 / (power * step**2).clamp(min=1e-300)
