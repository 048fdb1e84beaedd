"""Soft masks: spheres, circles, and masks grown around density."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cryotorch.ops.fourier.filters import low_pass as filter_low_pass
from cryotorch.ops.fourier.transforms import slabs
from cryotorch.ops.masks.components import piece_numbers

TILE_VOXELS = 2**20  # voxels
SPARSE = 97  # one voxel in so many tells how large the largest are; a prime, to meet all columns of a box
MIN_PIECE_SIZE = 0.1  # of the largest piece of density: a smaller one is rather noise than a domain


def soft_sphere(box: int, radius: float, edge: float, device: torch.device | str = "cpu") -> Tensor:
    """(d, d, d): 1 within ``radius`` px of pixel d // 2, cosine to 0 at ``radius + edge``."""
    return cosine_edge(_radius(box, 3, device), radius, radius + edge)


def soft_circle(box: int, radius: float, edge: float, device: torch.device | str = "cpu") -> Tensor:
    """(d, d): 1 within ``radius`` px of pixel d // 2, cosine to 0 at ``radius + edge``."""
    return cosine_edge(_radius(box, 2, device), radius, radius + edge)


def _radius(box: int, dimensions: int, device: torch.device | str) -> Tensor:
    squares = (torch.arange(box, dtype=torch.float32, device=device) - box // 2).square()
    total = squares
    for _ in range(dimensions - 1):
        total = total[..., None] + squares
    return total.sqrt_()


def cosine_edge(distance: Tensor, near: float, far: float) -> Tensor:
    """(1 + cos(pi t)) / 2 with t = (distance - near) / (far - near) limited to 0 .. 1, of distances in any shape."""
    if far <= near:
        return (distance <= near).float()
    edge = torch.empty_like(distance)
    for part, out in zip(slabs(distance), slabs(edge), strict=True):
        torch.sub(part, near, out=out).div_(far - near).clamp_(0, 1)
        out.mul_(math.pi).cos_().mul_(0.5).add_(0.5)
    return edge


def distance_transform(
    mask: Tensor, limit: float | None = None, inside: tuple[slice, ...] | None = None
) -> Tensor:
    """Euclidean distance in pixels of each voxel of a mask, any shape, to the nearest True one, float32.

    Exact: the squared distance is a minimum over one axis after the other (Saito and Toriwaki 1994,
    doi:10.1016/0031-3203(94)90133-3),

        g(i) = min_j f(j) + (i - j)^2,

    and integers stay exact in float32. Distances beyond ``limit`` are returned as ``limit``: the
    work is proportional to it. A mask without True gives ``limit``, or infinity. ``inside``: a block that holds all True voxels, if known.
    """
    most = math.inf if limit is None else limit
    reach = max(mask.shape) if limit is None else math.ceil(limit)
    where = list(
        inside or _extent(mask)
    )  # axes still to come need not be looked at beyond the True voxels
    squared = torch.where(mask, 0.0, math.inf)
    for axis in range(mask.dim()):
        where[axis] = _wider(where[axis], reach, mask.shape[axis])
        _nearest_along_(squared[tuple(where)], axis, reach)
    return squared.sqrt_().clamp_(max=most)


def _nearest_along_(squared: Tensor, axis: int, reach: int) -> None:
    """min over |i - j| <= reach of squared[j] + (i - j)^2 along an axis, in place.

    On the CPU in tiles that stay in the cache, 5 times faster than all at once.
    """
    size, across = squared.shape[axis], 0 if axis else 1
    width = squared.shape[across]
    rows = width if squared.is_cuda else max(1, TILE_VOXELS * width // squared.numel())
    for tile in squared.split(rows, across):
        before, further = tile.clone(), torch.empty_like(tile)
        for step in range(1, min(reach, size - 1) + 1):
            torch.add(before, step * step, out=further)
            for target, source in ((step, 0), (0, step)):
                place = tile.narrow(axis, target, size - step)
                torch.minimum(place, further.narrow(axis, source, size - step), out=place)


def soft_mask(
    binary: Tensor, near: float, far: float, inside: tuple[slice, ...] | None = None
) -> Tensor:
    """1 within ``near`` px of the True voxels of ``binary``, cosine to 0 at ``far`` px.

    Of a binary mask (d, d, d) bool, all of it in the block ``inside`` if that is known: (d, d, d) float32. Raises ValueError unless
    0 <= near <= far.
    """
    if not 0 <= near <= far:
        raise ValueError(f"A soft mask needs 0 <= near <= far, got near {near:g} and far {far:g}.")
    inside = inside or _extent(binary)
    spans = zip(inside, binary.shape, strict=True)
    where = tuple(_wider(span, math.ceil(far), size) for span, size in spans)
    within = tuple(slice(s.start - w.start, s.stop - w.start) for s, w in zip(inside, where))
    soft = torch.zeros(binary.shape, device=binary.device)
    # a limit beyond the edge: what lies at the limit may lie anywhere behind it
    soft[where] = cosine_edge(distance_transform(binary[where], far + 1, within), near, far)
    return soft


def grow_in_box(binary: Tensor, near: float, far: float) -> tuple[Tensor, float]:
    """``soft_mask``, any shape, that ends on the faces of its box, see ``edge_in_box``, and how far the True voxels are from these, pixels."""
    inside = _extent(binary)
    if all(span.stop == 1 for span in inside) and not binary.any():
        return soft_mask(binary, near, far, inside), math.inf
    spans = zip(inside, binary.shape, strict=True)
    room = float(min(min(span.start, size - span.stop) for span, size in spans))
    if room >= far:
        return soft_mask(binary, near, far, inside), room
    return edge_in_box(distance_transform(binary, far + 1, inside), near, far), room


def edge_in_box(distance: Tensor, near: float, far: float) -> Tensor:
    """``cosine_edge``, any shape, that ends on the faces of the box of a ``distance_transform`` whose limit is at least ``far``.

    With d the distance of a voxel to the True ones and f that to the nearest face, both limits are scaled by
    s = min(1, (d + f) / far): the edge is narrower where the box leaves less room, and 0 on the faces.
    """
    faces = torch.full(distance.shape, math.inf, device=distance.device)
    for axis, n in enumerate(distance.shape):
        line = torch.arange(n, device=distance.device, dtype=torch.float32)
        shape = [n if dim == axis else 1 for dim in range(distance.dim())]
        faces = torch.minimum(faces, torch.minimum(line, n - 1 - line).view(shape))
    if far > 0:
        distance = distance / ((distance + faces) / far).clamp_(1e-6, 1)
    return cosine_edge(distance, near, far) * (faces > 0)


def mask_reach(mask: Tensor, above: float) -> float:
    """How far from pixel d // 2 a mask (d, d, d) has values above ``above``, pixels."""
    squares = (torch.arange(len(mask), device=mask.device) - len(mask) // 2).square()
    line, plane = squares, squares[:, None] + squares
    filled = mask > above
    # the farthest voxel of every column, then of all
    far = torch.where(filled, line.to(torch.int32), -1).amax(-1)
    return float((far + plane).masked_fill_(far < 0, 0).amax()) ** 0.5


def edge_width(mask: Tensor) -> float:
    """Voxels over which a mask (d, d, d) falls from 1 to 0, on average over its surface; 0 where it is binary.

    Volume between 0.05 and 0.95 over the area where it passes 0.5; 0.71 of a cosine edge lies between the two. A
    surface shows 1.5 times its area as faces of voxels on average over its directions. Infinite without a surface.
    """
    inside = mask > 0.5
    pairs = (inside.diff(dim=axis).count_nonzero() for axis in range(3))
    area = float(sum(pairs)) / 1.5
    between = float(((mask > 0.05) & (mask < 0.95)).count_nonzero())
    return between / area / 0.713 if area else math.inf


def density_region(
    volume: Tensor,
    pixel_size: float,
    threshold: float,
    low_pass: float,
    relative: bool = True,
    largest_only: bool = True,
) -> Tensor:
    """Where a volume (d, d, d) has density, (d, d, d) bool: what a mask grows around.

    Cut at the 99.99th percentile and low-pass at ``low_pass`` Å; keep what lies above ``threshold``
    (times the 99.99th percentile of that when ``relative``: the maximum would follow hot voxels) in
    the sphere that fits into the box; with ``largest_only`` keep the largest connected piece and
    those at least a tenth as large: a domain on a thin linker, or the copies of a symmetric
    particle. ValueError where nothing is left.
    """
    if relative and not 0 < threshold < 1:
        raise ValueError(f"The mask threshold must lie between 0 and 1, got {threshold:g}.")
    box = volume.shape[-1]
    # hot voxels are cut before the low-pass spreads them over more than the percentile forgives
    calm = volume.clamp(max=high_percentile(volume))
    smooth = filter_low_pass(calm, pixel_size, max(low_pass, 2 * pixel_size))
    # corners are empty of particle and carry what the gridding correction magnified
    _clear_outside_(smooth, box / 2)
    peak = high_percentile(smooth)
    region = smooth > (threshold * peak if relative else threshold)
    above, filled = torch.stack([peak > 0, region.any()]).tolist()  # the device is waited for once
    if not above:
        raise ValueError(
            "The map holds no positive density to make a mask of: "
            "check that it is not empty or inverted."
        )
    if not filled:
        raise ValueError(
            f"No density lies above the threshold of {threshold:g}: "
            f"the map, low-passed at {low_pass:g} Å, reaches {float(smooth.max()):.3g}."
        )
    return _large_pieces(region) if largest_only else region


def density_mask(
    volume: Tensor,
    pixel_size: float,
    threshold: float,
    near: float,
    far: float,
    low_pass: float,
    largest_only: bool = True,
) -> Tensor:
    """A soft mask around the density of a volume (d, d, d).

    1 within ``near`` Å of the ``density_region``, cosine to 0 at ``far`` Å or, where the box ends before, on its faces. ValueError
    where the map has no positive density.
    """
    region = density_region(volume, pixel_size, threshold, low_pass, largest_only=largest_only)
    return grow_in_box(region, near / pixel_size, far / pixel_size)[0]


def high_percentile(volume: Tensor) -> Tensor:
    """The 99.99th percentile, a scalar, of a volume of any shape; ``torch.quantile`` refuses more than 16 million values.

    On a CPU it is looked for among the values that a sample says are large: all, with their places, would fill four volumes.
    """
    values = volume.reshape(-1)
    rank = max(1, round(1e-4 * len(values)))
    if volume.is_cuda:
        return values.topk(rank).values[-1]
    sample = values[::SPARSE]
    bound = sample.topk(min(len(sample), 2 * rank // SPARSE + 20)).values[-1]
    large = values[~(values < bound)]  # NaN is among them, as it is the largest for topk
    return (large if len(large) >= rank else values).topk(rank).values[-1]


def _clear_outside_(volume: Tensor, radius: float) -> None:
    """Zero where a volume (d, d, d) is ``radius`` px or more from pixel d // 2."""
    squares = (torch.arange(len(volume), device=volume.device) - len(volume) // 2).square()
    plane, first = squares[:, None] + squares, 0
    for part in slabs(volume):
        z = squares[first : first + len(part)]
        first += len(part)
        part.masked_fill_(z[:, None, None] + plane >= radius**2, 0)


def _large_pieces(binary: Tensor) -> Tensor:
    """Sets of True voxels that hang together by faces: the largest one and those of at least a tenth of its size."""
    inside = _extent(binary)  # nobody need look at the empty rest of a box
    block, found = binary[inside], torch.zeros_like(binary)
    piece = piece_numbers(block)
    if len(piece):
        size = torch.zeros_like(piece).index_add_(0, piece, torch.ones_like(piece))
        large = (size >= MIN_PIECE_SIZE * size.max())[piece]
        found[inside].masked_scatter_(block, large)
    return found


def _extent(binary: Tensor) -> tuple[slice, ...]:
    """The smallest block that holds all True voxels; one voxel where there are none."""
    rest = binary.view(torch.uint8)  # whose maximum is much faster than any()
    if binary.is_cuda:  # which is waited for once
        axes = range(binary.dim())
        lines = [rest.movedim(axis, 0).flatten(1).amax(1) for axis in axes]
        filled = torch.cat(lines).cpu().split(list(binary.shape))
        return tuple(_span(line) for line in filled)
    spans: list[slice] = []
    for _ in range(binary.dim()):
        spans.append(_span(rest.flatten(1).amax(1) if rest.dim() > 1 else rest))
        rest = rest[spans[-1]].amax(0)
    return tuple(spans)


def _span(line: Tensor) -> slice:
    """From the first to the last filled place of a line."""
    filled = line.nonzero()[:, 0].tolist()
    return slice(filled[0], filled[-1] + 1) if filled else slice(0, 1)


def _wider(span: slice, margin: int, size: int) -> slice:
    return slice(max(0, span.start - margin), min(size, span.stop + margin))
