"""Poses of a list changed as a whole: expanded by a symmetry and back, moved to another centre, forgotten."""

from __future__ import annotations

import numpy as np
import torch

from cryotorch.data.cryosparc.carried_columns import FIELD, LIST, PREFIX, SHAPE, TYPE
from cryotorch.data.half_sets import HALF, SHARED_RESOLUTION
from cryotorch.data.optics import BOX
from cryotorch.data.particle_file import POSE_SIGMAS
from cryotorch.data.particle_tables import ANGLES, ORIGINS, ORIGINS_PX
from cryotorch.data.table import Table
from cryotorch.errors import InputError
from cryotorch.jobs.curation.particle_list import UID, ParticleList
from cryotorch.ops.geometry.symmetry import point_group

PARENT, GROUP, OPERATOR = (
    *("cryotorchParentParticle", "cryotorchSymmetryGroup"),
    "cryotorchSymmetryOperator",
)
SOURCE_UID = PREFIX + "sym_expand/src_uid"
CHANGES = ("cryotorchRotationChange", "cryotorchShiftChange")


def expanded(particles: ParticleList, symmetry: str) -> ParticleList:
    """Every particle in each of the g orientations that its symmetry cannot tell from the given one: R S for all operators S of the group.

    The rows of a particle follow each other, the given pose first; half set and all else are those of the particle. Three columns say which
    particle of the list (from 1) and which operator of ``point_group`` (from 1) a row has.

    Raises:
        InputError: there are no poses, or the list is expanded already.
    """
    group = point_group(symmetry)
    n, copies = len(particles), len(group)
    where = f"expand_symmetry={symmetry} cannot be used"
    if OPERATOR in particles.table or SOURCE_UID in particles.table:
        raise InputError(
            f"{where}: {particles.path} is symmetry-expanded already, go back first with one_per_image=true"
        )
    if len(np.unique(particles.image_code())) < n:
        raise InputError(
            f"{where}: {particles.path} has several rows of an image, as if it were expanded already: add one_per_image=true"
        )
    try:
        rotation = particles.rotation()
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    many = particles.taken(np.repeat(np.arange(n), copies))
    operator = np.tile(np.arange(copies), n)
    turned = (rotation[:, None] @ group).flatten(0, 1)
    many = many.with_rotation(turned, operator > 0).with_columns(
        {
            PARENT: np.repeat(np.arange(1, n + 1), copies),
            GROUP: np.full(n * copies, symmetry.upper().encode()),
            OPERATOR: operator + 1,
        }
    )
    if UID not in many.table:
        return many
    many = many.with_columns({SOURCE_UID: many.table.column(UID)}).without([UID])
    return _with_field(many, SOURCE_UID)


def one_of_each_image(
    particles: ParticleList, score: np.ndarray | None
) -> tuple[ParticleList, np.ndarray, int]:
    """The row with the best ``score`` (n,) of every image, or the first; of expanded particles in the pose before the operator of its row.

    Also which rows (m,) these are, and for how many an operator was undone.

    Raises:
        InputError: the operators of the rows are none of their group.
    """
    lead = np.zeros(len(particles)) if score is None else -score
    order = np.lexsort((np.arange(len(lead)), lead, particles.image_code()))
    first = np.flatnonzero(np.diff(particles.image_code()[order], prepend=-1))
    rows = np.sort(order[first])
    one = particles.taken(rows)
    if OPERATOR not in one.table:
        return one, rows, 0
    turned = np.zeros(len(one), bool)
    if all(label in one.table for label in ANGLES):
        number = one.table.integers(OPERATOR, one.path) - 1
        rotation = one.rotation()
        for name in np.unique(one.table[GROUP]) if GROUP in one.table else ["C1"]:
            of_it = one.table[GROUP] == name if GROUP in one.table else np.ones(len(one), bool)
            group = _group(str(name), number[of_it], one)
            rotation[of_it] = rotation[of_it] @ group[number[of_it]].mT
        turned = number > 0
        one = one.with_rotation(rotation, turned)
    if SOURCE_UID in one.table:
        one = one.with_columns({UID: one.table.column(SOURCE_UID)})
        one = _with_field(one, UID)
    one = one.without([PARENT, GROUP, OPERATOR, SOURCE_UID])
    return one, rows, int(turned.sum())


