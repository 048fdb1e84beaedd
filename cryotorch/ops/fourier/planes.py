"""Images turned in their plane, in Fourier space: copies of class averages, and the adjoint, sums of turned images.

Both interpolate linearly between the coefficients of a padded box of P pixels, which multiplies real space by sinc^2(x/P) sinc^2(y/P): the
averages are divided by it before extraction, and after the sums were solved. A copy turned by psi is the image of pose (0, 0, psi),
its value at k that of the average at R^T (kx, ky, 0), see ``geometry.rotations``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import pad as zero_pad

from cryotorch.ops.fourier.slices import gridding_line
from cryotorch.ops.fourier.transforms import half_plane

PADDING = 2


@dataclass(frozen=True)
class Turns:
    """Where the first m coefficients of a half plane lie in the padded plane of an average, at each of a angles.

    Attributes:
        angle: (a,) psi, radians; index, share: (4, a m) place of the four neighbours in the flattened plane, and their weights.
        box, reach: d, and the largest padded frequency per axis: the plane has (2 reach + 1)^2 coefficients, ky before kx.
    """

    angle: Tensor
    index: Tensor
    share: Tensor
    box: int
    reach: int

    @property
    def cells(self) -> int:
        """Coefficients of the padded plane."""
        return (2 * self.reach + 1) ** 2


def reach_of(limit: float, box: int) -> int:
    """The largest padded frequency that images of a box need, up to ``limit`` Fourier pixels."""
    return min(math.ceil(PADDING * limit) + 1, PADDING * box // 2)


def turns(angle: Tensor, count: int, box: int, reach: int) -> Turns:
    """The places of ``count`` coefficients at angles (a,) in a plane of this ``reach``."""
    k = half_plane(box, angle.device).frequency[:count] * PADDING
    c, s = angle.cos()[:, None], angle.sin()[:, None]
    # R^T (kx, ky), R = (c s; -s c)
    x, y = c * k[:, 0] - s * k[:, 1], s * k[:, 0] + c * k[:, 1]
    left, low = (place.floor().clamp(-reach, reach - 1) for place in (x, y))
    fx, fy = x - left, y - low
    index, share = [], []
    for dy, dx in product((0, 1), repeat=2):
        index.append((low + dy + reach) * (2 * reach + 1) + left + dx + reach)
        share.append((fy if dy else 1 - fy) * (fx if dx else 1 - fx))
    return Turns(
        angle, torch.stack(index).long().flatten(1), torch.stack(share).flatten(1), box, reach
    )


def planes(images: Tensor, reach: int) -> Tensor:
    """The padded planes (n, c) complex64 of images (n, d, d), ready for ``turned``."""
    box = images.shape[-1]
    line = gridding_line(box, PADDING * box, images.device)
    before = PADDING * box // 2 - box // 2
    padded = zero_pad(images / (line[:, None] * line), [before, PADDING * box - box - before] * 2)
    whole = torch.fft.fftshift(
        torch.fft.fft2(torch.fft.ifftshift(padded, dim=(-2, -1))), dim=(-2, -1)
    )
    middle = PADDING * box // 2
    part = slice(middle - reach, middle + reach + 1)
    cut = whole[:, part, part] / box
    missing = 2 * reach + 1 - cut.shape[-1]  # at Nyquist of the padded box, which nothing asks for
    return zero_pad(cut, [0, missing] * 2).flatten(1).to(torch.complex64)


def turned(plane: Tensor, at: Turns) -> Tensor:
    """Spectra (n, a, m) complex64 of n averages, from their ``planes`` (n, c), turned by all angles."""
    real, imaginary = (
        torch.stack(
            [
                part.index_select(1, index).mul_(share)
                for index, share in zip(at.index, at.share, strict=True)
            ]
        ).sum(0)
        for part in (plane.real.contiguous(), plane.imag.contiguous())
    )
    return torch.complex(real, imaginary).unflatten(1, (len(at.angle), -1))


def turn_back(spectra: Tensor, at: Turns) -> Tensor:
    """Spectra (n, a, m), complex or real, turned back and added up: (n, c) of the padded plane, the adjoint of ``turned``.

    A coefficient stands for the pair k, -k: both are there.
    """
    if spectra.is_complex():
        real, imaginary = _add(spectra.real, at), _add(spectra.imag, at)
        return torch.complex(real + real.flip(1), imaginary - imaginary.flip(1))
    total = _add(spectra, at)
    return total + total.flip(1)


def _add(values: Tensor, at: Turns) -> Tensor:
    values = values.flatten(1)
    total = values.new_zeros(len(values), at.cells)
    for index, share in zip(at.index, at.share, strict=True):
        total.index_add_(1, index, values * share)
    return total


def images_of(plane: Tensor, box: int) -> Tensor:
    """Images (n, d, d) from padded planes (n, c) of sums divided by their weights, which linear interpolation has blurred."""
    side = math.isqrt(plane.shape[1])
    padded, reach = PADDING * box, side // 2
    grid = plane.new_zeros(len(plane), padded, padded)
    k = torch.arange(-reach, reach + 1, device=plane.device)
    inside = (k >= -(padded // 2)) & (k < padded // 2)
    place = k[inside] % padded
    values = plane.unflatten(1, (side, side))[:, inside][:, :, inside]
    grid[:, place[:, None], place] = values * box
    whole = torch.fft.fftshift(torch.fft.ifft2(grid).real, dim=(-2, -1))
    start = padded // 2 - box // 2
    part = slice(start, start + box)
    line = gridding_line(box, padded, plane.device)
    return whole[:, part, part] / (line[:, None] * line)


def radius_of(reach: int, device: torch.device | str = "cpu") -> Tensor:
    """Distance (c,) of the coefficients of a padded plane from its middle, Fourier pixels."""
    k = torch.arange(-reach, reach + 1.0, device=device) / PADDING
    return torch.hypot(k[:, None], k).flatten()


def moved(plane: Tensor, shift_px: Tensor, box: int) -> Tensor:
    """Padded planes (n, c) of images moved by +shift_px (n, 2) (x, y)."""
    reach = math.isqrt(plane.shape[1]) // 2
    k = torch.arange(-reach, reach + 1.0, device=plane.device) * (-2 * math.pi / (PADDING * box))
    turn = (shift_px[:, :1] * k)[:, None] + (shift_px[:, 1:] * k)[:, :, None]
    return plane * torch.polar(torch.ones_like(turn), turn).flatten(1)
