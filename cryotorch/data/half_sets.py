"""What a particle file says of its half sets, and of images that more than one particle shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryotorch.data.table import Table
from cryotorch.errors import InputError

HALF = "rlnRandomSubset"
ORIGINS = ("rlnImageOriginalName", "cs/sym_expand/src_uid")
# Å up to which both half sets were aligned to one map when their poses were found; a resolution must lie beyond
SHARED = "cryotorchSharedResolution"
SHOWN = 5  # values named in a sentence


def read_half_sets(
    table: Table, path: Path, needed: bool, messages: list[str], first: int = 1
) -> np.ndarray:
    """Half set (n,) int64 of every particle, 0 or 1, or -1 for all where none are known.

    Two distinct whole numbers are two half sets, the smaller one the first, whatever they are.

    Args:
        needed: False tells of a column that is no half sets, instead of refusing it.
        messages: what the half sets are called, where not as usual, is appended.
        first: what the file counts from where the column counts from 1: 0 for CryoSPARC, which writes 0 for all particles
            where it knows no half sets.

    Raises:
        InputError: values that are no whole numbers, or one or more than two of them.
    """
    if HALF not in table:
        return np.full(table.rows, -1, dtype=np.int64)
    try:
        half, names = _ranked(table, path, first)
    except InputError as error:
        unknown = first == 0 and (table.raw(HALF) == table.raw(HALF)[0]).all()
        if needed and not unknown:
            raise InputError(
                f"{error}: correct the column, or add half_sets=resplit to draw half sets anew."
            ) from None
        messages.append(f"{error}: no half sets are known.")
        return np.full(table.rows, -1, dtype=np.int64)
    if names != (first, first + 1):
        messages.append(
            f"_{HALF} of {path} is {names[0]} or {names[1]}: {names[0]} is taken as half set A, {names[1]} as half set B "
            f"({first} and {first + 1} as a rule)."
        )
    return half


def shared_resolution(table: Table, path: Path) -> float | None:
    """The finest resolution, Å, that ``SHARED`` states of any particle; None where it is not known.

    Joined files have 0 for the particles of which nothing is known.

    Raises:
        InputError: it is not a number.
    """
    if SHARED not in table:
        return None
    values = table.floats(SHARED, path)
    values = values[values > 0]
    return float(values.min()) if len(values) else None


def _ranked(table: Table, path: Path, first: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Half set (n,) and the numbers that stand for the two; raises InputError, without a remedy, for other numbers."""
    try:
        values, half = np.unique(table.integers(HALF, path), return_inverse=True)
    except InputError as error:
        raise InputError(str(error).rpartition(": give")[0]) from None
    values = values - 1 + first
    if len(values) == 1:
        raise InputError(
            f"_{HALF} is {values[0]} for all {table.rows} particles of {path}, so that one half set is empty"
        )
    if len(values) > 2:
        more = ", ..." if len(values) > SHOWN else ""
        raise InputError(
            f"_{HALF} of {path} has {len(values)} values, {', '.join(map(str, values[:SHOWN]))}{more}, which are not two half sets"
        )
    return half.ravel().astype(np.int64), (int(values[0]), int(values[1]))


def read_origins(
    table: Table, address: np.ndarray, path: Path, messages: list[str]
) -> np.ndarray | None:
    """Number (n,) int64 of the image that each row's was made of; None where no two of different images were made of one.

    RELION names it in ``rlnImageOriginalName``, CryoSPARC in ``sym_expand/src_uid``. A name without a number of an image, or
    several names for one image, say something else.
    """
    label = next((x for x in ORIGINS if x in table), None)
    if label is None:
        return None
    names = table.raw(label)
    if label == ORIGINS[0] and not all(b"@" in name for name in names.tolist()):
        return None
    found, origin = np.unique(names, return_inverse=True)
    _, image = np.unique(address, axis=0, return_inverse=True)
    images = int(image.max()) + 1
    pairs = np.unique(np.stack([image.ravel(), origin.ravel()], 1), axis=0)
    if len(found) >= images or len(pairs) > images:
        return None
    messages.append(
        f"The {images:,} images of {path} were made of {len(found):,} ({label.removeprefix('cs/')}), whose noise they share: those of "
        "one belong into one half set."
    )
    return origin.ravel().astype(np.int64)


def told_copies(address: np.ndarray, path: Path) -> list[str]:
    """A sentence where several rows show one image; addresses (n, 2)."""
    _, times = np.unique(address, axis=0, return_counts=True)
    if len(times) == len(address):
        return []
    rows = f"{len(address):,} rows of {path} show {len(times):,} images"
    if times.min() == times.max():
        return [f"{rows}, each {times[0]} times: they are taken as symmetry-expanded particles."]
    return [
        f"{rows}, each up to {times.max()} times: they are taken as some of symmetry-expanded particles. Where they are not, keep "
        "one row of each image."
    ]
