"""Point groups in RELION's axes, and what they do to volumes and directions."""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

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


def rotate_volume(volume: Tensor, rotation: Tensor) -> Tensor:
    """The volume (d, d, d) turned about pixel d // 2: what lay at x comes to lie at R x.

    Trilinear on a grid that is twice as fine (Fourier interpolation), so exact for turns that map
    the grid onto itself, and at Nyquist weaker by up to sinc^2(1/4) = 0.81 per direction for the
    others. Outside the box: zero.
    """
    box = volume.shape[-1]
    points = _centred_points(box, volume)
    fine = resize_volume(volume, 2 * box)
    turn = to_device(rotation, points.device, points.dtype)
    return _sample(fine, points @ turn).reshape(volume.shape)


def symmetrise_volume(volume: Tensor, group: Tensor) -> Tensor:
    """The mean of a volume (d, d, d) turned by the rotations of a group (g, 3, 3), as ``rotate_volume`` turns."""
    points = _centred_points(volume.shape[-1], volume)
    fine = resize_volume(volume, 2 * volume.shape[-1])
    total = torch.zeros_like(points[:, 0])
    for rotation in group.to(points):
        total += _sample(fine, points @ rotation)
    return (total / len(group)).reshape(volume.shape)


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


def _centred_points(box: int, like: Tensor) -> Tensor:
    """(d^3, 3) coordinates (x, y, z) of the voxels relative to pixel d // 2, in memory order."""
    line = torch.arange(box, dtype=like.dtype, device=like.device) - box // 2
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
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
