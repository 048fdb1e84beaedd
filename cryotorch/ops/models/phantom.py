"""A protein-like test molecule, generated: chains of helices, strands and loops folded into domains."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
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
    group = group.double()
    design = max(edge, 60.0)
    traces, sides = _asymmetric_unit(design, group, seed)
    while sum(len(trace) for trace in traces) < MIN_RESIDUES:
        design *= 1.15
        traces, sides = _asymmetric_unit(design, group, seed)
    position, weight = _decorate(traces, sides, _Draw(seed + 1))
    # a shift that commutes with the group: the part of the centre of mass that no operation moves
    centre = (position * weight[:, None]).sum(0) / weight.sum()
    position = position - group.mean(0) @ centre
    # mobile outside, ordered inside
    bfactor = 40 + 80 * (position.norm(dim=1) / (RADIUS * design)) ** 2
    copies = torch.einsum("gij,nj->gni", group, position).flatten(0, 1) * (edge / design)
    bfactor = bfactor.repeat(len(group)) * (edge / design) ** 2
    return PseudoAtoms(copies.float(), weight.repeat(len(group)).float(), bfactor.float())


def _asymmetric_unit(edge: float, group: Tensor, seed: int) -> tuple[list[Tensor], list[Tensor]]:
    """C-alpha traces (l, 3) of the chains of an asymmetric unit, and the vectors their carbonyls follow."""
    draw = _Draw(seed)
    cell = _Cell(group, draw)
    radius = RADIUS * edge
    axes = torch.tensor(ELLIPSOID if len(group) == 1 else (1.0, 1.0, 1.0), dtype=torch.float64)
    volume = 4 / 3 * math.pi * radius**3 * float(axes.prod())
    budget = min(MAX_RESIDUES, FILLING * volume / RESIDUE_VOLUME) / len(group)
    traces: list[Tensor] = []
    sides: list[Tensor] = []
    domains: list[tuple[Tensor, float]] = []
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


class _Draw:
    """Random numbers from one generator: uniform doubles only, which are the same on every platform."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed % 2**63)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self._generator, dtype=torch.float64)

    def integer(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return low + int(self.uniform(1) * (high - low + 1))

    def direction(self, n: int) -> Tensor:
        """(n, 3) unit vectors, uniform."""
        u = self.uniform(n, 2)
        z, azimuth = 2 * u[:, 0] - 1, 2 * math.pi * u[:, 1]
        r = (1 - z * z).clamp_min(0).sqrt()
        return torch.stack([r * azimuth.cos(), r * azimuth.sin(), z], 1)

    def frame(self, n: int) -> Tensor:
        """(n, 3, 3) rotations, uniform: third column the axis."""
        axis = self.direction(n)
        first = torch.linalg.cross(axis, self.direction(n))
        first = first / first.norm(dim=1, keepdim=True).clamp_min(1e-9)
        return torch.stack([first, torch.linalg.cross(axis, first), axis], 2)


class _Cell:
    """The points nearer to a generic direction than to its copies under the group."""

    def __init__(self, group: Tensor, draw: _Draw) -> None:
        trial = draw.direction(64)
        copies = torch.einsum("gij,nj->ngi", group[1:], trial)
        planes = trial[:, None] - copies
        gap = planes.norm(dim=2).amin(1) if len(group) > 1 else torch.ones(64)
        # among the directions far from the axes any will do; the first keeps it generic
        best = int((gap > 0.9 * gap.max()).long().argmax())
        self.direction = trial[best]
        self._normal = planes[best] / planes[best].norm(dim=1, keepdim=True)

    def depth(self, points: Tensor) -> Tensor:
        """Distance (*b,) of points (*b, 3) to the nearest wall, negative outside; infinite without symmetry."""
        if len(self._normal) == 0:
            return torch.full(points.shape[:-1], torch.inf, dtype=points.dtype)
        return (points @ self._normal.T).amin(-1)


def _next_domain(
    domains: list[tuple[Tensor, float]], axes: Tensor, cell: _Cell, draw: _Draw
) -> tuple[Tensor, float] | None:
    """Centre and radius of another globule within the ellipsoid of semi-axes ``axes`` (3,) Å, or None.

    It touches the earlier ones; the first cuts into the wall of the cell, where the copies meet.
    """
    for shrink in (1.0, 0.8, 0.6, 0.45):
        size = shrink * min(12 + 8 * float(draw.uniform(1)), float(axes.min()) / 2)
        if domains:
            index = (draw.uniform(256) * len(domains)).long()
            centres = torch.stack([centre for centre, _ in domains])
            sizes = torch.tensor([r for _, r in domains], dtype=torch.float64)
            trial = centres[index] + 0.95 * (sizes[index] + size)[:, None] * draw.direction(256)
            good = (torch.cdist(trial, centres) > 0.9 * (sizes + size)).all(1)
            good &= cell.depth(trial) > 0.5 * size
        else:
            trial = axes * draw.uniform(256)[:, None] * draw.direction(256)
            depth = cell.depth(trial)
            good = depth.isinf() | ((depth > 0.6 * size) & (depth < 0.9 * size))
        good &= (trial / (axes - size)).norm(dim=1) < 1
        if good.any():
            return trial[int(good.long().argmax())], size
    return None


def _fold(
    domain: tuple[Tensor, float],
    n_residues: int,
    placed: list[Tensor],
    cell: _Cell,
    draw: _Draw,
) -> list[tuple[Tensor, Tensor]]:
    """Chains inside a domain: for each the C-alphas (l, 3) and a vector (l, 3) that the carbonyls follow."""
    centre, size = domain
    near = [t[(t - centre).norm(dim=1) < size + 12] for t in placed]
    others = torch.cat([*near, centre.new_zeros(0, 3)])
    chains: list[tuple[Tensor, Tensor]] = []
    total, failures = 0, 0
    while total < n_residues and failures < 12:
        # a new chain starts anywhere free in the domain
        start = centre + size * draw.uniform(CHAIN_TRIALS, 1) ** (1 / 3) * draw.direction(
            CHAIN_TRIALS
        )
        good = (cell.depth(start) > MARGIN) & _free(start[:, None], others)
        if not good.any():
            failures += 1
            continue
        trace = start[int(good.long().argmax())][None]
        side = draw.direction(1)
        while total + len(trace) < n_residues:
            piece = _next_piece(trace, others, domain, cell, draw)
            if piece is None:
                break
            trace, side = torch.cat([trace, piece[0]]), torch.cat([side, piece[1]])
        others = torch.cat([others, trace])
        if len(trace) >= 6:
            chains.append((trace, side))
            total += len(trace)
        else:
            failures += 1
    return chains


def _next_piece(
    trace: Tensor, others: Tensor, domain: tuple[Tensor, float], cell: _Cell, draw: _Draw
) -> tuple[Tensor, Tensor] | None:
    """The next helix, strand or loop of a chain: the best placed of some random ones, or None in a dead end."""
    centre, size = domain
    obstacles = torch.cat([others, trace[:-2]])
    # where no helix or strand fits any more, a loop may lead out
    kinds = ("helix", "strand", "loop") if draw.uniform(1) < 0.6 else ("strand", "loop", "loop")
    for kind in kinds:
        if kind == "loop":
            points, sides = _loops(trace, draw.integer(2, 5), draw)
        else:
            shape = HELIX if kind == "helix" else STRAND
            length = draw.integer(8, 18) if kind == "helix" else draw.integer(4, 8)
            points, sides = _elements(trace[-1], shape, length, draw)
        inside = (points - centre).norm(dim=2).amax(1) < size
        good = inside & (cell.depth(points) > MARGIN).all(1) & _free(points, obstacles)
        if good.any():
            cost = (points - centre).square().sum(2).mean(1)
            best = int(torch.where(good, cost, torch.inf).argmin())
            return points[best], sides[best]
    return None


def _free(points: Tensor, obstacles: Tensor) -> Tensor:
    """(t,) whether none of the points (t, l, 3) comes closer than ``CLASH`` to the obstacles (n, 3)."""
    if len(obstacles) == 0:
        return torch.ones(len(points), dtype=torch.bool)
    gap = torch.cdist(points.flatten(0, 1), obstacles).amin(1)
    return (gap > CLASH).view(points.shape[:2]).all(1)


def _elements(
    end: Tensor, shape: tuple[float, float, float], n: int, draw: _Draw
) -> tuple[Tensor, Tensor]:
    """Random helices or strands (t, n, 3) one step from ``end``, with the carbonyl directions (t, n, 3)."""
    radius, rise, turn = shape
    i = torch.arange(n, dtype=torch.float64)
    local = torch.stack([radius * (turn * i).cos(), radius * (turn * i).sin(), rise * i], 1)
    frame = draw.frame(CHAIN_TRIALS)
    start = end + RESIDUE_STEP * draw.direction(CHAIN_TRIALS)
    points = start[:, None] + torch.einsum("tij,nj->tni", frame, local - local[0])
    if shape == HELIX:  # carbonyls point along the axis: the hydrogen bonds of a helix
        return points, frame[:, None, :, 2].expand(-1, n, -1)
    across = frame[:, None, :, 1] * torch.where(i % 2 == 0, 1.0, -1.0)[None, :, None]
    return points, across


def _loops(trace: Tensor, n: int, draw: _Draw) -> tuple[Tensor, Tensor]:
    """Random walks (t, n, 3) with C-alpha angles of proteins, 95 to 145 degrees."""
    if len(trace) > 1:
        ahead = ((trace[-1] - trace[-2]) / (trace[-1] - trace[-2]).norm()).expand(CHAIN_TRIALS, 3)
    else:
        ahead = draw.direction(CHAIN_TRIALS)
    point = trace[-1].expand(CHAIN_TRIALS, 3)
    points = []
    for _ in range(n):
        across = torch.linalg.cross(ahead, draw.direction(CHAIN_TRIALS))
        across = across / across.norm(dim=1, keepdim=True).clamp_min(1e-9)
        bend = torch.deg2rad(35 + 50 * draw.uniform(CHAIN_TRIALS, 1))
        ahead = bend.cos() * ahead + bend.sin() * across
        point = point + RESIDUE_STEP * ahead
        points.append(point)
    return torch.stack(points, 1), draw.direction(CHAIN_TRIALS * n).view(CHAIN_TRIALS, n, 3)


def _decorate(traces: list[Tensor], sides: list[Tensor], draw: _Draw) -> tuple[Tensor, Tensor]:
    """Backbone and side chains on C-alpha traces: positions (n, 3) Å and electron scattering weights (n,) Å."""
    position, weight = [], []
    for trace, side in zip(traces, sides, strict=True):
        n = len(trace)
        along = trace[1:] - trace[:-1]
        along = along / along.norm(dim=1, keepdim=True)
        up = side[:-1] - (side[:-1] * along).sum(1, keepdim=True) * along
        up = up / up.norm(dim=1, keepdim=True).clamp_min(1e-6)
        # the planar peptide between two C-alphas: C, O and N at these distances along and across
        for x, y, z in ((1.42, 0.54, 2.51), (1.65, 1.75, 1.98), (2.40, -0.42, 2.21)):
            position.append(trace[:-1] + x * along + y * up)
            weight.append(torch.full((n - 1,), z, dtype=torch.float64))
        # side chains point away from the neighbours; their size is that of a random residue
        bend = 2 * trace[1:-1] - trace[2:] - trace[:-2]
        out = draw.direction(n)
        out[1:-1] = out[1:-1] * 0.35 + bend / bend.norm(dim=1, keepdim=True).clamp_min(1e-6)
        out = out / out.norm(dim=1, keepdim=True).clamp_min(1e-6)
        heavy = 6 * draw.uniform(n) ** 1.2  # atoms beyond C-beta
        for distance, share in ((2.4, 0.4), (3.2, 0.35), (4.1, 0.25)):
            jitter = 0.4 * draw.direction(n) * draw.uniform(n, 1)
            position.append(trace + distance * out * (0.7 + heavy[:, None] / 15) + jitter)
            weight.append(2.4 * heavy * share)
        position += [trace, trace + 1.53 * out]
        weight += [torch.full((n,), 2.51, dtype=torch.float64)] * 2
    return torch.cat(position), torch.cat(weight)
