"""What the end of a refinement says about its start: another size, or another molecule, than that of the initial map."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from cryotorch.findings import Finding
from cryotorch.ops.fourier.filters import radial_amplitude
from cryotorch.ops.fourier.transforms import resize_volume
from cryotorch.ops.masks.soft import mask_reach, soft_sphere
from cryotorch.ops.resolution.fsc import crossing_shell
from cryotorch.ops.resolution.relative_size import relative_size
from cryotorch.refinement.settings import EMSettings
from cryotorch.results import IterationResult

MOST = 96  # voxels per edge that maps are compared in
AGREE = 0.5  # correlation
# What a map keeps of the shells of a right initial map that the search began with: 0.98 of simulated ones; of a wrong one, whose
# wrong poses both half sets follow to a false resolution, 0.74.
KEPT = 0.8
GAIN = 0.03  # share of the sum over the shells that is gained at another size: true sizes gain 0.01
ENDED = 0.1  # of the amplitude of the final map, in units of that where it is largest
DETAIL = (
    4.0  # times finer than the radius: coarser maps agree best at a size that their filter makes
)
FAR = 0.025  # from 1, where a factor counts: 1 % either way is the error of one


@dataclass(frozen=True)
class Beginning:
    """What a refinement began with.

    Attributes:
        volume: (d, d, d) the initial map in a box of at most ``MOST``, None = do not compare.
        first: the last shell of it that the first iteration saw.
        warnings: what was said about it, to be repeated at the end.
    """

    volume: Tensor | None = None
    first: float = 0.0
    warnings: list[Finding] = field(default_factory=list)


NOTHING = Beginning()


def began_with(volume: Tensor, s: EMSettings, warnings: list[Finding]) -> Beginning:
    """A run's, from the initial map (d, d, d); those of a local search (2, d, d, d) are not compared."""
    if volume.dim() > 3:
        return Beginning(warnings=warnings)
    small = resize_volume(volume.cpu(), min(len(volume), MOST))
    return Beginning(small, s.schedule.first_limit, warnings)


def initial_map_advice(result: IterationResult, start: Beginning, shell: int) -> list[Finding]:
    """Whether the map has another size than the initial one, or little in common with it.

    ``shell``: that is claimed. In a sphere, as masks agree where maps need not.
    """
    if start.volume is None:
        return []
    box = len(start.volume)
    part = box / result.map.shape[-1]
    radius = min(mask_reach(result.mask_fsc, 0.5) * part, 0.45 * box)
    sphere = soft_sphere(box, radius, 0.05 * box)
    last = min(shell, box // 2 - 1)
    small = resize_volume(result.map, box)
    sizes = relative_size(small, start.volume, sphere, last)
    as_is, best = (float(curve[1 : last + 1].sum()) for curve in (sizes.as_is, sizes.best))
    edge = result.map.shape[-1] * result.pixel_size
    seen = min(int(start.first), _filled(start.volume * sphere, small * sphere))
    reach = crossing_shell(sizes.best, AGREE)
    fine = max(seen, DETAIL * box / radius)
    if best > (1 + GAIN) * as_is and abs(sizes.factor - 1) > FAR and reach >= fine:
        pixels = dict(right=result.pixel_size / sizes.factor, given=result.pixel_size)
        return [Finding("other_size", factor=sizes.factor, **pixels)]
    reach = max(1, int(crossing_shell(sizes.as_is, KEPT)))
    if reach >= seen:
        return []
    return [Finding("other_map", resolution=edge / reach, first=edge / seen)]


def _filled(volume: Tensor, like: Tensor) -> int:
    """The last shell before the one in which a map has next to nothing of the power of another: there a filter has ended it."""
    ratio = radial_amplitude(volume)[1:] / radial_amplitude(like)[1:].clamp_min(1e-30)
    low = torch.nonzero(ratio < ENDED * ratio.max())
    return int(low[0]) if len(low) else len(ratio)
