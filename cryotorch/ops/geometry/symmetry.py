"""Point groups in RELION's axes, and what they do to volumes and directions."""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.fourier.transforms import resize_volume
from cryotorch.ops.host import to_device

GOLDEN = (1 + math.sqrt(5)) / 2

# (axis, fold) generators; the longer list of axes that follow from them is what the tests check
POLYHEDRAL = {
    "T": (12, [((0, 0, 1), 3), ((0, math.sqrt(2), 1), 2)]),
    "O": (24, [((0, 0, 1), 4), ((1, 1, 1), 3)]),
    "I1": (60, [((0, 0, 1), 2), ((GOLDEN, 0, -1), 5)]),
    "I2": (60, [((0, 0, 1), 2), ((1, 0, GOLDEN), 5)]),
    "I3": (60, [((0, 0, 1), 5), ((-1, 0, GOLDEN), 2)]),
    "I4": (60, [((0, 0, 1), 5), ((1, 0, GOLDEN), 2)]),
}

PLANES = 16  # of a volume at once

# On no rotation axis of any group above, so that its orbit has as many members as the group.
GENERIC = (0.3571, 0.1949, 0.9135)


def point_group(name: str) -> Tensor:
    """The rotations of a point group, identity first: (g, 3, 3) float64.

    Axes as in RELION: Cn n-fold on z; Dn also 2-fold on x; T 3-fold on z and 2-fold on (0, 0.8165,
    0.5774); O 4-fold on z and 3-fold on (1, 1, 1); I1 and I2 (= I) 2-folds on x, y, z, with the
    front-most 5-folds in the yz and the xz plane; I3 and I4 5-fold on z, 2-fold on (-0.5257, 0,
    0.8507) and (0.5257, 0, 0.8507). Upper or lower case. ValueError for any other name.
    """
    key = name.strip().upper()
    if match := re.fullmatch(r"([CD])0*([1-9]\d{0,2})", key):
        family, fold = match[1], int(match[2])
        order, axes = fold, [((0, 0, 1), fold)]
        if family == "D":
            order, axes = 2 * fold, [*axes, ((1, 0, 0), 2)]
    elif (key := "I2" if key == "I" else key) in POLYHEDRAL:
        order, axes = POLYHEDRAL[key]
    else:
        raise ValueError(
            "symmetry must be one of C1, C2, ..., D1, D2, ..., T, O, I, I1, I2, I3, I4, "
            f"got {name!r}."
        )
    group = _closure(torch.stack([_turn(axis, fold) for axis, fold in axes]))
    if len(group) != order:
        raise ValueError(f"The generators of {key} close to {len(group)} rotations, not {order}.")
    return group


def _turn(axis: tuple[float, float, float], fold: int) -> Tensor:
    """Rotation by 2 pi / fold about an axis (Rodrigues' formula)."""
    x, y, z = (torch.tensor(axis, dtype=torch.float64) / math.hypot(*axis)).tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    angle = 2 * math.pi / fold
    identity = torch.eye(3, dtype=torch.float64)
    return identity + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def _closure(generators: Tensor, most: int = 2000) -> Tensor:
    """All products of the generators, each once, as they are met from the identity on."""
    group = torch.eye(3, dtype=torch.float64)[None]
    fresh = group
    while len(fresh) and len(group) <= most:
        products = (fresh[:, None] @ generators).reshape(-1, 3, 3)
        fresh = group[:0]
        for product in products:
            known = torch.cat([group, fresh])
            if (known - product).abs().amax((1, 2)).min() > 1e-6:
                fresh = torch.cat([fresh, product[None]])
        group = torch.cat([group, fresh])
    return group


def cosets(group: Tensor) -> tuple[Tensor, Tensor]:
    """The rotations that map the grid onto itself (h, 3, 3), and one of each of their left cosets c H (c, 3, 3), identity first.

    Of a set (g, 3, 3) that is no union of such cosets, h is 1.
    """
    on_grid = (group.abs() - group.abs().round()).abs().amax((1, 2)) < 1e-9
    grid, rest = group[on_grid].round(), group
    products = (grid[:, None] @ grid).flatten(0, 1)
    if (products[:, None] != grid).flatten(2).any(2).all(1).any():
        return group[:1], group
    representatives = []
    while len(rest):
        first = rest[0]
        # of all members the one that moves the fewest axes, as on an axis of the grid interpolation is cheap
        members = first @ grid
        distance = (rest[:, None] - members).abs().amax((2, 3)).amin(1)
        if int((distance < 1e-6).sum()) != len(grid):
            return group[:1], group
        best = members.abs().isclose(members.new_ones(())).flatten(1).sum(1).argmax()
        representatives.append(members[best] if representatives else first)
        rest = rest[distance >= 1e-6]
    return grid, torch.stack(representatives)


def rotate_volume(volume: Tensor, rotation: Tensor) -> Tensor:
    """The volume (d, d, d) turned about pixel d // 2: what lay at x comes to lie at R x.

    Trilinear on a grid that is twice as fine (Fourier interpolation), so exact for turns that map
    the grid onto itself, and at Nyquist weaker by up to sinc^2(1/4) = 0.81 per direction for the
    others. Outside the box: zero.
    """
    return move_volume(volume, 1.0, rotation, torch.zeros(3), volume.shape[-1], 1.0)


