"""What a particle file says of its half sets, and of images that more than one particle shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryotorch.data.table import Table
from cryotorch.errors import InputError
from cryotorch.findings import Finding, remark

HALF = "rlnRandomSubset"
ORIGINAL_IMAGE = ("rlnImageOriginalName", "cs/sym_expand/src_uid")
# Å up to which both half sets were aligned to one map when their poses were found; a resolution must lie beyond
SHARED_RESOLUTION = "cryotorchSharedResolution"
VALUES_SHOWN = 5  # values named in a sentence


def read_half_sets(
    table: Table, path: Path, needed: bool, first: int = 1
) -> tuple[np.ndarray, list[Finding]]:
    """Half set (n,) int64 of every particle, 0 or 1, or -1 for all where none are known; what they are called, where not as usual.

    Two distinct whole numbers are two half sets, the smaller one the first, whatever they are.

    Args:
        needed: False tells of a column that is no half sets, instead of refusing it.
        first: what the file counts from where the column counts from 1: 0 for CryoSPARC, which writes 0 for all particles
            where it knows no half sets.

    Raises:
        InputError: values that are no whole numbers, or one or more than two of them.
    """
    none = np.full(table.rows, -1, dtype=np.int64)
    if HALF not in table:
        return none, []
    try:
        half, names = _ranked(table, path, first)
    except InputError as error:
        unknown = first == 0 and (table.raw(HALF) == table.raw(HALF)[0]).all()
        if needed and not unknown:
            raise InputError(
                f"{error}: correct the column, or add half_sets=resplit, in a job that has it, to draw half sets anew."
            ) from None
        return none, [remark("half_sets_unknown", reason=str(error))]
    if names == (first, first + 1):
        return half, []
    called = dict(first=names[0], second=names[1], usual_first=first, usual_second=first + 1)
    where = dict(column=f"_{HALF}", file=str(path))
    return half, [remark("half_sets_named", **where, **called)]


def shared_resolution(table: Table, path: Path) -> float | None:
    """The finest resolution, Å, that ``SHARED_RESOLUTION`` states of any particle; None where it is not known.

    Joined files have 0 for the particles of which nothing is known.

    Raises:
        InputError: it is not a number.
    """
    if SHARED_RESOLUTION not in table:
        return None
    values = table.floats(SHARED_RESOLUTION, path)
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
        more = ", ..." if len(values) > VALUES_SHOWN else ""
        raise InputError(
            f"_{HALF} of {path} has {len(values)} values, {', '.join(map(str, values[:VALUES_SHOWN]))}{more}, which are not two half sets"
        )
    return half.ravel().astype(np.int64), (int(values[0]), int(values[1]))


def read_origins(
    table: Table, address: np.ndarray, path: Path
) -> tuple[np.ndarray | None, list[Finding]]:
    """Number (n,) int64 of the image that each row's, at ``address`` (n, 2), was made of, and that it is so; None where no two of different images were made of one.

    RELION names it in ``rlnImageOriginalName``, CryoSPARC in ``sym_expand/src_uid``. A name without a number of an image, or
    several names for one image, say something else.
    """
    label = next((x for x in ORIGINAL_IMAGE if x in table), None)
    if label is None:
        return None, []
    names = table.raw(label)
    if label == ORIGINAL_IMAGE[0] and not all(b"@" in name for name in names.tolist()):
        return None, []
    found, origin = np.unique(names, return_inverse=True)
    _, image = np.unique(address, axis=0, return_inverse=True)
    images = int(image.max()) + 1
    pairs = np.unique(np.stack([image.ravel(), origin.ravel()], 1), axis=0)
    if len(found) >= images or len(pairs) > images:
        return None, []
    where = dict(file=str(path), column=label.removeprefix("cs/"))
    made = remark("images_of_few", images=images, originals=len(found), **where)
    return origin.ravel().astype(np.int64), [made]


def told_copies(address: np.ndarray, path: Path) -> list[Finding]:
    """Whether several rows show one image; addresses (n, 2)."""
    _, times = np.unique(address, axis=0, return_counts=True)
    if len(times) == len(address):
        return []
    rows = dict(rows=len(address), file=str(path), images=len(times), times=int(times.max()))
    if times.min() == times.max():
        return [remark("rows_expanded", **rows)]
    return [remark("rows_partly_expanded", **rows)]
