"""What a mask leaves out, taken from the images: y' = y - s c P((1 - m) V), at the poses and with the optics that they have.

Half maps are filtered by what they have in common; what of their grey scale is still not that of the images is measured, shell by
shell, as a = sum Re(conj(y) p) w / sum |p|^2 w with projections p, scale and CTF included. Images are compared with the map of the
other half set, as their own holds their noise; what is subtracted is of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.fourier.image_model import predict
from cryotorch.ops.fourier.resample import resample_volume
from cryotorch.ops.fourier.slices import Projector, projector
from cryotorch.ops.fourier.transforms import half_plane, unpack
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.resolution.fsc import crossing_shell, shell_correlation
from cryotorch.ops.resolution.local_wiener import local_wiener, signal_share
from cryotorch.particles import Batch, Particles
from cryotorch.refinement.image_terms import observe, transfer
from cryotorch.refinement.image_weight import Watch
from cryotorch.refinement.settings import ImageGrid

MIN_MATCH = 3.0  # standard errors by which the images of a shell show the map, or nothing of it is subtracted


def without_noise(volume: Tensor, pixel_size: float, resolution: float | None = None) -> Tensor:
    """Maps (2, d, d, d) without their noise, 0 beyond the sphere in the box on average: images do not tell that level, and a mask would
    cut a hole into it.

    Half maps get the ``local_wiener`` filter of one half map by their FSC in the sphere, up to its first fall below 0.143: the same maps
    filtered alike everywhere miss the truth by twice as much. One map for both half sets has no FSC and is low-passed at ``resolution`` Å, or stays
    as it is.
    """
    box = volume.shape[-1]
    inside = soft_sphere(box, 0.45 * box, 0.05 * box, volume.device)
    if torch.equal(volume[0], volume[1]):
        clean = volume if resolution is None else low_pass(volume, pixel_size, resolution)
    else:
        curve = shell_correlation(*(volume * inside)).clamp(0, 1)
        curve[int(crossing_shell(curve)) + 1 :] = 0
        share = signal_share(volume, pixel_size, curve, inside)
        clean = torch.stack([local_wiener(half, curve, share, 1) for half in volume])
    around = 1 - soft_sphere(box, box / 2, 0, volume.device)
    level = (clean * around).sum((1, 2, 3), dtype=torch.float64) / around.sum(dtype=torch.float64)
    return clean - level.to(clean)[:, None, None, None]


@dataclass(frozen=True)
class Match:
    """How far images show maps at their poses.

    Attributes:
        cross, power: (s,) float64, sum w Re(conj(y) p) and sum w |p|^2 of every shell.
    """

    cross: Tensor
    power: Tensor

    @property
    def amplitude(self) -> Tensor:
        """(s,) what the maps are to be multiplied by, 0 where the images show too little; shell 0 as the first."""
        seen = self.cross > MIN_MATCH * (0.5 * self.power).sqrt()
        found = torch.where(seen, self.cross / self.power.clamp_min(1e-30), 0.0)
        found[0] = found[1]
        return found

    @property
    def factor(self) -> float:
        """The same for all shells together."""
        return float(self.cross.sum() / self.power.sum().clamp_min(1e-30))

    @property
    def errors(self) -> float:
        """Standard errors by which the images correlate with the maps, negative where they are inverted."""
        return float(self.cross.sum() / (0.5 * self.power.sum()).clamp_min(1e-30).sqrt())


def compare(
    particles: Particles,
    maps: Tensor,
    batches: Iterable[Batch],
    noise: Tensor,
    grid: ImageGrid,
    watch: Watch,
) -> Match:
    """Images against the map of the half set that is named in their batch, of maps (2, d, d, d); noise: sigma2 (g, s)."""
    device, plane = maps.device, half_plane(grid.box, maps.device)
    # no window: CTFs spread fine detail over the box
    whole = replace(grid, window=(float(grid.box), float(grid.box + 1)))
    sums = torch.zeros(2, plane.n_shells, dtype=torch.float64, device=device)
    slices: dict[int, Projector] = {}
    for batch in batches:
        if batch.half not in slices:
            slices = {batch.half: projector(maps[batch.half])}  # one at a time, for the memory
        rows = batch.index.cpu()
        images = observe(particles, rows, batch.images.to(device), noise, whole)
        images = watch.weigh(images, rows)
        pose = _poses(particles, rows, grid.pixel_size, device)
        p = predict(slices[batch.half], *pose, images.gain, magnification=images.magnification)
        terms = (images.spectrum.conj() * p).real, p.real.square() + p.imag.square()
        for total, term in zip(sums, terms, strict=True):
            total.index_add_(0, plane.shell, (images.precision * term).sum(0, dtype=torch.float64))
    return Match(*sums.cpu())


@dataclass
class Subtraction:
    """Projections of what is taken from the images, as the images themselves are sampled.

    Attributes:
        particles: whose poses, scales and optics count; a ``half`` below 0 takes the first map.
        outside: (2, d, d, d) on the images' grey scale at ``pixel_size`` Å, on the device.
    """

    particles: Particles
    outside: Tensor
    pixel_size: float
    _slices: dict[tuple[int, int, float], Projector] = field(default_factory=dict)

    def projections(self, rows: Tensor, box: int, pixel_size: float) -> Tensor:
        """Images (b, d, d) of a box of pixels of so many Å, for particles ``rows`` (b,), with CTF, aberrations and scale."""
        images = torch.empty(len(rows), box, box)
        half = self.particles.half[rows].clamp_min(0)
        for h in half.unique().tolist():
            at = torch.nonzero(half == h)[:, 0]
            images[at] = self._of_half(h, rows[at], box, pixel_size).cpu()
        return images

    def _of_half(self, half: int, rows: Tensor, box: int, pixel_size: float) -> Tensor:
        particles, device = self.particles, self.outside.device
        through = transfer(particles, rows, box, pixel_size, device)
        gain = through.gain * particles.scale[rows].to(device)[:, None]
        done = particles.optics.premultiplied
        if done is not None:
            again = done[particles.optics_group[rows]].to(device)[:, None]
            gain = torch.where(again, gain * through.gain, gain)
        pose = _poses(particles, rows, pixel_size, device)
        slices = self._sampled(half, box, pixel_size)
        spectrum = predict(slices, *pose, gain, magnification=through.magnification)
        return unpack(spectrum if through.phase is None else spectrum * through.phase, box)

    def _sampled(self, half: int, box: int, pixel_size: float) -> Projector:
        key = (half, box, round(pixel_size, 6))
        if key not in self._slices:
            volume, size = self.outside[half], self.pixel_size
            if box != volume.shape[-1] or abs(pixel_size / size - 1) > 1e-4:
                volume = resample_volume(volume, size, box, pixel_size)
            self._slices[key] = projector(volume)
        return self._slices[key]


def _poses(
    particles: Particles, rows: Tensor, pixel_size: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Rotations (b, 3, 3) and shifts (b, 2) in pixels."""
    shift_px = particles.shift[rows] / pixel_size
    return particles.rotation[rows].to(device), shift_px.to(device)