def _group(name: str, number: np.ndarray, particles: ParticleList) -> torch.Tensor:
    try:
        group = point_group(name)
    except ValueError:
        group = torch.zeros(0, 3, 3)
    if number.min() < 0 or number.max() >= len(group):
        raise InputError(
            f"one_per_image=true cannot be used: _{GROUP} and _{OPERATOR} of {particles.path} are no symmetry and its operators"
        )
    return group


def recentred(particles: ParticleList, point: np.ndarray) -> ParticleList:
    """Origins by which ``point`` (3,) or (n, 3), Å from the middle of the reference, comes to lie in the middle of each image and of the map.

    The point lies at M^T (R point) - s in the image, with the magnification M, so that s - M^T (R point) brings it to the middle; the map moves
    by -point. The defocus stays that of the old centre. Where standard errors are known, those of the origins get what those of the rotations add, sigma^2 (z^2 + (x^2 + y^2) / 2).

    Raises:
        InputError: there are no poses, or the point lies outside of images.
    """
    try:
        place = np.einsum(
            "nij,nj->ni", particles.rotation().numpy(), np.broadcast_to(point, (len(particles), 3))
        )
    except InputError as error:
        raise InputError(f"recenter cannot be used: {error}") from None
    shift = particles.shift() - np.einsum("nji,nj->ni", particles.magnification(), place[:, :2])
    if BOX in particles.optics:
        edge = particles.numbers(BOX) * particles.pixel_size()
        outside = int((np.abs(shift).max(1) > edge / 2).sum())
        if outside:
            raise InputError(
                f"recenter={point.tolist()} cannot be used: the point lies outside of the images of {outside} particles, choose one nearer to the "
                "middle or extract larger boxes"
            )
    columns = dict(zip(ORIGINS, shift.T, strict=True))
    if all(label in particles.table for label in POSE_SIGMAS):
        turn, move = (particles.table.floats(label, particles.path) for label in POSE_SIGMAS)
        square = place[:, 2] ** 2 + (place[:, :2] ** 2).sum(1) / 2
        columns[POSE_SIGMAS[1]] = np.sqrt(move**2 + np.deg2rad(turn) ** 2 * square)
    return particles.with_columns(columns).without([*ORIGINS_PX])


def columns_of(what: list[str]) -> list[str]:
    """The columns in which a file keeps "angles", "origins" or "half_sets"."""
    found: list[str] = []
    if "angles" in what:
        found += [*ANGLES, POSE_SIGMAS[0], CHANGES[0], SHARED_RESOLUTION]
        found += [f"{PREFIX}{family}/pose" for family in ("alignments3D", "alignments2D")]
    if "origins" in what:
        found += [*ORIGINS, *ORIGINS_PX, POSE_SIGMAS[1], CHANGES[1]]
        found += [f"{PREFIX}{family}/shift" for family in ("alignments3D", "alignments2D")]
    if "half_sets" in what:
        found += [HALF, f"{PREFIX}alignments3D/split"]
    return found


def _with_field(particles: ParticleList, label: str) -> ParticleList:
    """With a column of 64-bit numbers in the list of CryoSPARC's fields, where there is such a list."""
    fields = particles.tables.get(LIST)
    if fields is None or FIELD not in fields:
        return particles
    name = label.removeprefix(PREFIX)
    if name in fields[FIELD]:
        return particles
    row = {FIELD: name, TYPE: "<u8", SHAPE: "-"}
    longer = Table({x: [*fields[x].tolist(), row.get(x, "0")] for x in fields})
    return ParticleList(
        particles.path, {**particles.tables, LIST: longer}, particles.stacks, particles.image
    )
