"""CryoSPARC's fields as the tables of a STAR file, and back, with everything that only one of them has a word for.

What both can say is converted (``cs_words``). The rest is carried: fields as columns ``cs/<field>``, columns as fields
``star/<label>``, those of optics groups as ``star_optics/<label>``. Also what the conversion would round is carried, and
wins over the converted value as long as both say the same (``equality``).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryotorch.data.cryosparc.alignments import MANY_CLASSES, pick_alignment
from cryotorch.data.cryosparc.carried_columns import (
    LIST,
    PREFIX,
    fields_table,
    from_column,
    guessed_fields,
    listed_fields,
    to_column,
)
from cryotorch.data.cryosparc.equality import same_angles, same_column, same_field
from cryotorch.data.cryosparc.fields import (
    ANGLES,
    FAMILIES,
    FIELDS,
    GROUP_NAME,
    MICROGRAPH_SHAPE,
    NAME,
    NEUTRAL,
    OF_2D,
    OF_OPTICS,
    OF_PARTICLES,
    ORIGINS,
    POSITION,
    TILT,
    default,
    is_printable,
    plain_names,
)
from cryotorch.data.cryosparc.mapping import check_kinds, columns_of, fields_of
from cryotorch.data.optics import GROUP
from cryotorch.data.table import Table
from cryotorch.errors import InputError
from cryotorch.findings import Finding, remark

STAR, STAR_OPTICS = "star/", "star_optics/"
# RELION's words that CryoSPARC has none for and that change the images' model, with the value that changes nothing.
UNSEEN = {
    "rlnOddZernike": None,
    "rlnEvenZernike": None,
    "rlnCtfDataAreCtfPremultiplied": 0.0,
    "rlnCtfBfactor": 0.0,
    "rlnCtfScalefactor": 1.0,
}


def to_tables(
    fields: dict[str, np.ndarray],
    path: str | Path,
    which: int | None = None,
) -> tuple[dict[str, Table], list[Finding]]:
    """The tables "optics" and "particles" of RELION 3.1, "cryosparc_fields" where fields are carried; what is assumed or not applied.

    Args:
        fields: (n, ...) of n particles.
        path: named in findings and errors.
        which: the class whose particles are taken alone, as CryoSPARC counts, from 0; None = all particles.

    Raises:
        InputError: fields of a type or length that CryoSPARC's do not have, or no particles.
    """
    path = Path(path)
    if not len(fields["uid"]):
        raise InputError(f"{path} holds no particles.")
    fields, aligned, found = pick_alignment(fields, which, path)
    plain = {x: v for x, v in fields.items() if not x.startswith((STAR, STAR_OPTICS))}
    check_kinds(plain, path)
    columns, optics, row, told = columns_of(plain | aligned, path)
    found += [*told, *_unused(plain, bool(aligned), path)]
    _, first = np.unique(row, return_index=True)
    kept = _kept(fields, STAR, path)
    kept_optics = _kept(fields, STAR_OPTICS, path)
    same = _same_groups(kept, kept_optics, row, first, path)
    kept_optics = {label: x[first] for label, x in kept_optics.items()}
    if not same:  # those of now, in the places of the old ones
        kept |= {x: columns[x] for x in (GROUP,) if x in kept}
        kept_optics |= {x: optics[x] for x in (GROUP, GROUP_NAME) if x in kept_optics}
    whole = NAME in kept  # the columns of a STAR file, not additions to a .cs file
    tables = {
        "optics": _merged(kept_optics, optics, whole, path),
        "particles": _merged(kept, columns, whole, path),
    }
    made = _with_defaults(fields_of(tables, path), len(row))
    carried = [name for name, x in plain.items() if not _identical(made.get(name), x)]
    if carried or _types(made) != _types(plain):
        for name in carried:
            tables["particles"][PREFIX + name] = to_column(plain[name])
        tables[LIST] = fields_table(plain)
    return tables, found


def to_fields(
    tables: dict[str, Table], path: str | Path
) -> tuple[dict[str, np.ndarray], list[Finding]]:
    """The fields (n, ...) of a .cs file for tables in the layout of RELION 3.1, and what CryoSPARC will not see.

    Args:
        path: of the file to come, named in findings and errors.

    Raises:
        InputError: columns that cannot be converted.
    """
    path = Path(path)
    particles, optics = tables["particles"], tables["optics"]
    listed = listed_fields(tables[LIST], path) if LIST in tables else {}
    types = listed or guessed_fields(particles)
    kept = {
        name: from_column(particles, PREFIX + name, *kind_and_shape, path)
        for name, kind_and_shape in types.items()
        if PREFIX + name in particles
    }
    shape = kept.get(MICROGRAPH_SHAPE)
    made = fields_of(tables, path, kept)
    told = made.keys() if listed or "uid" in kept else ()
    made = made | {name: _prefer(name, made.get(name), x, shape) for name, x in kept.items()}
    fields = {} if listed else _with_defaults(made, particles.rows)
    meant = {OF_PARTICLES.get(x) for x in particles} | {OF_OPTICS.get(x) for x in optics}
    for name, (kind, _) in listed.items():
        values = made.get(name)
        if values is None and name not in meant:
            values = default(name, particles.rows)
        if values is not None:
            fields[name] = _as(values, kind)
    for name, values in made.items():
        neutral = default(name, len(values))
        if name not in fields and not (neutral is not None and (values == neutral).all()):
            fields[name] = values
    planar = not any(label.startswith("alignments3D/") for label in told)
    words = OF_PARTICLES | (OF_2D if planar else {})
    fields |= _left(particles, words, STAR, told, kept)
    row = _rows(optics, particles)
    of_groups = _left(optics, OF_OPTICS, STAR_OPTICS, told, {})
    fields |= {label: values[row] for label, values in of_groups.items()}
    return fields, _unseen(tables, fields, path)


def _unused(fields: dict[str, np.ndarray], several: bool, path: Path) -> list[Finding]:
    """The families of fields that no column tells of."""
    used = {*FAMILIES, "uid"}
    if "alignments3D/pose" not in fields and not several:
        used.add("alignments2D")
    families = dict.fromkeys(name.partition("/")[0] for name in fields)
    unused = [x for x in families if x not in used and not (several and MANY_CLASSES.match(x))]
    if not unused:
        return []
    families = ", ".join(f"{x}/..." for x in unused)
    return [remark("fields_unused", file=str(path), fields=families)]


def _rows(optics: Table, particles: Table) -> np.ndarray:
    """Row (n,) of each particle's optics group."""
    numbers, wanted = optics.integers(GROUP), particles.integers(GROUP)
    order = np.argsort(numbers)
    return order[np.searchsorted(numbers[order], wanted)]


