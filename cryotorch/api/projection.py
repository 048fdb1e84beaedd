"""Images of a map, to be trained through."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cryotorch.api.calls import checked
from cryotorch.api.inputs import Map, check_map
from cryotorch.errors import InputError
from cryotorch.jobs.config import limits
from cryotorch.jobs.config.parse import plain, shown
from cryotorch.ops.ctf.transfer import contrast_transfer
from cryotorch.ops.fourier import differentiable, image_model
from cryotorch.ops.fourier.transforms import half_plane, unpack

LEAST_BOX = 4  # voxels per edge: below there is no shell between the mean and Nyquist


@checked
def project(
    volume: Tensor,
    rotation: Tensor,
    shift: Tensor | None = None,
    defocus: Tensor | None = None,
    *,
    pixel_size: float,
    voltage_kv: float = 300.0,
    spherical_aberration: float = 2.7,
    amplitude_contrast: float = 0.1,
    phase_shift: float = 0.0,
    scale: Tensor | None = None,
) -> Tensor:
    """Images (b, d, d) of a map, Y(k) = scale CTF(k) exp(2 pi i k.s) V(R^T k), without noise.

    Where a gradient is wanted of one of the tensors, or the map is float64, autograd follows every step; else the compiled loops of the
    searches make the same images in a tenth of the time. The derivative by rotation and map is that of trilinear interpolation.

    Args:
        volume: (d, d, d) float32 or float64; rotation: (b, 3, 3), reference to particle frame, see ``cryotorch``.
        shift: (b, 2) Å, RELION's origin; defocus: (b, 3) as defocus_u Å, defocus_v Å, angle in radians; None = no CTF.
        pixel_size: Å; voltage_kv: kV; spherical_aberration: mm; phase_shift: radians; scale: (b,), contrast.

    Raises:
        InputError: a shape, type or number that does not fit.
    """
    if isinstance(volume, Map):
        raise InputError("volume is a Map: give map.volume with pixel_size=map.pixel_size")
    if not isinstance(volume, Tensor):
        raise InputError(f"volume is of the type {type(volume).__name__}: give a tensor (d, d, d)")
    check_map("volume", volume)
    n = len(rotation) if isinstance(rotation, Tensor) and rotation.dim() else 0
    shapes = {"rotation": (n, 3, 3), "shift": (n, 2), "defocus": (n, 3), "scale": (n,)}
    for name, value in zip(shapes, (rotation, shift, defocus, scale), strict=True):
        _check(name, value, shapes[name], volume)
    pixel_size = _number("pixel_size", pixel_size)
    voltage_kv = _number("voltage_kv", voltage_kv)
    spherical_aberration = _number("spherical_aberration", spherical_aberration)
    amplitude_contrast = _number("amplitude_contrast", amplitude_contrast)
    phase_shift = _number("phase_shift", phase_shift, limited=False)
    box = volume.shape[-1]
    if box < LEAST_BOX:
        raise InputError(f"volume has {box} voxels per edge: give a map of {LEAST_BOX} or more")
    given = [t for t in (volume, rotation, shift, defocus, scale) if t is not None]
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in given)
    followed = wanted or volume.dtype == torch.float64
    shift_px = volume.new_zeros(n, 2) if shift is None else shift.to(volume) / pixel_size
    frequency = half_plane(box, volume.device).frequency.to(volume)
    ctf = volume.new_ones(n, len(frequency))
    if defocus is not None:
        lens = (phase_shift, voltage_kv, spherical_aberration, amplitude_contrast)
        at = frequency / (box * pixel_size)
        ctf = contrast_transfer(at, defocus, *(volume.new_full((n,), v) for v in lens))
    model = differentiable if followed else image_model
    spectrum = model.project(volume, rotation.to(volume), shift_px, ctf, scale)
    return unpack(spectrum, box)


def _check(name: str, value: object, shape: tuple[int, ...], volume: Tensor) -> None:
    """Raises InputError unless an argument is a tensor of this shape, as real as the map."""
    if value is None and name != "rotation":
        return
    wanted = ", ".join(["b", *map(str, shape[1:])]) + ("," if len(shape) == 1 else "")
    if not isinstance(value, Tensor):
        raise InputError(f"{name} is of the type {type(value).__name__}: give a tensor ({wanted})")
    if tuple(value.shape) != shape or not shape[0]:
        raise InputError(f"{name} must be ({wanted}), one row per image, got {tuple(value.shape)}")
    if not value.is_floating_point() or volume.dtype not in (torch.float32, torch.float64):
        raise InputError(
            f"{name} and volume must be float32 or float64, got {value.dtype} and {volume.dtype}"
        )
    if not bool(value.detach().isfinite().all()):
        raise InputError(f"{name} has values that are not finite: look where they come from")


def _number(name: str, value: object, limited: bool = True) -> float:
    """A finite number; where it is ``limited``, within the limits of the parameter of this name."""
    found = plain(value)
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise InputError(f"{name} must be a number, got {found}")
    if limited:
        limits.check(name, found, shown(found))
    return float(found)
