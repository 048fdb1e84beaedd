"""Images as packed half planes, volumes as half transforms, and resizing by cropping in Fourier space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

SLAB = 2**20  # values at a time: they stay in the processor's cache
LINES = 4 * SLAB  # of which Fourier transforms have enough for all threads
ALL = slice(None)
KEPT_BOX = 360  # the widest whose shell numbers are kept in memory, 94 MB


@dataclass(frozen=True)
class HalfPlane:
    """The layout of a packed half plane for a box of d pixels, m coefficients.

    The m coefficients are those of the rfft half plane with 0 < |k| < d/2, each +k/-k pair once, in order of
    increasing |k|: a resolution limit is a slice ``[..., : count(limit)]``.

    Attributes:
        box: d.
        frequency: (m, 2) float32, (kx, ky) in Fourier pixels, kx >= 0.
        radius: (m,) float32, |k|.
        shell: (m,) int64, round(|k|), from 1 to d // 2.
        index: (m,) int64, place of k in the flattened (d, d // 2 + 1) rfft2 layout.
        centre: (m,) complex64, moves the origin from pixel 0 to pixel d // 2, orthonormal.
    """

    box: int
    frequency: Tensor
    radius: Tensor
    shell: Tensor
    index: Tensor
    centre: Tensor

    def count(self, limit: float) -> int:
        """How many coefficients have |k| <= limit (Fourier pixels)."""
        radius = half_plane(self.box).radius  # on the CPU: a CUDA device would be waited for
        return int(torch.searchsorted(radius, float(limit) + 1e-4))

    @property
    def n_shells(self) -> int:
        """Length of a per-shell table: shells 0 to d // 2."""
        return self.box // 2 + 1


@lru_cache(maxsize=16)
def _half_plane(box: int, device: str) -> HalfPlane:
    ky = torch.fft.fftfreq(box, 1 / box)[:, None].expand(box, box // 2 + 1)
    kx = torch.arange(box // 2 + 1.0)[None, :].expand(box, box // 2 + 1)
    radius = torch.hypot(kx, ky)
    once = (kx > 0) | (ky > 0)  # on the line kx = 0 the rfft holds both k and -k
    index = torch.nonzero((once & (radius > 0) & (radius < box / 2 - 1e-4)).flatten())[:, 0]
    index = index[torch.argsort(radius.flatten()[index], stable=True)]
    k = torch.stack([kx.flatten()[index], ky.flatten()[index]], 1)
    turn = 2 * torch.pi * k.double().sum(1) * (box // 2) / box
    centre = (torch.polar(torch.ones_like(turn), turn) / box).to(torch.complex64)
    r = radius.flatten()[index]
    return HalfPlane(
        box,
        k.to(device),
        r.to(device),
        torch.floor(r + 0.5).long().to(device),
        index.to(device),
        centre.to(device),
    )


def half_plane(box: int, device: torch.device | str = "cpu") -> HalfPlane:
    """The layout for a box, made once per box and device."""
    return _half_plane(box, str(device))


def pack(images: Tensor) -> Tensor:
    """Images (*b, d, d) to packed spectra (*b, m) complex64, origin at pixel d // 2, orthonormal."""
    plane = half_plane(images.shape[-1], images.device)
    return torch.fft.rfft2(images).flatten(-2)[..., plane.index] * plane.centre


def unpack(spectrum: Tensor, box: int) -> Tensor:
    """Packed spectra (*b, m) to images (*b, d, d): the inverse of ``pack`` on band-limited zero-mean images."""
    plane = half_plane(box, spectrum.device)
    flat = spectrum.new_zeros(*spectrum.shape[:-1], box * (box // 2 + 1))
    flat[..., plane.index] = spectrum * plane.centre.conj() * box**2
    grid = flat.unflatten(-1, (box, box // 2 + 1))
    upper = grid[..., 1 : (box + 1) // 2, 0]
    grid[..., box // 2 + 1 :, 0] = upper.flip(-1).conj()
    return torch.fft.irfft2(grid, s=(box, box))


def fft_volume(volume: Tensor) -> Tensor:
    """Transform (*b, d, d, d) volumes about pixel d // 2 into (*b, d, d, d // 2 + 1), unnormalised."""
    dims = (-3, -2, -1)
    if volume.shape[-1] % 2:
        return torch.fft.rfftn(torch.fft.ifftshift(volume, dim=dims), dim=dims)
    return centre_(torch.fft.rfftn(volume, dim=dims))


def centre_(transform: Tensor) -> Tensor:
    """Move the origin of half transforms (*b, d, d, d // 2 + 1), d even, between pixel 0 and pixel d // 2: signs, in place."""
    for part in (transform[..., 1::2, :, :], transform[..., 1::2, :], transform[..., 1::2]):
        part.neg_()
    return transform


def ifft_volume(transform: Tensor, box: int) -> Tensor:
    """The inverse of ``fft_volume``: (*b, d, d, d // 2 + 1) to (*b, d, d, d), d the ``box``."""
    dims = (-3, -2, -1)
    return torch.fft.fftshift(torch.fft.irfftn(transform, s=(box,) * 3, dim=dims), dim=dims)


def slabs(volume: Tensor) -> tuple[Tensor, ...]:
    """Sections of a volume, any shape, that stay in the processor's cache together; all of it on a GPU."""
    rows = len(volume) if volume.is_cuda else max(1, SLAB // volume[0].numel())
    return volume.split(rows)


def spans(count: int, each: int, most: int = SLAB) -> list[slice]:
    """Parts of ``count`` rows, each of so many values, that are worked on at once, for the memory; ``most`` values in each."""
    rows = max(1, most // each)
    return [slice(start, min(start + rows, count)) for start in range(0, count, rows)]


def wave_numbers(box: int, device: torch.device | str = "cpu") -> Tensor:
    """|k| in Fourier pixels of every |k|^2 that a box has, (q,) float64: tables of gains, looked up by whole numbers."""
    most = 3 * (box // 2) ** 2
    return torch.arange(most + 1, dtype=torch.float64, device=device).sqrt()


def multiply_radial_(transform: Tensor, gain: Tensor) -> Tensor:
    """Multiply a half transform (n, n, n//2 + 1) by a real gain (q,) per |k|^2, see ``wave_numbers``, in place, and return it."""
    size, device = len(transform), transform.device
    full = torch.fft.fftfreq(size, 1 / size, device=device).int().square_()
    plane = full[:, None] + torch.arange(size // 2 + 1, dtype=torch.int32, device=device).square_()
    gain, first = gain.to(transform.dtype), 0  # complex by real would be ten times as slow
    for part in slabs(transform):
        z = full[first : first + len(part)]
        first += len(part)
        index = (z[:, None, None] + plane).flatten()
        part *= gain.index_select(0, index).view(part.shape)
    return transform


def _shells(box: int, device: torch.device | str, z: slice, y: slice) -> Tensor:
    k = torch.fft.fftfreq(box, 1 / box, device=device).square()
    x = torch.arange(box // 2 + 1.0, device=device).square()
    return (k[z][:, None, None] + k[y][:, None] + x).sqrt_().add_(0.5).int()


@lru_cache(maxsize=8)
def _volume_shells(box: int, device: str) -> Tensor:
    whole = torch.empty(box, box, box // 2 + 1, dtype=torch.int32, device=device)
    for rows in spans(box, whole[0].numel()):
        whole[rows] = _shells(box, device, rows, ALL)
    return whole


def volume_shells(
    box: int, device: torch.device | str = "cpu", z: slice = ALL, y: slice = ALL
) -> Tensor:
    """Shell number round(|k|) of every coefficient, (d, d, d // 2 + 1) int32, or of some rows; corners are numbered on."""
    if box <= KEPT_BOX:
        return _volume_shells(box, str(device))[z, y]
    return _shells(box, device, z, y)


def shell_sum(values: Tensor, box: int, first_row: int = 0) -> Tensor:
    """Sum real values (d, d, d // 2 + 1) of a half transform over the whole shells 0 .. d // 2.

    Columns with 0 < kx < d/2 stand for two coefficients and count twice. Summed in float64. The values may be
    only some rows, from ``first_row`` on.
    """
    # the corner has the largest number, and with it all slabs give sums of one length
    bins = int(math.sqrt(3 * (box // 2) ** 2) + 0.5) + 1
    total = torch.zeros(bins, dtype=torch.float64, device=values.device)
    for part in slabs(values):
        rows = slice(first_row, first_row + len(part))
        shell, first_row = volume_shells(box, values.device, rows), rows.stop
        weight = part.to(torch.float64, copy=True)
        weight[..., 1 : (box + 1) // 2] *= 2
        total += sum_by_number(shell, weight, bins)
    return total[: box // 2 + 1]


def sum_by_number(numbers: Tensor, values: Tensor, bins: int) -> Tensor:
    """Sums (bins,) of the values of each number below ``bins``; both (a, b, ...).

    On a CUDA device ``bincount`` would wait for the largest number, and adding everything at a few places takes turns: there each
    of the a sections has sums of its own first.
    """
    if not values.is_cuda:
        return torch.bincount(numbers.flatten(), values.flatten(), minlength=bins)
    sums = values.new_zeros(len(values), bins)
    return sums.scatter_add_(1, numbers.flatten(1).long(), values.flatten(1)).sum(0)


@lru_cache(maxsize=8)
def _shell_count(box: int, device: str) -> Tensor:
    one = torch.ones(1, 1, 1, device=device).expand(box, box, box // 2 + 1)
    return shell_sum(one, box)


def shell_count(box: int, device: torch.device | str = "cpu") -> Tensor:
    """Coefficients of a whole transform in the shells 0 .. d // 2, (d // 2 + 1,) float64."""
    return _shell_count(box, str(device))


def _crop_lines(transform: Tensor, dim: int, old: int, new: int) -> Tensor:
    """Keep (or zero-pad to) the frequencies |k| < min(old, new) / 2 of a full fft dimension."""
    keep = (min(old, new) - 1) // 2
    shape = list(transform.shape)
    shape[dim] = new
    out = transform.new_zeros(shape)
    out.narrow(dim, 0, keep + 1).copy_(transform.narrow(dim, 0, keep + 1))
    if keep:
        out.narrow(dim, new - keep, keep).copy_(transform.narrow(dim, old - keep, keep))
    return out


def _resize(values: Tensor, new: int, n_dims: int) -> Tensor:
    old = values.shape[-1]
    if new == old:
        return values
    dims = tuple(range(-n_dims, 0))
    transform = torch.fft.rfftn(torch.fft.ifftshift(values, dim=dims), dim=dims)
    keep = (min(old, new) - 1) // 2
    out = transform.new_zeros(*transform.shape[:-1], new // 2 + 1)
    out[..., : keep + 1] = transform[..., : keep + 1]
    for dim in dims[:-1]:
        out = _crop_lines(out, dim, old, new)
    small = torch.fft.irfftn(out, s=(new,) * n_dims, dim=dims) * (new / old) ** n_dims
    return torch.fft.fftshift(small, dim=dims)


def resize_volume(volume: Tensor, new_box: int) -> Tensor:
    """Fourier-crop or zero-pad (*b, d, d, d) to another number of voxels over the same edge; density is kept."""
    return _resize(volume, new_box, 3)


def resize_images(images: Tensor, new_box: int) -> Tensor:
    """Fourier-crop or zero-pad (*b, d, d) to another number of pixels over the same edge.

    Values are multiplied by new/old, so that the projection (a sum over pixels) of a resized volume is the
    resized projection.
    """
    old = images.shape[-1]
    return _resize(images, new_box, 2) * (new_box / old)


def shift_phase(shift_px: Tensor, box: int, count: int | None = None) -> Tensor:
    """exp(+2 pi i k.s / d) (*b, m) for shifts s (*b, 2) in pixels, the sense of RELION's origin."""
    frequency = half_plane(box, shift_px.device).frequency[:count]
    turn = (2 * torch.pi / box) * (shift_px @ frequency.T)
    return torch.polar(torch.ones_like(turn), turn)
