"""Running normal equations of k maps, and the maps that follow from them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cryotorch.ops.fourier.filters import filter_shells
from cryotorch.ops.fourier.reconstruct import Sums, collect, solve_lightly
from cryotorch.ops.fourier.slices import Accumulator, accumulator
from cryotorch.ops.fourier.symmetrise import symmetrise
from cryotorch.ops.geometry.placement import centre_of_mass, shift_volume
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.resolution.fsc import shell_correlation
from cryotorch.refinement.ab_initio.settings import AbInitioSettings

CENTRE_ABOVE = 0.2  # of the largest density: what counts for the centre of mass
MIN_MOVE = 0.25  # pixels: a map that is off by less stays
# Of the insertion grid. With 1 a nearly round particle is pulled onto the axes of the box, where slices meet the grid (apoferritin: 0.6 for
# 0.99 of the correlation with its symmetric copies).
PADDING = 2
SIDE_EDGE = 0.05  # of the box: soft edge of the sphere


@dataclass(frozen=True)
class ClassMaps:
    """Volumes (k, d, d, d), the maps, and what two halves of the images have in common, (k, d // 2 + 1) their FSC inside the sphere."""

    volumes: Tensor
    fsc: Tensor


class RunningSums:
    """The normal equations of k maps from two halves of the images, which forget what came long ago."""

    def __init__(self, settings: AbInitioSettings, device: torch.device) -> None:
        self.settings, self.device = settings, device
        self.sums: list[list[Sums | None]] = [[None, None] for _ in range(settings.n_classes)]
        box, radius = settings.grid.box, settings.diameter / 2
        edge = max(2.0, SIDE_EDGE * box)
        self.sphere = soft_sphere(box, min(radius, box / 2 - edge), edge, device)

    def new(self) -> Accumulator:
        """Empty sums to insert into."""
        return accumulator(self.settings.grid.box, PADDING, self.device)

    def add(self, number: int, half: int, inserted: Accumulator, limit: float, keep: float) -> None:
        """Add what was inserted for a class and a half, up to a limit, to ``keep`` of what was there before."""
        fresh, before = collect(inserted, limit), self.sums[number][half]
        if before is not None and keep > 0:
            numerator = fresh.numerator.add_(before.numerator, alpha=keep)
            weight = fresh.weight.add_(before.weight, alpha=keep)
            fresh = replace(fresh, numerator=numerator, weight=weight)
        self.sums[number][half] = fresh

    def maps(self, group: Tensor | None = None) -> ClassMaps:
        """The maps, each shell weighted by how far the halves agree, symmetrised if there is a group (g, 3, 3)."""
        volumes, curves = [], []
        for first, second in self.sums:
            assert first is not None and second is not None
            if group is not None and len(group) > 1:
                first, second = symmetrise(first, group), symmetrise(second, group)
            halves = [solve_lightly(half) * self.sphere for half in (first, second)]
            curve = shell_correlation(*halves)
            curves.append(curve)
            # the Wiener filter of the sum of both halves
            common = curve.clamp(0, 1)
            gain = 2 * common / (1 + common)
            gain[0] = 1
            volumes.append(filter_shells(solve_lightly(first + second), gain) * self.sphere)
        return ClassMaps(torch.stack(volumes), torch.stack(curves))

    def move(self, number: int, shift_px: Tensor) -> None:
        """Move the map of a class by (3,) pixels along x, y, z."""
        for half, sums in enumerate(self.sums[number]):
            assert sums is not None
            numerator = sums.numerator * _phase(sums, shift_px)
            self.sums[number][half] = replace(sums, numerator=numerator)

    def recentre(self, maps: ClassMaps) -> ClassMaps:
        """The maps with their density's centre of mass in the middle, and the sums with them."""
        volumes = maps.volumes.clone()
        for number, volume in enumerate(maps.volumes):
            move = off_centre(volume)
            if float(move.norm()) > MIN_MOVE:
                self.move(number, -move)
                volumes[number] = shift_volume(volume, -move)
        return replace(maps, volumes=volumes)


def off_centre(volume: Tensor) -> Tensor:
    """(3,) pixels along x, y, z from the middle of a volume (d, d, d) to its density's centre of mass."""
    dense = (volume - CENTRE_ABOVE * volume.max()).clamp_min(0)
    if not float(dense.sum()) > 0:
        return torch.zeros(3, dtype=torch.float64)
    return (centre_of_mass(dense) - volume.shape[-1] // 2).cpu()


def _phase(sums: Sums, shift_px: Tensor) -> Tensor:
    """exp(-2 pi i k.s / d) of the half transform of sums."""
    padded, device = sums.padding * sums.box, sums.weight.device
    full = torch.fft.fftfreq(padded, device=device)
    half = torch.arange(padded // 2 + 1, device=device) / padded
    x, y, z = (-2 * torch.pi * float(s) for s in shift_px)
    turn = z * full[:, None, None] + y * full[:, None] + x * half
    return torch.polar(torch.ones_like(turn), turn)