def _kept(fields: dict[str, np.ndarray], prefix: str, path: Path) -> dict[str, np.ndarray]:
    """Columns that were carried, by label, in order."""
    found = {}
    for name, values in fields.items():
        if name.startswith(prefix):
            text = values.dtype.kind == "S"
            fits = values.ndim == 1 and is_printable(values) if text else values.ndim <= 2
            label = name[len(prefix) :]
            own = label.removeprefix(PREFIX) != label and label[len(PREFIX) :] in fields
            if not fits or values.dtype.kind == "c" or not label or own:
                raise InputError(f"Field {name} of {path} is no column of a STAR file: remove it.")
            found[label] = values
    return found


def _same_groups(kept, kept_optics, row: np.ndarray, first: np.ndarray, path: Path) -> bool:
    """Whether the optics groups that were carried are those that CryoSPARC has now: rows (n,), first particles (g,)."""
    if (GROUP in kept) != (GROUP in kept_optics):
        return False
    label = GROUP if GROUP in kept else GROUP_NAME
    numbers = kept_optics.get(label, row)
    if len(np.unique(numbers[first])) < len(first) or (numbers[first][row] != numbers).any():
        return False
    tables = [Table({GROUP: x[GROUP]}) for x in (kept, kept_optics) if label == GROUP]
    return len({table.integers(GROUP, path).tobytes() for table in tables}) <= 1


def _merged(
    kept: dict[str, np.ndarray], made: dict[str, np.ndarray], whole: bool, path: Path
) -> Table:
    """The columns that were carried, in order, corrected where CryoSPARC says otherwise, then the others."""
    table = Table(kept)
    angles = (
        same_angles(made, table, path) if all(x in made and x in table for x in ANGLES) else None
    )
    for label, values in made.items():
        if label not in table:
            if not _silent(label, made, whole):
                table[label] = values
        elif label != GROUP and label != GROUP_NAME:
            if label in ANGLES and angles is not None:
                same = angles
            else:
                same = same_column(label, values, table, path)
            if not same.all():
                texts = Table({label: values}).raw(label)
                table[label] = np.where(same, table.raw(label), texts)
    return table


def _silent(label: str, made: dict[str, np.ndarray], whole: bool) -> bool:
    """Whether a column that was not carried says nothing that a STAR file must say."""
    values = made[label]
    if label == "rlnRandomSubset":
        return (values == values[0]).all()
    if label in ("rlnImageDimensionality", GROUP_NAME):
        return whole
    if label in ORIGINS:
        return whole and not any(made[x].any() for x in ORIGINS)
    return label in NEUTRAL and (values == NEUTRAL[label]).all()


