"""What may be claimed of half maps under one mask, for the jobs that go on from there."""

from __future__ import annotations

import logging
from typing import NamedTuple

import torch
from torch import Tensor

from cryotorch.findings import Finding
from cryotorch.jobs.fsc.advice import advice
from cryotorch.jobs.fsc.mask import FscMask, find_mask
from cryotorch.jobs.inputs.half_maps import HalfMaps
from cryotorch.ops.resolution.claims import ENDED, Judged, judge, unclaimed
from cryotorch.ops.resolution.fsc import resolution, shell_correlation
from cryotorch.results import told

log = logging.getLogger("cryotorch")


class Claim(NamedTuple):
    """Half maps, judged under the mask that was given, found beside them or made of the density.

    Attributes:
        maps: (2, d, d, d); mean: (d, d, d) of both.
        made: the mask and how it came about; mask_file: where it was read, or None.
        judged: curves and what they reach; claims: whether a resolution may be claimed.
        resolutions: name -> Å, "corrected" what is claimed; all NaN where nothing can be.
        warnings: what is wrong with half maps, mask and curves.
    """

    maps: Tensor
    mean: Tensor
    made: FscMask
    mask_file: str | None
    judged: Judged
    claims: bool
    resolutions: dict[str, float]
    warnings: list[Finding]

    @property
    def resolution(self) -> float:
        """Å that may be claimed, NaN where nothing can be."""
        return self.resolutions["corrected"]

    @property
    def ended_by(self) -> str:
        """What ends it, see ``ops.resolution.claims.ended_by``; "" where nothing can be claimed."""
        return self.judged.ended_by if self.claims else ""


def claim(
    halves: HalfMaps,
    device: torch.device,
    given: str | None,
    trusted: bool,
    shape: tuple[float, float, float],
    seed: int,
) -> Claim:
    """Mask, curves and what may be claimed of half maps; says both in the log.

    Args:
        given: mask file; trusted: its pixel size may differ, as the user gave one.
        shape: threshold, near and far (Å) of a mask that is made.
        seed: of the random phases.

    Raises:
        InputError: the mask does not fit the half maps, or the density makes none.
    """
    pixel_size, known = halves.pixel_size, halves.known
    maps = halves.maps.to(device)
    mean = maps.mean(0)
    no_mask = shell_correlation(*maps)
    bare = resolution(no_mask, maps.shape[-1], pixel_size)
    made, mask_file = find_mask(halves, mean, bare, given, trusted, shape)
    log.info("Mask: %s", made)
    judged = judge(maps, pixel_size, made.mask, known=known, seed=seed, no_mask=no_mask)
    claims, warnings = advice(maps, judged, made, pixel_size, known)
    resolutions = judged.resolutions if claims else unclaimed(judged.resolutions)
    about = f" ({ENDED[judged.ended_by]}; without mask {told(bare)})" if claims else ""
    log.info("Resolution: %s%s", told(resolutions["corrected"]), about)
    return Claim(maps, mean, made, mask_file, judged, claims, resolutions, warnings)