def move_volume(
    volume: Tensor,
    pixel_size: float,
    rotation: Tensor,
    shift: Tensor,
    box: int,
    new_pixel_size: float,
) -> Tensor:
    """A volume (d, d, d) moved onto another grid (e, e, e): what lay at x comes to lie at R x + shift, from pixel d // 2 and e // 2.

    Interpolated as ``rotate_volume`` says; what is finer than two of larger new pixels is taken out before. ``rotation`` (3, 3) is
    orthogonal, with determinant -1 for the other hand; ``shift`` (3,) is in the unit of the pixel sizes.
    """
    if new_pixel_size > 1.001 * pixel_size:
        volume = low_pass(volume, pixel_size, 2 * new_pixel_size, "rectangular")
    fine = resize_volume(volume, 2 * volume.shape[-1])
    turn, start = (to_device(t, volume.device, volume.dtype) for t in (rotation, shift))
    parts = []
    for planes in torch.arange(box).split(PLANES):
        points = _centred_points(box, volume, planes) * new_pixel_size - start
        parts.append(_sample(fine, points @ turn / pixel_size))
    return torch.cat(parts).reshape(box, box, box)


def symmetrise_volume(volume: Tensor, group: Tensor) -> Tensor:
    """The mean of a volume (d, d, d) turned by the rotations of a group (g, 3, 3), as ``rotate_volume`` turns.

    Rotations that map the grid onto itself only move voxels, round the box's edge where it is even; interpolation is left with
    one of each of their ``cosets``.
    """
    grid, representatives = cosets(group.cpu().double())
    volume = _mean_of_permuted(volume, grid)
    if len(representatives) == 1:
        return volume
    box, fine = volume.shape[-1], resize_volume(volume, 2 * volume.shape[-1])
    total, known = torch.zeros_like(volume), torch.zeros_like(volume)
    for planes in torch.arange(box).split(PLANES):
        points = _centred_points(box, volume, planes)
        # the others are turned copies of these
        leads = torch.nonzero(in_asymmetric_unit(points, grid))[:, 0]
        points = points[leads]
        values = volume[planes[0] : planes[-1] + 1].flatten()[leads]
        for rotation in representatives[1:].to(points):
            values += _sample(fine, points @ rotation)
        at = leads + int(planes[0]) * box**2
        total.view(-1)[at], known.view(-1)[at] = values / len(representatives), 1.0
    total, known = _mean_of_permuted(total, grid), _mean_of_permuted(known, grid)
    return torch.where(known > 0, total / known.clamp_min(1 / len(grid)), volume)


def _mean_of_permuted(volume: Tensor, grid: Tensor) -> Tensor:
    """The mean of a volume (d, d, d) turned by rotations (h, 3, 3) that map axes onto axes."""
    if len(grid) == 1:
        return volume
    total = torch.zeros_like(volume)
    for rotation in grid:
        total += _permuted(volume, rotation)
    return total.div_(len(grid))


def _permuted(volume: Tensor, rotation: Tensor) -> Tensor:
    """A volume (d, d, d) turned by a rotation that maps axes onto axes: what lay at x comes to lie at R x, modulo d."""
    # axis i of the result, x first, is axis to[i] of the volume
    to = rotation.abs().argmax(1).tolist()
    turned = [2 - i for i in range(3) if rotation[i, to[i]] < 0]
    out = volume.permute([2 - to[2 - d] for d in range(3)]).flip(turned)
    if volume.shape[-1] % 2 or not turned:
        return out
    return out.roll([1] * len(turned), turned)


def symmetry_correlation(volume: Tensor, group: Tensor) -> Tensor:
    """Pearson correlation (g,) of a volume with its copies turned by the rotations of a group.

    Volume (d, d, d), group (g, 3, 3); over the voxels within d/2 - 1 of pixel d // 2. All 1 for a
    map that has the symmetry on these axes.
    """
    box = volume.shape[-1]
    points = _centred_points(box, volume)
    inside = points.norm(dim=-1) <= box / 2 - 1
    points = points[inside]
    fine = resize_volume(volume, 2 * box)
    here = _sample(fine, points)
    return torch.stack([_correlation(here, _sample(fine, points @ r)) for r in group.to(points)])


def _centred_points(box: int, like: Tensor, planes: Tensor | None = None) -> Tensor:
    """(d^3, 3) coordinates (x, y, z) of the voxels relative to pixel d // 2, in memory order; of some planes only."""
    line = torch.arange(box, dtype=like.dtype, device=like.device) - box // 2
    along_z = line if planes is None else line[planes.to(like.device)]
    z, y, x = torch.meshgrid(along_z, line, line, indexing="ij")
    return torch.stack([x, y, z], -1).reshape(-1, 3)


def _sample(fine: Tensor, points: Tensor) -> Tensor:
    """Trilinear values (n,) of a twice finer volume at points (n, 3) in the coarse pixels."""
    size = fine.shape[-1]
    grid = (size // 2 + 2 * points) * (2 / (size - 1)) - 1
    return grid_sample(fine[None, None], grid[None, None, None], align_corners=True).reshape(-1)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    a, b = a.double() - a.double().mean(), b.double() - b.double().mean()
    return (a * b).sum() / (a.square().sum() * b.square().sum()).sqrt().clamp(min=1e-300)


def in_asymmetric_unit(direction: Tensor, group: Tensor) -> Tensor:
    """Whether each direction (n, 3) lies in the asymmetric unit of a group (g, 3, 3): (n,) bool.

    The unit is the Dirichlet cell of a generic direction v: u.v >= u.(R v) for all R. It holds one
    direction of every orbit {R u} and 1/g of the sphere; directions on its border (on an axis,
    say) are all kept.
    """
    group = group.to(direction.device, torch.float64)
    centre = torch.tensor(GENERIC, dtype=torch.float64, device=direction.device)
    lead = (centre - group @ centre) @ direction.double().T
    return (lead >= -1e-9).all(0)