def _with_defaults(made: dict[str, np.ndarray], n: int) -> dict[str, np.ndarray]:
    """In CryoSPARC's order, with what its files also hold."""
    posed = "alignments3D/pose" in made
    fields = {}
    for name in FIELDS:
        values = made.get(name)
        if values is None and (posed or not name.startswith("alignments3D/")):
            values = default(name, n)
        if values is not None:
            fields[name] = values
    return fields


def _prefer(
    name: str, made: np.ndarray | None, kept: np.ndarray, shape: np.ndarray | None
) -> np.ndarray:
    """The field that was carried, but for rows of which RELION's columns say otherwise."""
    if made is None or made.shape != kept.shape:
        return kept if made is None else made
    same = same_field(name, made, kept, shape)
    return kept if same.all() else np.where(same.reshape(-1, *[1] * (kept.ndim - 1)), kept, made)


def _left(table: Table, words: dict[str, str], prefix: str, told, kept) -> dict[str, np.ndarray]:
    """The columns, as fields, that are in none of the fields ``told`` and came from none of those ``kept``."""
    found = {}
    for label in table:
        field = words.get(label)
        if label == GROUP_NAME and table[label].tolist() != plain_names(table.rows):
            field = None
        if field not in told and label.removeprefix(PREFIX) not in kept:
            column = table.column(label)
            found[prefix + label] = column.astype(np.uint8) if column.dtype == bool else column
    return found


def _identical(made: np.ndarray | None, given: np.ndarray) -> bool:
    if (
        made is None
        or made.shape != given.shape
        or (made.dtype.kind == "S") != (given.dtype.kind == "S")
    ):
        return False
    if given.dtype.kind == "S":
        return np.array_equal(made, given)
    return _fits(made, given.dtype) and made.astype(given.dtype).tobytes() == given.tobytes()


def _types(fields: dict[str, np.ndarray]) -> list[tuple]:
    return [(name, x.dtype, x.shape) for name, x in fields.items()]


def _as(values: np.ndarray, kind: str) -> np.ndarray:
    """Values in the type that the list of fields gives, if that holds them; text may become longer."""
    dtype = np.dtype(kind.removeprefix("hex:"))
    if dtype.kind == "S":
        return values.astype(f"S{max(dtype.itemsize, values.dtype.itemsize)}")
    return values.astype(dtype) if _fits(values, dtype) else values


def _fits(values: np.ndarray, dtype: np.dtype) -> bool:
    """Whether numbers are the same after they were of another type."""
    with np.errstate(all="ignore"):
        again = values.astype(dtype).astype(values.dtype)
    return np.array_equal(again, values, equal_nan=True)


def _unseen(tables: dict[str, Table], fields: dict[str, np.ndarray], path: Path) -> list[Finding]:
    """What CryoSPARC will not find in a .cs file."""
    found, file = [], str(path)
    lost = [f"data_{name}" for name in tables if name not in ("optics", "particles", LIST)]
    if lost:
        found.append(Finding("tables_lost", tables=", ".join(lost), file=file))

    def changes(table: Table, label: str) -> bool:
        if label not in table:
            return False
        if UNSEEN[label] is None:
            return bool(table.vectors(label, path).any())
        return bool((table.floats(label, path) != UNSEEN[label]).any())

    both = (tables["optics"], tables["particles"])
    unseen = [f"_{x}" for x in UNSEEN if any(changes(table, x) for table in both)]
    optics, tilt = tables["optics"], fields.get("ctf/tilt_A", np.zeros(1))
    if not tilt.any():  # which is a length: without spherical aberration there is none
        unseen += [f"_{x}" for x in TILT if x in optics and optics.floats(x, path).any()]
    if unseen:
        found.append(Finding("columns_unseen", columns=", ".join(unseen), file=file))
    if "blob/shape" not in fields:
        found.append(Finding("box_unseen", file=file))
    if POSITION[0] in tables["particles"] and "location/center_x_frac" not in fields:
        columns = dict(x=f"_{POSITION[0]}", y=f"_{POSITION[1]}")
        found.append(Finding("positions_carried", **columns, file=file))
    idle = set(optics.integers(GROUP).tolist()) - set(tables["particles"].integers(GROUP).tolist())
    if idle:
        found.append(Finding("groups_lost", file=file, groups=", ".join(map(str, sorted(idle)))))
    if fields.get("ctf/anisomag", np.zeros(1)).any():
        found.append(Finding("magnification_written", file=file))
    return found
