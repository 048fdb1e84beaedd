"""A protein-like test molecule, generated: chains of helices, strands and loops folded into domains."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryotorch.ops.models.gaussians import bfactor_to_sigma, gaussian_density

# Geometry of proteins, Å: steps along the C-alpha trace, distance between C-alphas that are not neighbours,
# room around a residue inside a protein (134 Å^3 by its mass, more with the gaps between domains).
RESIDUE_STEP = 3.8
CLASH = 4.8
RESIDUE_VOLUME = 150.0
HELIX = (2.3, 1.5, math.radians(100))  # radius, rise, turn per residue: right-handed
STRAND = (0.9, 3.3, math.radians(180))
# The molecule's radius as a fraction of the box edge, and the share of that sphere that is protein.
RADIUS = 0.3
FILLING = 0.32
# Residues at most: beyond, domains are farther apart in a larger box, not more numerous.
MAX_RESIDUES = 12_000
MAX_DOMAINS = 60
# Half the distance that residues keep from those of a symmetric copy.
MARGIN = 2.3
# Without symmetry domains fill an ellipsoid with these semi-axes, in radii: few proteins are balls, and a ball
# gives the pose search nothing to hold on to at low resolution.
ELLIPSOID = (1.0, 0.85, 0.7)
# An asymmetric unit has at least this many residues, where need be in a molecule shrunk to fit.
MIN_RESIDUES = 40
# Candidates drawn at once for the next piece of chain.
CHAIN_TRIALS = 48


# Hundreds of points at a time, thousands of times: NumPy's calls cost a third of what torch's do.
Array = NDArray[np.float64]


class PseudoAtoms(NamedTuple):
    """Scatterers of the phantom: position (n, 3) Å, weight (n,), bfactor (n,) Å^2, all float32."""

    position: Tensor
    weight: Tensor
    bfactor: Tensor


def phantom(
    box: int, pixel_size: float, group: Tensor, seed: int = 0, resolution: float | None = None
) -> Tensor:
    """The density of ``phantom_atoms`` on a box, (d, d, d) float32, near zero in the solvent.

    ``group`` (g, 3, 3) is the point group, identity first; the molecule reaches about 0.3 of the box edge from
    the origin, at any pixel size. ``resolution`` Å, two pixels by default. Same seed, same molecule.
    """
    atoms = phantom_atoms(box * pixel_size, group, seed)
    # as molmap broadens atoms: sigma = 0.225 resolution
    blur = 0.225 * (resolution or 2 * pixel_size)
    sigma = (bfactor_to_sigma(atoms.bfactor) ** 2 + blur**2).sqrt()
    return gaussian_density(atoms.position, atoms.weight, sigma, box, pixel_size)


def phantom_atoms(edge: float, group: Tensor, seed: int = 0) -> PseudoAtoms:
    """The pseudo-atoms of a molecule with a point group (g, 3, 3) for a box of ``edge`` Å.

    One asymmetric unit is folded within the points that are nearer to its centre than to any copy's centre, so
    that the copies under the group cannot clash. Where the box is too small for a protein of this symmetry, a
    larger one is shrunk.
    """
    turns = group.double().numpy(force=True)
    design = max(edge, 60.0)
    traces, sides = _asymmetric_unit(design, turns, seed)
    while sum(len(trace) for trace in traces) < MIN_RESIDUES:
        design *= 1.15
        traces, sides = _asymmetric_unit(design, turns, seed)
    position, weight = _decorate(traces, sides, _Draw(seed + 1))
    # a shift that commutes with the group: the part of the centre of mass that no operation moves
    centre = (position * weight[:, None]).sum(0) / weight.sum()
    position = position - turns.mean(0) @ centre
    # mobile outside, ordered inside
    bfactor = 40 + 80 * (_norm(position) / (RADIUS * design)) ** 2
    copies = (position @ turns.transpose(0, 2, 1)).reshape(-1, 3) * (edge / design)
    bfactor = np.tile(bfactor, len(turns)) * (edge / design) ** 2
    made = (copies, np.tile(weight, len(turns)), bfactor)
    return PseudoAtoms(*(torch.from_numpy(column).float() for column in made))


def _asymmetric_unit(edge: float, group: Array, seed: int) -> tuple[list[Array], list[Array]]:
    """C-alpha traces (l, 3) of the chains of an asymmetric unit, and the vectors their carbonyls follow."""
    draw = _Draw(seed)
    cell = _Cell(group, draw)
    radius = RADIUS * edge
    axes = np.array(ELLIPSOID if len(group) == 1 else (1.0, 1.0, 1.0))
    volume = 4 / 3 * math.pi * radius**3 * float(axes.prod())
    budget = min(MAX_RESIDUES, FILLING * volume / RESIDUE_VOLUME) / len(group)
    traces: list[Array] = []
    sides: list[Array] = []
    domains: list[tuple[Array, float]] = []
    grown = 0
    while grown < budget and len(domains) < MAX_DOMAINS:
        domain = _next_domain(domains, radius * axes, cell, draw)
        if domain is None:
            break
        domains.append(domain)
        room = min(4 / 3 * math.pi * domain[1] ** 3 / RESIDUE_VOLUME, budget - grown + 10)
        for trace, side in _fold(domain, int(room), traces, cell, draw):
            traces.append(trace)
            sides.append(side)
            grown += len(trace)
    return traces, sides


def _norm(vectors: Array) -> Array:
    """Lengths (*b,) of vectors (*b, 3)."""
    return np.sqrt(np.einsum("...i,...i->...", vectors, vectors))


def _cross(a: Array, b: Array) -> Array:
    """The cross products (n, 3) of vectors (n, 3)."""
    (x, y, z), (u, v, w) = a.T, b.T
    return np.stack([y * w - z * v, z * u - x * w, x * v - y * u], 1)


class _Draw:
    """Random numbers from one generator: uniform doubles only, which are the same on every platform."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed % 2**63)

    def uniform(self, *shape: int) -> Array:
        return torch.rand(*shape, generator=self._generator, dtype=torch.float64).numpy()

    def integer(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return low + int(self.uniform(1)[0] * (high - low + 1))

    def direction(self, n: int) -> Array:
        """(n, 3) unit vectors, uniform."""
        u = self.uniform(n, 2)
        z, azimuth = 2 * u[:, 0] - 1, 2 * math.pi * u[:, 1]
        r = np.sqrt(np.maximum(1 - z * z, 0))
        return np.stack([r * np.cos(azimuth), r * np.sin(azimuth), z], 1)

    def frame(self, n: int) -> Array:
        """(n, 3, 3) rotations, uniform: third column the axis."""
        axis = self.direction(n)
        first = _cross(axis, self.direction(n))
        first = first / np.maximum(_norm(first), 1e-9)[:, None]
        return np.stack([first, _cross(axis, first), axis], 2)


class _Cell:
    """The points nearer to a generic direction than to its copies under the group."""

    def __init__(self, group: Array, draw: _Draw) -> None:
        trial = draw.direction(64)
        copies = np.einsum("gij,nj->ngi", group[1:], trial)
        planes = trial[:, None] - copies
        gap = _norm(planes).min(1) if len(group) > 1 else np.ones(64)
        # among the directions far from the axes any will do; the first keeps it generic
        best = int((gap > 0.9 * gap.max()).argmax())
        self._normal = planes[best] / _norm(planes[best])[:, None]

    def depth(self, points: Array) -> Array:
        """Distance (*b,) of points (*b, 3) to the nearest wall, negative outside; infinite without symmetry."""
        if len(self._normal) == 0:
            return np.full(points.shape[:-1], np.inf)
        return (points @ self._normal.T).min(-1)


def _next_domain(
    domains: list[tuple[Array, float]], axes: Array, cell: _Cell, draw: _Draw
) -> tuple[Array, float] | None:
    """Centre and radius of another globule within the ellipsoid of semi-axes ``axes`` (3,) Å, or None.

    It touches the earlier ones; the first cuts into the wall of the cell, where the copies meet.
    """
    for shrink in (1.0, 0.8, 0.6, 0.45):
        size = shrink * min(12 + 8 * float(draw.uniform(1)[0]), float(axes.min()) / 2)
        if domains:
            index = (draw.uniform(256) * len(domains)).astype(int)
            centres = np.stack([centre for centre, _ in domains])
            sizes = np.array([r for _, r in domains])
            trial = centres[index] + 0.95 * (sizes[index] + size)[:, None] * draw.direction(256)
            good = (_norm(trial[:, None] - centres) > 0.9 * (sizes + size)).all(1)
            good &= cell.depth(trial) > 0.5 * size
        else:
            trial = axes * draw.uniform(256)[:, None] * draw.direction(256)
            depth = cell.depth(trial)
            good = np.isinf(depth) | ((depth > 0.6 * size) & (depth < 0.9 * size))
        good &= _norm(trial / (axes - size)) < 1
        if good.any():
            return trial[int(good.argmax())], size
    return None


def _fold(
    domain: tuple[Array, float],
    n_residues: int,
    placed: list[Array],
    cell: _Cell,
    draw: _Draw,
) -> list[tuple[Array, Array]]:
    """Chains inside a domain: for each the C-alphas (l, 3) and a vector (l, 3) that the carbonyls follow."""
    centre, size = domain
    near = [t[_norm(t - centre) < size + 12] for t in placed]
    others = np.concatenate([*near, np.zeros((0, 3))])
    chains: list[tuple[Array, Array]] = []
    total, failures = 0, 0
    while total < n_residues and failures < 12:
        # a new chain starts anywhere free in the domain
        far = size * draw.uniform(CHAIN_TRIALS, 1) ** (1 / 3)
        start = centre + far * draw.direction(CHAIN_TRIALS)
        good = (cell.depth(start) > MARGIN) & _free(start[:, None], others)
        if not good.any():
            failures += 1
            continue
        trace = start[int(good.argmax())][None]
        side = draw.direction(1)
        while total + len(trace) < n_residues:
            piece = _next_piece(trace, others, domain, cell, draw)
            if piece is None:
                break
            trace, side = np.concatenate([trace, piece[0]]), np.concatenate([side, piece[1]])
        others = np.concatenate([others, trace])
        if len(trace) >= 6:
            chains.append((trace, side))
            total += len(trace)
        else:
            failures += 1
    return chains


def _next_piece(
    trace: Array, others: Array, domain: tuple[Array, float], cell: _Cell, draw: _Draw
) -> tuple[Array, Array] | None:
    """The next helix, strand or loop of a chain: the best placed of some random ones, or None in a dead end."""
    centre, size = domain
    obstacles = np.concatenate([others, trace[:-2]])
    # where no helix or strand fits any more, a loop may lead out
    kinds = ("helix", "strand", "loop") if draw.uniform(1)[0] < 0.6 else ("strand", "loop", "loop")
    for kind in kinds:
        if kind == "loop":
            points, sides = _loops(trace, draw.integer(2, 5), draw)
        else:
            shape = HELIX if kind == "helix" else STRAND
            length = draw.integer(8, 18) if kind == "helix" else draw.integer(4, 8)
            points, sides = _elements(trace[-1], shape, length, draw)
        inside = _norm(points - centre).max(1) < size
        good = np.flatnonzero(inside & (cell.depth(points) > MARGIN).all(1))
        good = good[_free(points[good], obstacles)]
        if len(good):
            cost = np.square(points[good] - centre).sum(2).mean(1)
            best = good[int(cost.argmin())]
            return points[best], sides[best]
    return None


def _free(points: Array, obstacles: Array) -> NDArray[np.bool_]:
    """(t,) whether none of the points (t, l, 3) comes closer than ``CLASH`` to the obstacles (n, 3)."""
    if len(obstacles) == 0 or len(points) == 0:
        return np.ones(len(points), dtype=bool)
    flat = points.reshape(-1, 3)
    reach = np.square(obstacles).sum(1) - 2 * (flat @ obstacles.T)  # |p - o|^2 - |p|^2
    gap = reach.min(1) + np.square(flat).sum(1)
    return (gap > CLASH**2).reshape(points.shape[:2]).all(1)


def _elements(
    end: Array, shape: tuple[float, float, float], n: int, draw: _Draw
) -> tuple[Array, Array]:
    """Random helices or strands (t, n, 3) one step from ``end``, with the carbonyl directions (t, n, 3)."""
    radius, rise, turn = shape
    i = np.arange(n)
    local = np.stack([radius * np.cos(turn * i), radius * np.sin(turn * i), rise * i], 1)
    frame = draw.frame(CHAIN_TRIALS)
    start = end + RESIDUE_STEP * draw.direction(CHAIN_TRIALS)
    points = start[:, None] + (local - local[0]) @ frame.transpose(0, 2, 1)
    if shape == HELIX:  # carbonyls point along the axis: the hydrogen bonds of a helix
        return points, np.broadcast_to(frame[:, None, :, 2], points.shape)
    across = frame[:, None, :, 1] * np.where(i % 2 == 0, 1.0, -1.0)[None, :, None]
    return points, across


def _loops(trace: Array, n: int, draw: _Draw) -> tuple[Array, Array]:
    """Random walks (t, n, 3) with C-alpha angles of proteins, 95 to 145 degrees."""
    if len(trace) > 1:
        last = trace[-1:] - trace[-2:-1]
        ahead = np.broadcast_to(last / _norm(last), (CHAIN_TRIALS, 3))
    else:
        ahead = draw.direction(CHAIN_TRIALS)
    point = trace[-1]
    points = []
    for _ in range(n):
        across = _cross(ahead, draw.direction(CHAIN_TRIALS))
        across = across / np.maximum(_norm(across), 1e-9)[:, None]
        bend = np.deg2rad(35 + 50 * draw.uniform(CHAIN_TRIALS, 1))
        ahead = np.cos(bend) * ahead + np.sin(bend) * across
        point = point + RESIDUE_STEP * ahead
        points.append(point)
    return np.stack(points, 1), draw.direction(CHAIN_TRIALS * n).reshape(CHAIN_TRIALS, n, 3)


def _decorate(traces: list[Array], sides: list[Array], draw: _Draw) -> tuple[Array, Array]:
    """Backbone and side chains on C-alpha traces: positions (n, 3) Å and electron scattering weights (n,) Å."""
    position, weight = [], []
    for trace, side in zip(traces, sides, strict=True):
        n = len(trace)
        along = trace[1:] - trace[:-1]
        along = along / _norm(along)[:, None]
        up = side[:-1] - (side[:-1] * along).sum(1, keepdims=True) * along
        up = up / np.maximum(_norm(up), 1e-6)[:, None]
        # the planar peptide between two C-alphas: C, O and N at these distances along and across
        for x, y, z in ((1.42, 0.54, 2.51), (1.65, 1.75, 1.98), (2.40, -0.42, 2.21)):
            position.append(trace[:-1] + x * along + y * up)
            weight.append(np.full(n - 1, z))
        # side chains point away from the neighbours; their size is that of a random residue
        bend = 2 * trace[1:-1] - trace[2:] - trace[:-2]
        out = draw.direction(n)
        out[1:-1] = out[1:-1] * 0.35 + bend / np.maximum(_norm(bend), 1e-6)[:, None]
        out = out / np.maximum(_norm(out), 1e-6)[:, None]
        heavy = 6 * draw.uniform(n) ** 1.2  # atoms beyond C-beta
        for distance, share in ((2.4, 0.4), (3.2, 0.35), (4.1, 0.25)):
            jitter = 0.4 * draw.direction(n) * draw.uniform(n, 1)
            position.append(trace + distance * out * (0.7 + heavy[:, None] / 15) + jitter)
            weight.append(2.4 * heavy * share)
        position += [trace, trace + 1.53 * out]
        weight += [np.full(n, 2.51)] * 2
    return np.concatenate(position), np.concatenate(weight)
