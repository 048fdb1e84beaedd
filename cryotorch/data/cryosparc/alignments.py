"""Which pose of a particle counts where a .cs file holds one per class, and which particles are of a class.

Heterogeneous refinement writes the poses against all K maps: arrays (n, K, ...) in ``alignments3D_multi/...`` since
CryoSPARC 4.5, fields (n, ...) in ``alignments_class_<k>/...`` before.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cryotorch.errors import InputError
from cryotorch.findings import Finding, remark

MULTI = "alignments3D_multi"
# The fields of one alignment that become columns, and how many values each holds per particle.
WIDTHS = {"pose": 3, "shift": 2, "psize_A": 0, "split": 0, "alpha": 0}
POSTERIOR, CLASS = "class_posterior", "class"
_OF_CLASS = re.compile(r"alignments_class_(\d+)/(.+)")
MANY_CLASSES = re.compile(rf"{MULTI}|alignments_class_\d+")
PLAIN = ("alignments3D/class", "alignments2D/class")


@dataclass(frozen=True)
class Classes:
    """The alignments against K maps.

    Attributes:
        family: what their fields begin with.
        number: (n, K) the class that each is of, as CryoSPARC counts, from 0.
        posterior: (n, K) probability of the class.
        each: field -> (n, K, ...), or (n, ...) where all classes share it.
    """

    family: str
    number: np.ndarray
    posterior: np.ndarray
    each: dict[str, np.ndarray]


def pick_alignment(
    fields: dict[str, np.ndarray], which: int | None, path: Path
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[Finding]]:
    """The fields of the particles of class ``which`` (None: of all), one alignment of each where there are several, and what was chosen.

    Fields are (n, ...). The alignment is that against the map of the most probable class, as fields ``alignments3D/...``. Poses that are there already stay,
    unless a class is chosen.

    Raises:
        InputError: there are no classes, or none of that number.
    """
    classes = _classes(fields, path)
    if classes is None:
        name = next((x for x in PLAIN if x in fields), None)
        if which is None:
            return fields, {}, []
        rows, told = rows_of_class(None if name is None else fields[name], which, path)
        return {x: values[rows] for x, values in fields.items()}, {}, [told]
    best = np.where(np.isnan(classes.posterior), -np.inf, classes.posterior).argmax(1)
    row = np.arange(len(best))
    found = classes.number[row, best]
    posed, poses = "alignments3D/pose" in fields, "pose" in classes.each
    if posed and poses and which is None:
        where = dict(file=str(path), family=classes.family)
        return fields, {}, [remark("class_poses_unused", **where)]
    aligned = {
        f"alignments3D/{name}": values[row, best] if _per_class(name, values) else values
        for name, values in classes.each.items()
    }
    aligned["alignments3D/class"] = found
    if which is None:
        numbers, count = np.unique(np.append(found, classes.number[0]), return_counts=True)
        there = np.isin(numbers, classes.number[0])
        counts = ", ".join(f"{k}: {c}" for k, c in zip(numbers, count - there, strict=True))
        what = "pose" if poses else "number"
        where = dict(file=str(path), family=classes.family)
        taken = remark("likeliest_class", **where, what=what, counts=counts)
        return fields, aligned, [taken]
    rows, told = rows_of_class(found, which, path)
    taken, aligned = ({x: v[rows] for x, v in side.items()} for side in (fields, aligned))
    return taken, aligned, [told]


def rows_of_class(found: np.ndarray | None, which: int, path: Path) -> tuple[np.ndarray, Finding]:
    """Rows of the particles of class ``which`` among ``found`` (n,), None = not known, and how many; raises InputError where there are none."""
    if found is None:
        raise InputError(
            f"class={which} cannot be used: {path} says of no particle which class it is of, leave it out."
        )
    rows = np.flatnonzero(found == which)
    if not len(rows):
        numbers, count = np.unique(found, return_counts=True)
        there = ", ".join(f"{k} ({c})" for k, c in zip(numbers[:20], count[:20], strict=True))
        raise InputError(
            f"class={which} cannot be used: no particle of {path} is of that class, choose one of {there}."
        )
    count = {"particles": len(found), "taken": len(rows), "class": which}
    return rows, remark("class_taken", file=str(path), **count)


def _per_class(name: str, values: np.ndarray) -> bool:
    return values.ndim == (3 if WIDTHS[name] else 2)


def _classes(fields: dict[str, np.ndarray], path: Path) -> Classes | None:
    """The alignments of several classes in a file; None where there are none, or nothing says how probable each class is."""
    multi = {x.partition("/")[2]: v for x, v in fields.items() if x.startswith(f"{MULTI}/")}
    family = MULTI
    if POSTERIOR not in multi:
        parts = [(m[1], m[2]) for m in map(_OF_CLASS.fullmatch, fields) if m]
        numbers = sorted({k for k, _ in parts}, key=int)
        names = [x for x, k in Counter(x for _, x in parts).items() if k == len(numbers)]
        family = "alignments_class_<k>"
        try:
            multi = {
                x: np.stack([fields[f"alignments_class_{k}/{x}"] for k in numbers], 1)
                for x in names
            }
        except ValueError:
            raise InputError(
                f"Fields {family} of {path} differ in shape: the file is damaged."
            ) from None
        multi.setdefault(CLASS, np.array([list(map(int, numbers))] * len(fields["uid"])))
    posterior = multi.get(POSTERIOR)
    if posterior is None:
        return None
    n, each = len(fields["uid"]), {x: multi[x] for x in WIDTHS if x in multi}
    if posterior.ndim != 2 or not posterior.size or posterior.dtype.kind != "f":
        raise InputError(
            f"{family}/{POSTERIOR} of {path} is no table of numbers: the file is damaged."
        )
    classes = posterior.shape[1]
    for name, values in each.items():
        inner = (WIDTHS[name],) if WIDTHS[name] else ()
        if values.shape not in ((n, classes, *inner), (n, *inner)):
            raise InputError(
                f"{family}/{name} of {path} has the shape {values.shape} for {classes} classes: the file is damaged."
            )
    number = multi.get(CLASS)
    if number is not None and number.dtype.kind not in "iu":
        raise InputError(f"{family}/{CLASS} of {path} holds no whole numbers: the file is damaged.")
    if number is None or number.shape != (n, classes):
        number = np.tile(np.arange(classes), (n, 1))
    return Classes(family, number.astype(np.int64), posterior, each)
