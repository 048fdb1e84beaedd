"""A map fitted onto another one: rotation, shift and hand, wherever it lies to begin with.

Both maps are reduced to a box around their density and to what is coarser than a resolution, all Fourier shells alike. There

    c(R, t) = Re sum_k F(k) M(R^T k)* exp(2 pi i k.t / d)  /  sqrt( sum |F|^2  sum |M|^2 )

is their correlation, F of the reference, M of the map that moves, M* in place of M for its other hand. A grid over SO(3), with all
shifts at once by an inverse FFT for each rotation, gives starts (as in Chacón and Wriggers 2002, doi:10.1016/S0022-2836(02)00195-2);
damped Gauss-Newton steps climb from them, in a band that widens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cryotorch.ops.fourier.filters import low_pass, whitening
from cryotorch.ops.fourier.resample import resample_volume
from cryotorch.ops.fourier.slices import extract_slices, projector
from cryotorch.ops.fourier.transforms import resize_volume
from cryotorch.ops.geometry.fit_climb import (
    Band,
    Fits,
    Source,
    band_of,
    climb,
    moved,
    norm_of,
    weighed,
)
from cryotorch.ops.geometry.placement import centre_of_mass
from cryotorch.ops.geometry.rotations import rotation_angle, rotation_grid
from cryotorch.ops.masks.soft import soft_sphere

HANDS = {"same": (False,), "mirror": (True,), "auto": (False, True)}
USUAL = 15.0  # Å, the resolution for want of another: shape and domains, which maps of all programs share
FEWEST = 8.0  # Fourier pixels of the box around the density that a fit looks at, where the pixels allow it
FINEST = 2.5  # pixels per wave length, of the coarser of both maps
# Extent of the density: looked at in so many voxels, smoothed to Å; what counts of the high density, and the part of it held.
LOOK_BOX, LOOK_AT = 48, 25.0
COUNTS, HELD = 0.25, 0.98
OUTLINE = 0.05, 0.2  # of the high density: between them the mask rises from 0 to 1
MARGIN, PADDING = (
    1.25,
    3,
)  # edge of the box in diameters of that; of its transform, as turns between its voxels are to be exact to 0.1 degrees
# The grid: Fourier pixels looked at, more where one map is smaller than the other, by how much at most; radians between rotations,
# samples of the shift per shortest wave length, rotations at once.
GRID_BAND, LARGER = 6.0, 1.35
GRID_STEP = math.radians(16)
SHIFTS, AT_ONCE = 3.0, 128
STARTS, LEAST_STARTS = (
    48,
    6,
)  # of each hand that are climbed from: on the first band; on each further one a third, at least
SAME = math.radians(5)  # fits that end this close have met
APART = math.radians(25)  # a runner-up is turned by more
ALIKE = 0.9  # correlation of the reference with itself turned, from which on the turn counts as its symmetry


class RunnerUp(NamedTuple):
    """The best fit of the same hand at another rotation.

    Attributes:
        correlation: of the maps there; angle: radians between it and the best fit; alike: correlation of the reference with itself
            when it is turned from one to the other.
    """

    correlation: float
    angle: float
    alike: float

    @property
    def angle_degrees(self) -> float:
        return math.degrees(self.angle)


@dataclass(frozen=True)
class MapFit:
    """Where a map lies in another one: x_reference = rotation x + shift, of the map's points x, or -x where it is mirrored.

    Attributes:
        rotation: (3, 3) float64, proper; shift: (3,) float64, Å. Points are (x, y, z), Å from voxel d // 2 of either map.
        mirrored: whether the map's other hand fits, ``placement.flip_hand`` of it.
        correlation: in the band compared, all shells alike; other_hand: the best of the other hand, None where it was not tried.
        error: standard error of the correlation of maps that have nothing in common.
        copies: further fits that the reference's symmetry makes of this one; runner_up: the best that is none, None where there is none.
        resolution: Å, where the band ends: the one asked for, or what both maps hold.
        centre: (3,) float64, Å from voxel d // 2 of the reference, and radius, Å, of a sphere that holds its density.
    """

    rotation: Tensor
    shift: Tensor
    mirrored: bool
    correlation: float
    other_hand: float | None
    error: float
    copies: int
    runner_up: RunnerUp | None
    resolution: float
    centre: Tensor
    radius: float

    def lead(self, correlation: float) -> float:
        """By how many times ``error`` this fit is better than one of another correlation, in Fisher's z = atanh c.

        Of maps that have nothing in common the best of many places leads the next by 1.5 in one of some hundred cases.
        """
        mine, other = (math.atanh(min(c, 0.9999)) for c in (self.correlation, correlation))
        return (mine - other) / self.error


class Density(NamedTuple):
    """Where the strong density of a map lies.

    Attributes:
        centre: (3,) float64, Å from voxel d // 2; radius: Å; solvent: the level around it.
        mask: (s, s, s) from 0 to 1, on a coarse grid over the same edge; volume: Å^3 in it.
    """

    centre: Tensor
    radius: float
    solvent: float
    mask: Tensor
    volume: float


class Pair(NamedTuple):
    """Two maps in one box around their density, ready to be compared.

    Attributes:
        source: the map that moves; itself: the reference; band: the reference's coefficients.
        found: density of the map and of the reference; edge: of the box, Å; limit: last Fourier pixel.
    """

    source: Source
    itself: Source
    band: Band
    found: tuple[Density, Density]
    edge: float
    limit: float


def fit_map(
    moving: Tensor,
    reference: Tensor,
    pixel_size: float,
    resolution: float | None = None,
    hand: str = "auto",
    moving_pixel_size: float | None = None,
) -> MapFit:
    """Where a map (d, d, d) fits best onto a reference (e, e, e), protein bright in both.

    Args:
        pixel_size: Å, of the reference, and of the map unless it has its own.
        resolution: Å, up to which they are compared; None = 15, finer for small particles, coarser for coarse pixels.
        hand: same, mirror or auto: which hands of the map are tried.

    Raises:
        ValueError: a map has no density, the resolution is finer than two pixels, or the hand is none of the three.
    """
    if hand not in HANDS:
        raise ValueError(f"hand must be one of {', '.join(HANDS)}, got {hand!r}.")
    sizes = moving_pixel_size or pixel_size, pixel_size
    if resolution is not None and resolution < 1.999 * max(sizes):
        raise ValueError(f"A resolution of {resolution:g} Å is finer than two pixels.")
    pair = _pair((moving.float(), reference.float()), sizes, resolution)
    large, small = (which(density.radius for density in pair.found) for which in (max, min))
    limits = _ladder(min(pair.limit, GRID_BAND * min(large / small, LARGER)), pair.limit)
    fits, copies = _starts(pair.source, pair.band.limited(limits[0]), HANDS[hand]), 0
    for rung, end in enumerate(limits):
        band, most = pair.band.limited(end), max(LEAST_STARTS, STARTS // 3 ** (rung + 1))
        fits, merged = _distinct(pair.itself, band, climb(pair.source, band, fits), most)
        copies = max(copies, merged)
    return _told(pair, fits.rows(fits.correlation.argsort(descending=True)), copies)


def _told(pair: Pair, fits: Fits, copies: int) -> MapFit:
    """The first of the fits, climbed to its end, and what speaks against it."""
    best = fits.rows(slice(1))
    end = climb(pair.source, weighed(pair.source, pair.band, best), best)
    (density, held), band = pair.found, pair.band
    u, _, v = torch.linalg.svd(end.rotation[0].double().cpu())  # rid of float32's rounding
    rotation, sign = u @ v, -1 if bool(end.mirrored[0]) else 1
    step = pair.edge / band.box
    shift = end.shift[0].double().cpu() * step + held.centre - sign * rotation @ density.centre
    others = fits.correlation[fits.mirrored != fits.mirrored[0]]
    numbers = float(band.weight.sum()) * min(d.volume for d in pair.found) / pair.edge**3
    return MapFit(
        rotation,
        shift,
        sign < 0,
        float(best.correlation),
        float(others.max()) if len(others) else None,
        1 / math.sqrt(numbers),
        copies,
        _runner_up(pair.itself, band, fits),
        pair.edge / pair.limit,
        held.centre,
        held.radius,
    )


def _pair(
    volumes: tuple[Tensor, Tensor], sizes: tuple[float, float], resolution: float | None
) -> Pair:
    moving, reference = (strong_density(*given) for given in zip(volumes, sizes, strict=True))
    found = moving, reference
    edge = 2 * MARGIN * max(moving.radius, reference.radius)
    resolution = resolution or max(min(USUAL, edge / FEWEST), FINEST * max(sizes))
    box = max(24, 2 * math.ceil(1.1 * edge / resolution) + 2)
    given = zip(volumes, sizes, found, strict=True)
    maps = [_around(volume, size, density, box, edge) for volume, size, density in given]
    gains = [whitening(volume).to(volume) for volume in maps]
    limit = min(edge / resolution, *(int(torch.nonzero(gain).max()) + 0.5 for gain in gains))
    source, itself = (
        Source(projector(v, limit, PADDING), g) for v, g in zip(maps, gains, strict=True)
    )
    return Pair(source, itself, band_of(maps[1], limit, gains[1]), found, edge, limit)


def strong_density(volume: Tensor, pixel_size: float) -> Density:
    """Where the strong density of a map (d, d, d) lies; raises ValueError where there is none."""
    edge, box = len(volume) * pixel_size, min(len(volume), LOOK_BOX)
    step = edge / box
    coarse = resize_volume(volume, box)
    solvent = float(coarse.median())
    smooth = low_pass(coarse - solvent, step, max(LOOK_AT, 2.5 * step), "gaussian")
    smooth = smooth * soft_sphere(box, box / 2, 2.0, smooth.device)
    high = float(smooth.flatten().kthvalue(math.ceil(0.999 * box**3)).values)
    if not high > 0:
        raise ValueError("A map without density above its solvent cannot be fitted.")
    weight = (smooth - COUNTS * high).clamp(min=0)
    middle = centre_of_mass(weight)
    line = torch.arange(box, dtype=torch.float64, device=volume.device)
    x, y, z = ((line - c).square() for c in middle.tolist())
    distance = (z[:, None, None] + y[:, None] + x).sqrt().flatten()
    order = distance.argsort()
    held = weight.flatten().double()[order].cumsum(0)
    last = order[int(torch.searchsorted(held, HELD * float(held[-1])).clamp(max=len(order) - 1))]
    low, full = OUTLINE
    mask = ((smooth / high - low) / (full - low)).clamp(0, 1)
    radius, volume_in = (float(distance[last]) + 1) * step, float(mask.sum()) * step**3
    return Density((middle - box // 2) * step, radius, solvent, mask, volume_in)


def _around(volume: Tensor, pixel_size: float, found: Density, box: int, edge: float) -> Tensor:
    """A map on a small grid about its density, its solvent 0, without what lies around."""
    x, y, z = (-found.centre).tolist()
    alone = (volume - found.solvent) * resize_volume(found.mask, len(volume))
    small = resample_volume(alone, pixel_size, box, edge / box, (x, y, z))
    radius = found.radius / edge * box
    near, soft = min(1.1 * radius, box / 2), max(3.0, 0.2 * radius)
    return small * soft_sphere(box, near, soft, small.device)


def _ladder(first: float, last: float) -> list[float]:
    """Limits from the grid's to the last, each 1.6 times the one before plus 1."""
    limits = [first]
    while limits[-1] < last - 0.5:
        limits.append(min(last, 1.6 * limits[-1] + 1))
    return limits


