"""A second rigid body beside a first: how it moves about a hinge, its poses, where the two meet, and a phantom."""

from __future__ import annotations

import math

import numpy
import torch
from scipy.spatial import KDTree
from torch import Tensor

from cryotorch.ops.geometry.rotations import from_rotation_vector
from cryotorch.ops.masks.soft import distance_transform
from cryotorch.ops.models.gaussians import bfactor_to_sigma, gaussian_density
from cryotorch.ops.models.phantom import PseudoAtoms, phantom_atoms

# The first body of the phantom reaches this share of what a phantom alone reaches: room for the second.
FIRST_BODY_SIZE = 0.9
# Å: the second body is folded for a box of this edge at least, and in a smaller one both are shrunk.
MIN_FOLDING_EDGE = 80.0
# Å between the nearest pseudo-atoms of the two bodies, and what counts as a contact.
CLEARANCE, CONTACT = 4.5, 8.0
# Ways round in which the second body is tried on the first, turned about the line between them.
DOCKING_TRIALS = 12
# Voxels beyond the shortest way from body to body that still belong to the place where they meet.
SLACK = 2.0


def random_motions(
    n: int, rotation: float, shift: float, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """n random rotations Q (n, 3, 3) by at most ``rotation`` radians and shifts t (n, 3) of at most ``shift``, float64.

    Rotation vectors and shifts are uniform in the ball: of all amounts up to the largest, a fraction f^3 is below f
    times it. Up to 30 degrees this is uniform on the rotations to a few percent.
    """
    direction = torch.randn(2, n, 3, generator=generator, dtype=torch.float64)
    direction = direction / direction.norm(dim=2, keepdim=True)
    amount = torch.rand(2, n, 1, generator=generator, dtype=torch.float64) ** (1 / 3)
    vector, move = direction * amount * torch.tensor([rotation, shift]).double()[:, None, None]
    return from_rotation_vector(vector), move


def moved_poses(
    rotation: Tensor, shift: Tensor, turn: Tensor, move: Tensor, hinge: Tensor
) -> tuple[Tensor, Tensor]:
    """Poses (R2, s2) that show a body at rest as if it had moved in the reference frame.

    The body moves as x -> Q (x - h) + h + t, then the particle's pose (R, s) acts, u = (R x)_xy - s:

        R2 = R Q,      s2 = s - (R (h - Q h + t))_xy

    rotation R (n, 3, 3), shift s (n, 2), turn Q (n, 3, 3), move t (n, 3), hinge h (3,) from the box's origin; lengths
    in one unit. Returns float64.
    """
    rotation, turn, hinge = rotation.double(), turn.double(), hinge.double()
    carried = hinge - turn @ hinge + move.double()
    seen = (rotation @ carried[..., None])[..., :2, 0]
    return rotation @ turn, shift.double() - seen


def meeting_point(first: Tensor, second: Tensor) -> Tensor:
    """Where two regions (d, d, d) bool meet: (3,) float64, (x, y, z) in voxels from the corner.

    The mean of the voxels from which the way to the one plus the way to the other is shortest, give or take
    ``SLACK``: of the interface where they touch, of the gap where they do not. ValueError where one is empty.
    """
    if not (first.any() and second.any()):
        raise ValueError("Bodies meet somewhere only where both have density.")
    limit = 8.0
    while True:  # the work grows with the limit, and most bodies are close
        way = distance_transform(first, limit) + distance_transform(second, limit)
        shortest = float(way.min()) + SLACK
        if shortest < limit:
            return (way <= shortest).nonzero().double().mean(0).flip(0)
        limit *= 2


def two_body_phantom(
    box: int, pixel_size: float, size: float = 0.6, seed: int = 0, resolution: float | None = None
) -> Tensor:
    """The densities (2, d, d, d) float32 of ``two_body_atoms`` at rest, on one grid and grey scale.

    ``resolution`` Å, two pixels by default.
    """
    blur = 0.225 * (resolution or 2 * pixel_size)  # as in ``phantom``
    maps = []
    for atoms in two_body_atoms(box * pixel_size, size, seed):
        sigma = (bfactor_to_sigma(atoms.bfactor) ** 2 + blur**2).sqrt()
        maps.append(gaussian_density(atoms.position, atoms.weight, sigma, box, pixel_size))
    return torch.stack(maps)


def two_body_atoms(
    edge: float, size: float = 0.6, seed: int = 0
) -> tuple[PseudoAtoms, PseudoAtoms]:
    """The pseudo-atoms of two phantoms that touch like domains of one molecule, for a box of ``edge`` Å.

    The second one, ``size`` times as large, comes down along the z axis, the short one of both, until atoms are
    ``CLEARANCE`` apart, the way round that has most contacts. Their common centre of mass is the origin. Where the
    box is too small for two proteins, larger ones are shrunk together.
    """
    alone = torch.eye(3)[None]
    design = max(edge, MIN_FOLDING_EDGE / (size * FIRST_BODY_SIZE))
    first = phantom_atoms(FIRST_BODY_SIZE * design, alone, seed)
    # seed + 1 decorates the first
    second = phantom_atoms(size * FIRST_BODY_SIZE * design, alone, seed + 2)
    best, most = second.position, -1
    for trial in range(DOCKING_TRIALS):
        placed = _put_on_top(first.position, _turned(second.position, trial))
        contacts = _contacts(first.position, placed)
        if contacts > most:
            best, most = placed, contacts
    weight = torch.cat([first.weight, second.weight]).double()[:, None]
    both = torch.cat([first.position, best]).double()
    centre = ((both * weight).sum(0) / weight.sum()).float()
    shrunk = edge / design
    first, second = (
        PseudoAtoms(shrunk * (place - centre), atoms.weight, shrunk**2 * atoms.bfactor)
        for atoms, place in ((first, first.position), (second, best))
    )
    return first, second


def _turned(position: Tensor, trial: int) -> Tensor:
    """Half of the trials upside down."""
    angle = 2 * math.pi * (trial // 2) / (DOCKING_TRIALS // 2)
    flip = torch.tensor([math.pi * (trial % 2), 0.0, 0.0])
    turn = from_rotation_vector(torch.tensor([0.0, 0.0, angle])) @ from_rotation_vector(flip)
    return position @ turn.T


def _put_on_top(below: Tensor, above: Tensor) -> Tensor:
    """``above`` (n, 3) moved along z to where nothing is closer to ``below`` (m, 3) than ``CLEARANCE``.

    Atoms a lateral distance r apart need dz >= sqrt(CLEARANCE^2 - r^2).
    """
    lateral = KDTree(above[:, :2].numpy()).sparse_distance_matrix(
        KDTree(below[:, :2].numpy()), CLEARANCE, output_type="ndarray"
    )
    need = numpy.sqrt(CLEARANCE**2 - lateral["v"] ** 2)
    need += below[:, 2].numpy()[lateral["j"]] - above[:, 2].numpy()[lateral["i"]]
    return above + torch.tensor([0.0, 0.0, need.max(initial=-numpy.inf)]).to(above)


def _contacts(first: Tensor, second: Tensor) -> int:
    return int(KDTree(first.numpy()).count_neighbors(KDTree(second.numpy()), CONTACT))
