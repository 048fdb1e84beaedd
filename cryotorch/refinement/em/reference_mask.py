"""The masks that multiply the references of the next search."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.masks.soft import density_mask, mask_reach, soft_sphere
from cryotorch.refinement.em.regularise import Maps
from cryotorch.refinement.settings import EMSettings
from cryotorch.refinement.state import State

FIRST_LOW_PASS = 20.0  # Å: an initial map finer than that may be wrong in its details
SMOOTH = 12.0  # Å: the density that a mask is made around, low-passed


def sphere(s: EMSettings, device: torch.device) -> Tensor:
    """The widest soft sphere for references, (d, d, d): as far as the image window reaches, or the particle's radius."""
    edge = 0.04 * s.box
    widest = s.window[1] - edge
    return soft_sphere(s.box, min(s.particle_radius or widest, widest), edge, device)


def first_mask(state: State, volume: Tensor, resolution: float, s: EMSettings) -> None:
    """The mask of the first references: the given one, else around the density of the initial map (d, d, d), low-passed at ``resolution`` Å.

    Without it the references carry the neighbours of crowded particles, which poses then follow, and never become fine enough
    for a mask of their own. Where an initial map has no positive density there is only the sphere.
    """
    update_mask(state, volume, resolution=math.inf, s=s)
    if state.mask is None and s.mask.mode == "dynamic":
        blur = max(FIRST_LOW_PASS, resolution)
        try:
            _set_mask(state, _around(volume, blur, s))
        except ValueError:
            return


def mask_references(state: State, maps: Maps, resolution: float, s: EMSettings) -> None:
    """The references of the next search, inside the mask that the maps of this iteration make."""
    update_mask(state, maps.full, resolution, s, smooth=SMOOTH)
    state.references = maps.references.mul_(_reference_mask(state, s, maps.full.device))


def update_mask(
    state: State, volume: Tensor, resolution: float, s: EMSettings, smooth: float | None = None
) -> None:
    """Dynamic masks follow the map (d, d, d), low-passed at ``smooth`` Å, once it is better than the start resolution; otherwise the given one stays."""
    if s.mask.mode == "none":
        return
    given = s.mask.given
    if s.mask.mode == "dynamic" and resolution < s.mask.start:
        volume = volume if smooth is None else low_pass(volume, s.pixel_size, smooth)
        mask = _around(volume, 12.0, s)
        if s.local is not None and given is not None:
            mask = mask * given.to(volume)  # of the region, what is there
        _set_mask(state, mask)
    elif given is not None:
        _set_mask(state, given.to(volume))


def _around(volume: Tensor, blur: float, s: EMSettings) -> Tensor:
    near, far = s.mask.near, s.mask.far
    return density_mask(volume, s.pixel_size, s.mask.threshold, near, far, low_pass=blur)


def _set_mask(state: State, mask: Tensor) -> None:
    state.mask, state.mask_radius = mask, mask_reach(mask, 0.01)


def _reference_mask(state: State, s: EMSettings, device: torch.device) -> Tensor:
    around = sphere(s, device)
    return around if state.mask is None else around * state.mask