def _starts(source: Source, band: Band, hands: tuple[bool, ...]) -> Fits:
    """The best of each hand on a grid of rotations, all shifts tried at each."""
    size = 2 * math.ceil(SHIFTS * float(band.frequency[-1].norm()) / 2)
    columns, volume = size // 2 + 1, size**3
    rotation = rotation_grid(GRID_STEP).to(band.value.device)
    x, y, z = (band.frequency.round().long() % size).unbind(1)
    at, scale = (z * size + y) * columns + x, volume / norm_of(band.value, band.weight)
    half = band.value.new_zeros(AT_ONCE, size * size * columns)
    found: list[list[Tensor]] = [[] for _ in hands]
    for part in rotation.split(AT_ONCE):
        values, n = (
            extract_slices(source.slices, part, band.frequency) * source.gain[band.shell],
            len(part),
        )
        for rows, mirrored in zip(found, hands, strict=True):
            half[:n, at] = band.value * (values if mirrored else values.conj())
            grid = half[:n].view(n, size, size, columns)
            best = torch.fft.irfftn(grid, s=(size,) * 3, dim=(1, 2, 3)).flatten(1).max(1)
            score = best.values * scale / norm_of(values, band.weight)
            rows.append(torch.stack([score.double(), best.indices.double()], 1))
    parts = []
    for rows, mirrored in zip(found, hands, strict=True):
        score, place = torch.cat(rows).unbind(1)
        top = score.topk(min(12 * STARTS, len(score))).indices
        place = place[top].long()
        shift = torch.stack([place % size, place // size % size, place // size**2], 1)
        shift = torch.where(shift >= columns, shift - size, shift) * (band.box / size)
        marks = torch.full_like(place, mirrored, dtype=torch.bool)
        fits = Fits(rotation[top], shift.to(rotation), marks, score[top].to(rotation))
        parts.append(_thinned(fits, _angles(fits, fits) < 1.1 * GRID_STEP, STARTS)[0])
    return _joined(parts)


def _joined(parts: list[Fits]) -> Fits:
    return Fits(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _thinned(fits: Fits, near: Tensor, most: int) -> tuple[Fits, list[int]]:
    """Those, the best first, that are not ``near`` (n, n) a better one, at most so many, and their rows."""
    kept: list[int] = []
    near = near.cpu()
    free = torch.ones(len(near), dtype=torch.bool)
    for row in range(len(near)):
        if bool(free[row]) and len(kept) < most:
            kept.append(row)
            free &= ~near[row]
    return fits.rows(torch.tensor(kept, dtype=torch.int64, device=fits.rotation.device)), kept


def _distinct(itself: Source, band: Band, fits: Fits, most: int) -> tuple[Fits, int]:
    """The best of each hand that are neither one fit nor copies by a symmetry of the reference; and how many copies the best of all has."""
    parts: list[tuple[Fits, int]] = []
    for mirrored in (False, True):
        hand = fits.rows(fits.mirrored == mirrored)
        hand = hand.rows(hand.correlation.argsort(descending=True))
        hand, kept = _thinned(hand, _angles(hand, hand) < SAME, len(hand.mirrored))
        if kept:
            alike = [_alike(itself, band, hand, row) > ALIKE for row in range(len(kept))]
            turned = _angles(hand.rows(slice(1)), hand)[0] > APART
            copies = int((alike[0] & turned).sum())
            parts.append((_thinned(hand, torch.stack(alike), most)[0], copies))
    copies = max(parts, key=lambda part: float(part[0].correlation[0]))[1]
    return _joined([hand for hand, _ in parts]), copies


def _alike(itself: Source, band: Band, fits: Fits, row: int) -> Tensor:
    """Correlation (n,) of the reference with itself, moved from one of the fits to each."""
    turn = fits.rotation @ fits.rotation[row].T
    shift = fits.shift - fits.shift[row] @ turn.mT
    unchanged = torch.zeros_like(fits.mirrored)
    copies = moved(itself, band, Fits(turn, shift, unchanged, fits.correlation))
    both = norm_of(copies, band.weight) * norm_of(band.value, band.weight)
    return ((copies.conj() * band.value).real * band.weight).sum(1) / both


def _runner_up(itself: Source, band: Band, fits: Fits) -> RunnerUp | None:
    """The best that is turned far from the first; fits from the best on."""
    angle = _angles(fits.rows(slice(1)), fits)[0]
    far = torch.nonzero((angle > APART) & (fits.mirrored == fits.mirrored[0]))[:, 0]
    if not len(far):
        return None
    row = int(far[0])
    alike = float(_alike(itself, band, fits, 0)[row])
    return RunnerUp(float(fits.correlation[row]), float(angle[row]), alike)


def _angles(first: Fits, second: Fits) -> Tensor:
    return rotation_angle(first.rotation[:, None].double(), second.rotation.double())
