"""The image model: slice x CTF x shift x scale, and its adjoint."""

from __future__ import annotations

import torch
from torch import Tensor

from cryotorch.ops.fourier.slices import Projector, extract_slices, of_each, projector
from cryotorch.ops.fourier.transforms import half_plane, shift_phase


def predict(
    reference: Projector,
    rotation: Tensor,
    shift_px: Tensor,
    ctf: Tensor,
    scale: Tensor | None = None,
    magnification: Tensor | None = None,
) -> Tensor:
    """Packed spectra (b, m) of the images of a volume: Y(k) = scale CTF(k) exp(2 pi i k.s / d) V(R^T M k).

    rotation (b, 3, 3), shift_px (b, 2) pixels, ctf (b, m), scale (b,), magnification M (b, 2, 2); m = ctf.shape[1] sets the
    limit.
    """
    count = ctf.shape[-1]
    frequency = half_plane(reference.box, ctf.device).frequency[:count]
    gain = ctf if scale is None else ctf * scale[:, None]
    return (
        extract_slices(reference, rotation, of_each(frequency, magnification))
        * gain
        * shift_phase(shift_px, reference.box, count)
    )


def backproject_terms(
    spectrum: Tensor,
    shift_px: Tensor,
    ctf: Tensor,
    precision: Tensor,
    scale: Tensor,
    box: int,
) -> tuple[Tensor, Tensor]:
    """The adjoint of ``predict`` up to the slice: what an image adds to numerator and weights of the normal equations.

    numerator = a c w conj(phase) y and weight = a^2 c^2 w. Shapes (b, m); shift_px (b, 2); precision w = 1 / sigma2, scale a (b,).
    """
    gain = ctf * precision * scale[:, None]
    return spectrum * shift_phase(-shift_px, box, spectrum.shape[-1]) * gain, gain * ctf * scale[
        :, None
    ]


def project(
    volume: Tensor,
    rotation: Tensor,
    shift_px: Tensor,
    ctf: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """Packed spectra (b, m) of the images of a volume (d, d, d): ``predict``, with its shapes, for a volume used once."""
    box = volume.shape[-1]
    if ctf is None:
        ctf = torch.ones(len(rotation), len(half_plane(box).frequency), device=volume.device)
    return predict(projector(volume), rotation, shift_px, ctf, scale)
