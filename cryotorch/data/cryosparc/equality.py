"""Whether two values say the same, one of which went through the rounding of the other format.

A STAR file rounds to six decimals, a .cs file to float32. A value that was carried along unrounded is preferred to
the converted one where both say the same; where they differ, another program has changed the converted one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cryotorch.data.cryosparc.fields import ANGLES, NAME, POSITION
from cryotorch.data.cryosparc.mapping import POSES_AT_ONCE, poses
from cryotorch.data.table import Table
from cryotorch.ops.geometry.rotations import from_rotation_vector, rotation_angle

SAME_ANGLE = 1e-6  # radians


def same_field(
    name: str, made: np.ndarray, kept: np.ndarray, micrograph_shape: np.ndarray | None
) -> np.ndarray:
    """(n,) bool: where a field made of RELION's columns and the one carried along say the same; micrograph_shape (n, 2)."""
    if name == "uid":  # RELION's columns cannot tell another
        return np.ones(len(made), dtype=bool)
    if name == "ctf/exp_group_id":
        return np.full(len(made), one_to_one(made, kept))
    if name == "alignments3D/pose":
        return _same_poses(made, kept)
    if made.dtype.kind == "S":
        same = made == kept
        return same if same.all() else same | (np.char.add(b">", made) == kept)
    slack: float | np.ndarray = 1e-6
    if name == "alignments3D/shift":
        slack = 1e-5  # RELION writes fewer decimals of negative numbers
    if name == "ctf/tilt_A":
        slack = 0.05  # Å: the sixth decimal of a tilt in mrad at Cs = 50 mm
    if name.startswith("location/center_") and micrograph_shape is not None:
        # RELION's positions are whole pixels
        slack = 0.51 / micrograph_shape[:, 1 if "_x_" in name else 0]
    same = np.asarray(np.isclose(made, kept, rtol=1e-6, atol=slack))
    return np.asarray(same.all(1)) if same.ndim == 2 else same


def same_column(label: str, made: np.ndarray, kept: Table, path: Path) -> np.ndarray:
    """(n,) bool: where a column made of CryoSPARC's fields and the one carried along say the same."""
    if label == NAME:
        names = (name.partition(b"@") for name in kept.raw(label).tolist())
        full = [b"%s@%s" % (i.zfill(6), x) if at else b"000001@%s" % i for i, at, x in names]
        return made == np.array(full)
    if made.dtype.kind == "S":
        return made == kept.raw(label)
    slack = 0.51 if label in POSITION else 1e-5
    return np.isclose(made, kept.floats(label, path), rtol=1e-6, atol=slack)


def same_angles(made: dict[str, np.ndarray], kept: Table, path: Path) -> np.ndarray:
    """(n,) bool: which orientations, columns (n,) of angles, are the same; single angles need not be."""
    first = np.stack([made[label] for label in ANGLES], 1)
    second = np.stack([kept.floats(label, path) for label in ANGLES], 1)
    return _same_poses(poses(first), poses(second))


def one_to_one(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two numberings (n,) divide the particles in the same way."""
    pairs = np.unique(np.stack([first, second], 1).astype(np.int64), axis=0)
    return all(len(np.unique(side)) == len(side) for side in pairs.T)


def _same_poses(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Rotation vectors (n, 3)."""
    parts = (torch.from_numpy(x.astype(np.float64)).split(POSES_AT_ONCE) for x in (first, second))
    near = [
        rotation_angle(from_rotation_vector(a), from_rotation_vector(b)) < SAME_ANGLE
        for a, b in zip(*parts, strict=True)
    ]
    return torch.cat(near).numpy()
