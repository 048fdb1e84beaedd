"""Central slices of a volume's transform: extraction, its derivative, and the adjoint, insertion.

Both use trilinear interpolation. Its effect in real space is a multiplication by the *separable*
sinc^2(x/P) sinc^2(y/P) sinc^2(z/P), P the padded box (Matej & Bajla 1990, IEEE Trans. Med. Imaging 9, 421): extraction divides the map
by it beforehand, insertion divides the reconstruction by it afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from mmap import mmap

import torch
from torch import Tensor

from cryotorch.ops.chunking import in_parts
from cryotorch.ops.fourier import insertion_cpu, slices_cpu
from cryotorch.ops.fourier.transforms import (
    LINES,
    half_plane,
    shift_phase,
    spans,
)
from cryotorch.ops.host import give_back_, paged_zeros

CPU_POINTS, GPU_POINTS = 1 << 16, 1 << 22


def rows_at_once(points: int, device: torch.device) -> int:
    """How many slices of so many points to handle at once: the temporaries stay in a CPU's cache, or fill a GPU."""
    return max(1, (CPU_POINTS if device.type == "cpu" else GPU_POINTS) // max(1, points))


def gridding_correction(box: int, padded: int, device: torch.device | str = "cpu") -> Tensor:
    """The separable sinc^2 (d, d, d) that trilinear interpolation in a padded box imprints on real space."""
    line = gridding_line(box, padded, device)
    return line[:, None, None] * line[:, None] * line


def gridding_line(box: int, padded: int, device: torch.device | str = "cpu") -> Tensor:
    """Its factor along each axis, (d,)."""
    x = (torch.arange(box, device=device) - box // 2) / padded
    return torch.sinc(x) ** 2


@dataclass(frozen=True)
class Projector:
    """A volume's padded transform, ready for slicing.

    Attributes:
        table: (n, 2) float32, real and imaginary part at every z, y, x in turn, scaled so that slices come out orthonormal like packed
            images. z, y run from -reach to reach, x from 0 to reach + 1.
        reach: largest padded frequency per axis; box: d; padding: samples per Fourier pixel; limit: Fourier pixels.
    """

    table: Tensor
    reach: int
    box: int
    padding: int
    limit: float

    @property
    def pairs(self) -> Tensor:
        """A view (n - 1, 4) of the table whose rows hold the value at x and the next one as (re, im, re, im)."""
        return self.table.as_strided((len(self.table) - 1, 4), (2, 1))


def projector(
    volume: Tensor, limit: float | None = None, padding: int = 2, correct: bool = True
) -> Projector:
    """Prepare a volume (d, d, d) for slicing up to ``limit`` Fourier pixels (default: all, d/2)."""
    box = volume.shape[-1]
    padded = padding * box
    limit = box / 2 if limit is None else min(float(limit), box / 2)
    reach = min(math.ceil(padding * limit) + 1, padded // 2)
    lines = torch.arange(-reach, reach + 1, device=volume.device) % padded
    columns = min(
        reach + 2, padded // 2 + 1
    )  # beyond Nyquist of the padded box nothing is asked for
    line = gridding_line(box, padded, volume.device) if correct else volume.new_ones(box)
    planes = []  # axis by axis, and of each only what is in the table
    for z in spans(box, padded * columns, LINES):
        part = volume[z] / (line[z, None, None] * line[:, None] * line)
        part = torch.fft.rfft(_widened(part, padded, 2))[..., :columns]
        planes.append(torch.fft.fft(_widened(part, padded, 1), dim=1)[:, lines])
    plane = torch.cat(planes)
    table = volume.new_zeros(len(lines), len(lines), reach + 2, 2, dtype=torch.float32)
    for y in spans(len(lines), padded * columns, LINES):
        part = torch.fft.fft(_widened(plane[:, y], padded, 0), dim=0)[lines] / box
        values = torch.view_as_real(part).to(torch.float32)
        table[:, y, :columns] = values
    table = table.flatten(0, 2)
    return Projector(table, reach, box, padding, limit)


def _widened(values: Tensor, size: int, dim: int) -> Tensor:
    """The inverse of ``_middle``: place d // 2 of (.., d, ..) comes to place 0 of (.., size, ..), with zeros where nothing was."""
    box = values.shape[dim]
    half, shape = box // 2, list(values.shape)
    shape[dim] = size - box
    ends = values.narrow(dim, half, box - half), values.narrow(dim, 0, half)
    return torch.cat([ends[0], values.new_zeros(shape), ends[1]], dim)


def slice_coordinates(rotation: Tensor, frequency: Tensor) -> Tensor:
    """R^T (kx, ky, kz) for rotations (b, 3, 3): (b, 3, m), in the unit of the frequencies.

    Frequencies are (m, 2), kz = 0, or (m, 3); one more dimension (b, m, 2 or 3) where they differ between the slices.
    """
    return rotation[:, : frequency.shape[-1]].transpose(1, 2) @ frequency.mT


def of_each(frequency: Tensor, magnification: Tensor | None) -> Tensor:
    """Frequencies (m, 2) as the reference has them, M k: (b, m, 2) for M (b, 2, 2), unchanged where there is none."""
    return frequency if magnification is None else frequency @ magnification.mT


def _in_parts(frequency: Tensor, chunk: int, n: int) -> tuple[Tensor, ...]:
    """The frequencies of every chunk of n slices."""
    if frequency.dim() == 3:
        return frequency.split(chunk)
    return (frequency,) * -(-n // chunk)


def corner_indices(coordinate: Tensor, reach: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where points (*b, 3, m) fall in a half volume with z, y in -reach .. reach and x in 0 .. columns - 1.

    Returns the flat index of the lower corner (*b, m), the fractional position (*b, 3, m) and the sign (*b, m) that
    turned the point to x >= 0: where it is -1 the value read is the complex conjugate (Friedel's law).
    """
    sign = torch.where(coordinate[..., 0, :] < 0, -1.0, 1.0)
    coordinate = coordinate * sign[..., None, :]
    lower = coordinate.floor()
    fraction = coordinate - lower
    lower = lower.clamp(-reach, reach - 1).to(torch.int32)
    side = 2 * reach + 1
    index = ((lower[..., 2, :] + reach) * side + lower[..., 1, :] + reach) * columns + lower[
        ..., 0, :
    ]
    return index, fraction, sign


def _corners(projector: Projector, point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The eight complex neighbours (2 z, 2 y, b, m, 2 x, 2 re/im) of points (b, 3, m), fractions and signs."""
    columns = projector.reach + 2
    index, fraction, sign = corner_indices(point * projector.padding, projector.reach, columns)
    side = 2 * projector.reach + 1
    index = torch.stack([index + step * columns for step in (0, 1, side, side + 1)])
    rows = projector.pairs.index_select(0, index.flatten())
    return rows.view(2, 2, *sign.shape, 2, 2), fraction, sign


def sample(projector: Projector, point: Tensor) -> Tensor:
    """Values (b, m) complex64 of the transform at points (b, 3, m), Fourier pixels."""
    corners, fraction, sign = _corners(projector, point)
    fx, fy, fz = fraction.unbind(-2)
    plane = torch.lerp(corners[0], corners[1], fz[..., None, None])
    line = torch.lerp(plane[0], plane[1], fy[..., None, None])
    value = torch.lerp(line[..., 0, :], line[..., 1, :], fx[..., None])
    return torch.complex(value[..., 0], value[..., 1] * sign)


def extract_slices(projector: Projector, rotation: Tensor, frequency: Tensor) -> Tensor:
    """Central slices (b, m) complex64 for rotations (b, 3, 3), frequencies in Fourier pixels as for ``slice_coordinates``."""
    points = frequency.shape[-2]
    if not len(rotation):
        return rotation.new_zeros(0, points, dtype=torch.complex64)
    if rotation.device.type == "cpu":
        table = (projector.table, projector.reach, projector.padding)
        return slices_cpu.extract_slices_cpu(*table, rotation, frequency)
    chunk = rows_at_once(points, frequency.device)
    rows = rotation.split(chunk), _in_parts(frequency, chunk, len(rotation))
    return torch.cat(
        [sample(projector, slice_coordinates(*part)) for part in zip(*rows, strict=True)]
    )


def slices_with_gradient(
    projector: Projector, rotation: Tensor, frequency: Tensor
) -> tuple[Tensor, Tensor]:
    """Slices p (b, m, 2) as (re, im) and dp/dw (b, 3, m, 2), w a rotation vector in the particle frame.

    With R' = exp(w) R and g = R grad V (particle frame), per Fourier pixel:
    dp/dw = (-ky g_z, kx g_z, ky g_x - kx g_y). Frequencies are (m, 2) or (b, m, 2).
    """
    corners, fraction, sign = _corners(projector, slice_coordinates(rotation, frequency))
    fx, fy, fz = (f[..., None] for f in fraction.unbind(-2))
    dz = corners[1] - corners[0]
    plane = torch.addcmul(corners[0], dz, fz[..., None])
    dz = torch.lerp(dz[0], dz[1], fy[..., None])
    dy = plane[1] - plane[0]
    line = torch.addcmul(plane[0], dy, fy[..., None])
    dx = line[..., 1, :] - line[..., 0, :]
    value = torch.addcmul(line[..., 0, :], dx, fx)
    dy = torch.lerp(dy[..., 0, :], dy[..., 1, :], fx)
    dz = torch.lerp(dz[..., 0, :], dz[..., 1, :], fx)
    # V(q) = conj V(-q): the imaginary part of the value and the real part of the gradient change sign
    flip = torch.stack([torch.ones_like(sign), sign], -1)
    value = value * flip
    gradient = torch.stack([dx, dy, dz], 1).flatten(2)
    g = (rotation * projector.padding @ gradient).unflatten(2, (-1, 2)) * flip.flip(-1)[:, None]
    kx, ky = frequency[..., :1], frequency[..., 1:]
    dp = torch.stack([-ky * g[:, 2], kx * g[:, 2], ky * g[:, 0] - kx * g[:, 1]], 1)
    return value, dp


@dataclass(frozen=True)
class Accumulator:
    """Sums of inserted slices of a half set: the only tensors that are written in place.

    Attributes:
        sums: (c, s, s, s // 2 + 1, 3) float32: real part, imaginary part and weight; z, y from -reach to reach, x from 0. The
            c copies, one for each thread that inserts, or for several of them where they are large, are added up by ``merge_``.
        reach, box, padding: as in ``Projector``.
        pages: the memory of large sums on a CPU.
    """

    sums: Tensor
    reach: int
    box: int
    padding: int
    pages: mmap | None = None


def accumulator(box: int, padding: int = 1, device: torch.device | str = "cpu") -> Accumulator:
    """Empty sums for a box: 12 bytes per voxel of the (padded) half transform and copy."""
    reach = padding * box // 2 + 1
    side, cpu = 2 * reach + 1, torch.device(device).type == "cpu"
    shape = side, side, reach + 1, 3
    copies = insertion_cpu.copies(4 * math.prod(shape)) if cpu else 1
    if cpu and copies == 1:
        sums, pages = paged_zeros((1, *shape))
        return Accumulator(sums, reach, box, padding, pages)
    sums = torch.zeros(copies, *shape, device=device)
    return Accumulator(sums, reach, box, padding)


def merge_(accumulator: Accumulator) -> Tensor:
    """Add the copies up in the first one, which is returned (s, s, s // 2 + 1, 3); the others become zero."""
    first, *others = accumulator.sums
    for other in others:
        first += other
        other.zero_()
    return first


def is_compiled_for(device: torch.device) -> bool:
    """Whether slices are inserted by compiled loops rather than tensor operations."""
    return device.type == "cpu"


def insert_slices_(
    sums: Accumulator, spectrum: Tensor, weight: Tensor, rotation: Tensor, frequency: Tensor
) -> None:
    """Add slices (b, m) complex and their weights (b, m) at ``slice_coordinates``: the adjoint of extraction.

    A coefficient stands for the pair k, -k; only the half with x >= 0 is kept, ``dense`` restores the rest.

    Raises:
        MemoryError: a CUDA device cannot hold the work arrays of one slice; what came before is inserted.
    """
    if is_compiled_for(rotation.device):
        into = sums.sums, sums.reach, sums.padding, sums.box
        insertion_cpu.insert_(into, rotation[:, None], None, frequency, spectrum, weight)
        return

    def insert(part: slice) -> None:
        at = frequency[part] if frequency.dim() == 3 else frequency
        add_slices_(sums, spectrum[part], weight[part], rotation[part], at)

    in_parts(len(rotation), rows_at_once(2 * frequency.shape[-2], frequency.device), insert)


def insert_spread_(
    sums: Accumulator,
    spectrum: Tensor,
    weight: Tensor,
    rotation: Tensor,
    offset_px: Tensor,
    magnification: Tensor | None = None,
) -> None:
    """Add every slice at n rotations (b, n, 3, 3), moved by -offset_px (b, n, 2) before.

    Spectrum and weight (b, m) are of the half plane, as ``insert_slices_`` takes them, and the same at each rotation.

    Raises:
        MemoryError: as there; what came before is inserted.
    """
    frequency = half_plane(sums.box, rotation.device).frequency[: spectrum.shape[1]]
    if is_compiled_for(rotation.device) and magnification is None:
        into = sums.sums, sums.reach, sums.padding, sums.box
        insertion_cpu.insert_(into, rotation, offset_px, frequency, spectrum, weight)
        return
    point, count = of_each(frequency, magnification), spectrum.shape[1]
    # all of them before the first is inserted
    moved = [spectrum * shift_phase(-offset, sums.box, count) for offset in offset_px.unbind(1)]
    for slices, at in zip(moved, rotation.unbind(1), strict=True):
        insert_slices_(sums, slices, weight, at, point)


def add_slices_(
    sums: Accumulator, spectrum: Tensor, weight: Tensor, rotation: Tensor, frequency: Tensor
) -> None:
    """The same, (b, m) at a time, by tensor operations, for other devices than CPUs. Running out of memory leaves the sums as they were."""
    columns, side = sums.reach + 1, 2 * sums.reach + 1
    point = slice_coordinates(rotation, frequency) * sums.padding
    index, fraction, sign = corner_indices(point, sums.reach, columns)
    wx, wy, wz = torch.stack([1 - fraction, fraction], -1).unbind(1)
    value = torch.stack([spectrum.real, spectrum.imag * sign, weight], -1)
    flat = sums.sums[0].view(-1, 3)
    # all memory before the first write
    corner, share = torch.empty_like(sign), torch.empty_like(value)
    at = torch.empty(index.shape, dtype=torch.int64, device=index.device)
    for z, y, x in product((0, 1), repeat=3):
        torch.mul(wz[..., z], wy[..., y], out=corner).mul_(wx[..., x])
        torch.mul(corner[..., None], value, out=share)
        torch.add(index, (z * side + y) * columns + x, out=at)
        flat.index_add_(0, at.flatten(), share.flatten(0, 1))


def dense(sums: Accumulator, forget: bool = False) -> tuple[Tensor, Tensor]:
    """The sums on the padded half transform: numerator (P, P, P // 2 + 1) complex64 and weights float32, as they were summed.

    On the plane x = 0 the half space stores a point at k or at -k: both are added up, which is what makes the
    inverse transform real. ``forget``: large sums on a CPU are lost while they are read, so that they do not lie in memory twice.
    """
    full, reach, padded = merge_(sums), sums.reach, sums.padding * sums.box
    half = padded // 2  # frequencies beyond it are rims that no wanted coefficient reaches
    numerator = full.new_empty(padded, padded, half + 1, dtype=torch.complex64)
    weight, plane, each = full.new_empty(numerator.shape), full[:, :, 0].clone(), full[0].numel()
    ends = ((0, reach, padded - half), (padded - half, reach - half, half))
    for z, from_z, count in ends:
        for part in spans(count, each):
            at = slice(from_z + part.start, from_z + part.stop)
            for y, from_y, lines in ends:
                values = full[at, from_y : from_y + lines, : half + 1]
                to = slice(z + part.start, z + part.stop), slice(y, y + lines)
                torch.view_as_real(numerator)[to] = values[..., :2]
                weight[to] = values[..., 2]
            if forget and sums.pages is not None:
                give_back_(sums.pages, 4 * each * at.start, 4 * each * at.stop)
    mate = plane.flip(0, 1)
    mate[..., 1].neg_()
    plane = plane + mate
    k = torch.fft.fftfreq(padded, 1 / padded, device=full.device).long() + reach
    plane = plane[k][:, k]
    torch.view_as_real(numerator)[:, :, 0] = plane[..., :2]
    weight[:, :, 0] = plane[..., 2]
    return numerator, weight


def grid_to_volume(
    lines: Callable[[slice], Tensor],
    box: int,
    padded: int,
    device: torch.device | str = "cpu",
    correct: bool = True,
) -> Tensor:
    """A padded orthonormal half transform to the volume (d, d, d) that slices to it.

    Axis by axis, and each is cropped before the next: beside the result d P (P // 2 + 1) complex numbers are held.

    Args:
        lines: gives the transform at a slice of y, (P, y, P // 2 + 1).
    """
    half, columns = box // 2, padded // 2 + 1
    planes = torch.empty(box, padded, columns, dtype=torch.complex64, device=device)
    for y in spans(padded, padded * columns, LINES):
        along = torch.fft.ifft(lines(y), dim=0)
        planes[:half, y], planes[half:, y] = along[padded - half :], along[: box - half]
    volume = torch.empty(box, box, box, device=device)
    line = gridding_line(box, padded, device) if correct else torch.ones(box, device=device)
    for z in spans(box, padded * columns, LINES):
        plane = _middle(torch.fft.ifft(planes[z], dim=1), box, 1)
        plane = _middle(torch.fft.irfft(plane, n=padded), box, 2)
        volume[z] = plane.div_(line[z, None, None] / box).div_(line[:, None] * line)
    return volume


def _middle(values: Tensor, box: int, dim: int) -> Tensor:
    """The ``box`` places around place 0, (.., d, ..), which comes to place d // 2."""
    half = box // 2
    ends = values.narrow(dim, values.shape[dim] - half, half), values.narrow(dim, 0, box - half)
    return torch.cat(ends, dim)
