"""The masks that multiply the references of the next search."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.masks.soft import density_mask, mask_reach, soft_sphere
from cryotorch.refinement.settings import EMSettings
from cryotorch.refinement.state import State

FIRST_LOW_PASS = 20.0  # Å: an initial map finer than that may be wrong in its details
MASK_LOW_PASS = 12.0  # Å: the density that a mask is made around, low-passed


def sphere(settings: EMSettings, device: torch.device) -> Tensor:
    """The widest soft sphere for references, (d, d, d): as far as the image window reaches, or the particle's radius."""
    edge = 0.04 * settings.box
    widest = settings.window[1] - edge
    return soft_sphere(settings.box, min(settings.particle_radius or widest, widest), edge, device)


def first_mask(state: State, volume: Tensor, resolution: float, settings: EMSettings) -> None:
    """The mask of the first references: the given one, else around the density of the initial map (d, d, d), low-passed at ``resolution`` Å.

    Without it the references carry the neighbours of crowded particles, which poses then follow, and never become fine enough
    for a mask of their own. Where an initial map has no positive density there is only the sphere.
    """
    update_mask(state, volume, resolution=math.inf, settings=settings)
    if state.mask is None and settings.mask.mode == "dynamic":
        first = max(FIRST_LOW_PASS, resolution)
        try:
            _set_mask(state, _around(volume, first, settings))
        except ValueError:
            return


def masked_map(
    volume: Tensor, resolution: float, settings: EMSettings
) -> tuple[Tensor, Tensor | None]:
    """The map of an iteration (d, d, d), and the mask that it makes for the next references, see ``made_mask``."""
    return volume, made_mask(volume, resolution, settings, blur=MASK_LOW_PASS)


def mask_references(
    state: State, references: list[Tensor], mask: Tensor | None, settings: EMSettings
) -> None:
    """The references (d, d, d) of the next search, which are taken out of their list, inside a new mask (d, d, d), or the one before."""
    if mask is not None:
        _set_mask(state, mask)
    both = torch.stack(references)
    references.clear()
    state.references = both.mul_(_reference_mask(state, settings, both.device))


def update_mask(
    state: State, volume: Tensor, resolution: float, settings: EMSettings, blur: float | None = None
) -> None:
    """The mask of a map (d, d, d), where it makes one, becomes that of the references."""
    mask = made_mask(volume, resolution, settings, blur)
    if mask is not None:
        _set_mask(state, mask)


def made_mask(
    volume: Tensor, resolution: float, settings: EMSettings, blur: float | None = None
) -> Tensor | None:
    """The mask (d, d, d) that a map (d, d, d) makes, None = that of before stays.

    Dynamic masks follow the map, low-passed at ``blur`` Å, once it is better than the start resolution; otherwise the given one stays.
    """
    if settings.mask.mode == "none":
        return None
    user_mask = settings.mask.user_mask
    if settings.mask.mode == "dynamic" and resolution < settings.mask.start_resolution:
        volume = volume if blur is None else low_pass(volume, settings.pixel_size, blur)
        mask = _around(volume, MASK_LOW_PASS, settings)
        if settings.local is not None and user_mask is not None:
            mask = mask * user_mask.to(volume)  # of the region, what is there
        return mask
    return None if user_mask is None else user_mask.to(volume)


def _around(volume: Tensor, blur: float, settings: EMSettings) -> Tensor:
    near, far = settings.mask.near, settings.mask.far
    return density_mask(
        volume, settings.pixel_size, settings.mask.threshold, near, far, low_pass=blur
    )


def _set_mask(state: State, mask: Tensor) -> None:
    state.mask, state.mask_radius = mask, mask_reach(mask, 0.01)


def _reference_mask(state: State, settings: EMSettings, device: torch.device) -> Tensor:
    around = sphere(settings, device)
    return around if state.mask is None else around * state.mask
