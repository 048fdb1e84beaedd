"""The curvature of the Ewald sphere: an image's coefficients lie off the central slice, and how they are put there.

The electron wave scattered by a weak phase object meets its transform V not on a plane but on a sphere of radius 1 / lambda
(DeRosier 2000, doi:10.1016/S0304-3991(99)00120-5), and an image holds the two halves of it that Friedel's law joins. With
the phase chi of the contrast transfer function sin(chi) and the height z(k) above the central plane,

    Y(k) = a+ V(k, +z) + a- V(k, -z),   a+ = e^{i chi} / 2i,   a- = -e^{-i chi} / 2i,   z = sign lambda k^2 / 2

which is sin(chi) V(k, 0) where z vanishes, and has Y(-k) = conj Y(k). What lies at z' along the beam is seen as by a
defocus less by sign z', so that sign says which way the beam went. It cannot be known from the images' geometry (files do not
say, and each mirroring on the way changes it): both must be tried (Russo & Henderson 2018, doi:10.1016/j.ultramic.2017.11.001).
"""

from __future__ import annotations

import torch
from torch import Tensor

from cryotorch.ops.ctf.transfer import wavelength
from cryotorch.ops.fourier.slices import Accumulator, insert_slices_


def ewald_height(frequency: Tensor, voltage_kv: Tensor) -> Tensor:
    """lambda k^2 / 2, (b, m) in 1/Å, at frequencies (m, 2) or (b, m, 2) in 1/Å, for kV (b,)."""
    return wavelength(voltage_kv)[:, None] / 2 * frequency.square().sum(-1)


def insert_curved_(
    sums: Accumulator,
    spectrum: Tensor,
    wave: Tensor,
    precision: Tensor,
    rotation: Tensor,
    frequency: Tensor,
    height: Tensor,
) -> None:
    """Add centred spectra y (b, m) to the sums of the normal equations, each at its two places (k, +z) and (k, -z).

        numerator conj(a) w y,   weight w (1/4 + Re(a+ conj a-) o) |g|^2,   o = max(0, 1 - 2 |z|)

    The cross term of the two places counts as far as they are within one voxel, o: where they coincide, the two add up to
    g sin(chi) w y and g^2 sin^2(chi) w, the ordinary insertion. Further apart it has no fixed phase from image to image,
    and averages out (Wolf, DeRosier & Grigorieff 2006, doi:10.1016/j.ultramic.2005.11.001).

    Args:
        rotation: (b, 3, 3); wave: (b, m) complex, g e^{i chi}, g all real factors of the image; precision: (b, m) w = 1 / sigma2.
        frequency: (m, 2) or (b, m, 2), and height: (b, m) z with its sign, in Fourier pixels.
    """
    overlap = (1 - 2 * height.abs()).clamp_min(0)
    weight = precision / 4 * (wave.abs().square() - overlap * wave.square().real)
    plane = frequency.expand(*height.shape, 2)
    turned = 0.5j * precision * spectrum
    for sign, factor in ((1, wave.conj()), (-1, -wave)):  # 2 conj(a+) / i, 2 conj(a-) / i
        point = torch.cat([plane, sign * height[..., None]], -1)
        insert_slices_(sums, turned * factor, weight, rotation, point)
