"""A map cut into segments: connected pieces, or the catchment areas of its maxima (watershed)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy
import scipy.ndimage
import torch
from torch import Tensor

# Rounding makes maxima of a plateau; this much of the depth inside the region puts one in its middle instead.
PLATEAU = 0.01
# Standard deviation of a Gaussian by its full width at half maximum: 1 / sqrt(8 ln 2).
SIGMA_PER_WIDTH = 0.42466


class Segment(NamedTuple):
    """A row of ``segment_table``: label, voxels, centre (x, y, z) in voxels from the corner, highest value."""

    label: int
    voxels: int
    centre: tuple[float, float, float]
    peak: float


def connected_components(region: Tensor) -> Tensor:
    """Labels (d, d, d) int32 of the pieces of a region (d, d, d) bool that hang together by faces.

    0 = outside, 1 = the largest piece, 2 = the next.
    """
    labels, _ = scipy.ndimage.label(region.cpu().numpy())  # pyright: ignore[reportGeneralTypeIssues]
    return _by_size(labels, region)


def watershed(volume: Tensor, region: Tensor, scale: float) -> Tensor:
    """Labels (d, d, d) int32 of a region (d, d, d) bool cut along the valleys of a volume (d, d, d).

    The volume inside the region is smoothed by a Gaussian of ``scale`` px full width at half maximum, and every
    maximum of that gathers the voxels from which the way up leads to it (Beucher and Lantuejoul 1979; applied to
    maps by Pintilie et al. 2010, doi:10.1016/j.jsb.2010.03.007). Maxima are at least ``scale / 2`` apart.
    0 = outside, 1 = the largest segment, 2 = the next. A plateau is cut by the distance from its border.

    Raises ValueError for a scale of 0 or below.
    """
    if not scale > 0:
        raise ValueError(f"The scale of a watershed must be above zero, got {scale:g}.")
    inside = region.cpu().numpy()
    if not inside.any():
        return torch.zeros(region.shape, dtype=torch.int32, device=region.device)
    values = torch.where(region, volume - volume[region].min().clamp(max=0), 0.0).cpu().numpy()
    # the rest of the box is empty: most of the work would be spent on it
    (part,) = scipy.ndimage.find_objects(inside.astype(numpy.int8))
    values, within = numpy.pad(values[part], 1), numpy.pad(inside[part], 1)
    labels = numpy.zeros(inside.shape, numpy.int32)
    labels[part] = _flooded(values, within, scale)[1:-1, 1:-1, 1:-1]
    return _by_size(labels, region)


def _flooded(values: numpy.ndarray, inside: numpy.ndarray, scale: float) -> numpy.ndarray:
    """Labels of the catchment areas in a region, in any order; see ``watershed``."""
    # skimage takes a second to import
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed as flood

    height = scipy.ndimage.gaussian_filter(values, SIGMA_PER_WIDTH * scale, mode="constant")
    depth = numpy.asarray(scipy.ndimage.distance_transform_edt(inside))
    height = height / max(float(height.max()), 1e-30) + PLATEAU * depth / depth.max()
    height[~inside] = 0
    places = peak_local_max(height, min_distance=max(1, round(scale / 2)), exclude_border=False)
    # a piece whose maximum was thinned away by a neighbour's keeps its highest voxel
    pieces, n = scipy.ndimage.label(inside)  # pyright: ignore[reportGeneralTypeIssues]
    lost = numpy.setdiff1d(numpy.arange(1, n + 1), pieces[tuple(places.T)])
    if len(lost):
        places = numpy.concatenate([places, scipy.ndimage.maximum_position(height, pieces, lost)])
    seeds = numpy.zeros(inside.shape, numpy.int32)
    seeds[tuple(places.T)] = numpy.arange(1, len(places) + 1)
    return flood(-height, seeds, mask=inside)


def _by_size(labels: numpy.ndarray, like: Tensor) -> Tensor:
    """Renumbered so that 1 is the largest; equal ones keep their order."""
    sizes = numpy.bincount(labels.ravel())
    sizes[0] = 0
    order = numpy.argsort(-sizes, kind="stable")
    order = order[sizes[order] > 0]
    rank = numpy.zeros(len(sizes), numpy.int32)
    rank[order] = numpy.arange(1, len(order) + 1)
    return torch.from_numpy(rank[labels]).to(like.device)


def segment_table(labels: Tensor, volume: Tensor) -> list[Segment]:
    """What there is to know about each segment of ``labels`` (d, d, d) of a volume (d, d, d), in the order of their numbers."""
    flat, count = labels.flatten().long(), int(labels.max())
    voxels = torch.bincount(flat, minlength=count + 1)
    line = torch.arange(labels.shape[-1], dtype=torch.float64, device=labels.device)
    centres = []
    for shape in ((1, 1, -1), (1, -1, 1), (-1, 1, 1)):  # x, y, z
        place = line.view(shape).expand(labels.shape).reshape(-1)
        centres.append(torch.bincount(flat, place, count + 1) / voxels)
    peak = torch.full((count + 1,), -torch.inf, device=volume.device, dtype=volume.dtype)
    peak.scatter_reduce_(0, flat, volume.flatten(), "amax")
    rows = torch.stack(centres, 1).tolist()
    return [Segment(i, int(voxels[i]), tuple(rows[i]), float(peak[i])) for i in range(1, count + 1)]


def labels_at(labels: Tensor, points: Tensor) -> list[int]:
    """The segment of ``labels`` (d, d, d) in which each point (n, 3), (x, y, z) in voxels from the corner, lies.

    ValueError for a point outside the box, or in no segment: it then names the nearest one.
    """
    box, found = labels.shape[-1], []
    for point in points.tolist():
        x, y, z = (round(c) for c in point)
        said = "(" + ", ".join(f"{c:g}" for c in point) + ")"
        if not all(0 <= c < box for c in (x, y, z)):
            raise ValueError(
                f"The point {said} lies outside the box, whose voxels are 0 to {box - 1}."
            )
        label = int(labels[z, y, x])
        if label == 0:
            place = torch.nonzero(labels).flip(1)
            distance = (place - torch.tensor([x, y, z], device=place.device)).double().norm(dim=1)
            nearest = int(distance.argmin())
            a, b, c = place[nearest].tolist()
            raise ValueError(
                f"The point {said} lies in no segment; the nearest is segment {int(labels[c, b, a])} at "
                f"({a}, {b}, {c}), {float(distance[nearest]):.1f} voxels away."
            )
        found.append(label)
    return found


def select_segments(labels: Tensor, wanted: Iterable[int]) -> Tensor:
    """(d, d, d) bool: the voxels of the wanted segments of ``labels`` (d, d, d). ValueError for a number that there is not."""
    wanted, count = list(wanted), int(labels.max())
    for label in wanted:
        if not 1 <= label <= count:
            raise ValueError(
                f"There is no segment {label}: they are numbered 1 to {count}, 1 is the largest."
            )
    chosen = torch.zeros(count + 1, dtype=torch.bool, device=labels.device)
    chosen[wanted] = True
    return chosen[labels.long()]
