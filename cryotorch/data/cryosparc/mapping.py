"""The same facts in CryoSPARC's fields and in RELION's columns: names, units, signs and types.

Rules: poses are rotation vectors of R^T, so that Rodrigues(pose) = Rz(rot) Ry(tilt) Rz(psi); shifts have RELION's sign, in
pixels of ``alignments3D/psize_A``; ``tilt_A`` = Cs sin(beam tilt), Å; I + ``anisomag`` = inverse of RELION's matrix;
positions in micrographs are fractions with y from below; indices and half sets count from 0.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from cryotorch.data.aberrations import LENS as RELION_LENS
from cryotorch.data.cryosparc.fields import (
    ANGLES,
    DEFOCUS_FIELDS,
    FIELDS,
    GROUP_NAME,
    KINDS,
    LENS_FIELDS,
    MAGNIFICATION,
    MICROGRAPH,
    MICROGRAPH_SHAPE,
    NAME,
    ORIGINS,
    POSITION,
    TILT,
    is_of_kind,
    is_printable,
    plain_names,
)
from cryotorch.data.image_names import parse_names
from cryotorch.data.optics import GROUP, read_optics
from cryotorch.data.table import BIGGEST, Table
from cryotorch.errors import InputError
from cryotorch.findings import Finding, remark
from cryotorch.ops.geometry.rotations import (
    euler_to_matrix,
    from_rotation_vector,
    matrix_to_euler,
    to_rotation_vector,
)

NO_FIELDS: Mapping[str, np.ndarray] = MappingProxyType({})
NO_SHAPE = np.zeros(1)
POSES_AT_ONCE = 2**16  # poses turned together, which bounds the memory


def columns_of(
    fields: dict[str, np.ndarray], path: Path
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray, list[Finding]]:
    """RELION's columns of particles (n,) and of optics groups (g,), each particle's row (n,) among these, and what is assumed or not applied.

    Angles and lengths are rounded to six decimals as in a STAR file, what CryoSPARC holds in the same unit stays
    float32. Raises InputError for a field of another type or length than CryoSPARC's.
    """

    def field(name: str) -> np.ndarray:
        return _checked(name, fields[name], path)

    def degrees(name: str) -> np.ndarray:
        return np.round(np.rad2deg(field(name).astype(np.float64)), 6)

    with np.errstate(all="ignore"):  # what is not finite is refused later, and named with its row
        row, first = _groups(fields, field)
        optics, told = _optics_columns(fields, field, first, path)
        images = zip(field("blob/idx").tolist(), field("blob/path").tolist(), strict=True)
        columns = {
            NAME: np.array(
                [b"%06d@%s" % (idx + 1, stack.removeprefix(b">")) for idx, stack in images]
            )
        }
        columns |= _position(fields, field)
        if all(name in fields for name in DEFOCUS_FIELDS):
            columns["rlnDefocusU"], columns["rlnDefocusV"] = field("ctf/df1_A"), field("ctf/df2_A")
            columns["rlnDefocusAngle"] = degrees("ctf/df_angle_rad")
        if "ctf/phase_shift_rad" in fields:
            columns["rlnPhaseShift"] = degrees("ctf/phase_shift_rad")
        columns[GROUP] = row + 1
        if "alignments3D/pose" in fields:
            columns |= dict(zip(ANGLES, _angles(field("alignments3D/pose")), strict=True))
            shift, doubts = _origins(fields, field, "alignments3D", path)
            columns |= shift
            told += doubts
        else:  # as 2D classification leaves them, whose shifts have the same sign
            shift, doubts = _origins(fields, field, "alignments2D", path)
            columns |= shift
            told += doubts
            if "alignments2D/pose" in fields:
                columns["rlnAnglePsi"] = degrees("alignments2D/pose")
            if "alignments2D/class" in fields and "alignments3D/class" not in fields:
                columns["rlnClassNumber"] = field("alignments2D/class").astype(np.int64) + 1
            if columns.keys() & {"rlnAnglePsi", *ORIGINS}:
                told.append(remark("origins_of_2d", file=str(path)))
        for label, name in (("rlnRandomSubset", "split"), ("rlnClassNumber", "class")):
            if f"alignments3D/{name}" in fields:
                columns[label] = field(f"alignments3D/{name}").astype(np.int64) + 1
        if "alignments3D/alpha" in fields:
            columns["cryotorchScale"] = field("alignments3D/alpha")
    return columns, optics, row, told


@np.errstate(all="ignore")
def fields_of(
    tables: dict[str, Table],
    path: Path,
    kept: Mapping[str, np.ndarray] = NO_FIELDS,
) -> dict[str, np.ndarray]:
    """CryoSPARC's fields (n, ...) that tell what RELION's columns of particles and optics tell.

    Args:
        kept: fields that are known already. Without the micrographs' shape (rows, columns) no position can be given;
            without the pixel of the shifts it is that of the images.

    Raises:
        InputError: the columns contradict each other or are no numbers.
    """
    table = tables["particles"]
    optics = read_optics(tables.get("optics"), table, path, need_ctf=False)
    groups, row = optics.groups, optics.row
    names, address = parse_names(table.raw(NAME), path)
    stacks = np.array([os.fsencode(name) for name in names])
    if address[:, 1].max() >= 2**32:
        raise InputError(
            f"{path} counts images beyond the 2^32 that a .cs file can: correct _{NAME}."
        )
    pixel = groups.pixel_size.numpy()[row]
    fields = {
        "uid": uids(stacks, address),
        "blob/path": stacks[address[:, 0]],
        "blob/idx": address[:, 1],
        "blob/psize_A": pixel,
        "ctf/exp_group_id": row,
    }
    lens = (groups.voltage_kv, groups.spherical_aberration, groups.amplitude_contrast)
    fields |= {
        name: x.numpy()[row]
        for name, x in zip(LENS_FIELDS, lens, strict=True)
        if x.isfinite().all()
    }
    if "rlnDefocusAngle" in table:
        fields["ctf/df1_A"] = table.floats("rlnDefocusU", path)
        fields["ctf/df2_A"] = table.floats("rlnDefocusV", path)
        fields["ctf/df_angle_rad"] = np.deg2rad(table.floats("rlnDefocusAngle", path))
    if optics.box.all():
        fields["blob/shape"] = np.stack([optics.box, optics.box], 1)[row]
    if "rlnPhaseShift" in table:
        fields["ctf/phase_shift_rad"] = np.deg2rad(table.floats("rlnPhaseShift", path))
    length = 1e7 * groups.spherical_aberration.double()[:, None]  # mm to Å
    if groups.beam_tilt is not None and length.isfinite().all() and length.all():
        tilt = length * torch.sin(1e-3 * groups.beam_tilt.double())
        fields["ctf/tilt_A"] = tilt.numpy()[row]
    if groups.magnification is not None:
        matrix = groups.magnification.double().numpy()
        if (np.abs(np.linalg.det(matrix)) < 1e-6).any():
            raise InputError(f"A magnification matrix (_rlnMagMat00...) of {path} is singular.")
        fields["ctf/anisomag"] = (np.linalg.inv(matrix) - np.eye(2)).reshape(-1, 4)[row]
    known = all(label in table for label in ANGLES)
    if known:
        angles = np.stack([table.floats(label, path) for label in ANGLES], 1)
        fields["alignments3D/pose"] = poses(angles)
    if known or "alignments3D/pose" in kept:
        fields |= _shifts(table, "alignments3D", kept, pixel, path)
        for label, name in (("rlnRandomSubset", "split"), ("rlnClassNumber", "class")):
            if label in table:
                numbers = table.integers(label, path) - 1
                if ((numbers >= 0) & (numbers < (2 if name == "split" else 2**32))).all():
                    fields[f"alignments3D/{name}"] = numbers
        if "cryotorchScale" in table:
            fields["alignments3D/alpha"] = table.floats("cryotorchScale", path)
    elif "alignments2D/psize_A" in kept:
        fields |= _shifts(table, "alignments2D", kept, pixel, path)
        if "rlnAnglePsi" in table:
            fields["alignments2D/pose"] = np.deg2rad(table.floats("rlnAnglePsi", path))
        if "rlnClassNumber" in table:
            numbers = table.integers("rlnClassNumber", path) - 1
            if ((numbers >= 0) & (numbers < 2**32)).all():
                fields["alignments2D/class"] = numbers
    if MICROGRAPH in table and "location/micrograph_path" in kept:
        fields["location/micrograph_path"] = table.raw(MICROGRAPH)
    if (kept.get(MICROGRAPH_SHAPE, NO_SHAPE) > 0).all() and all(x in table for x in POSITION):
        height, width = kept[MICROGRAPH_SHAPE].astype(np.float64).T
        fields["location/center_x_frac"] = table.floats(POSITION[0], path) / width
        fields["location/center_y_frac"] = 1 - table.floats(POSITION[1], path) / height
    return {name: values.astype(FIELDS[name][0]) for name, values in fields.items()}


def _shifts(
    table: Table, family: str, kept: Mapping[str, np.ndarray], pixel: np.ndarray, path: Path
) -> dict[str, np.ndarray]:
    """Origins in pixels of ``psize_A``, which is that of the images where none is kept."""
    own = kept.get(f"{family}/psize_A", pixel)
    found = {f"{family}/psize_A": np.where(own > 0, own, pixel)}
    if any(label in table for label in ORIGINS):
        none = np.zeros(table.rows)
        shift = [table.floats(label, path) if label in table else none for label in ORIGINS]
        found[f"{family}/shift"] = np.stack([s / found[f"{family}/psize_A"] for s in shift], 1)
    return found


def check_kinds(fields: Mapping[str, np.ndarray], path: Path) -> None:
    """Raises InputError for a field (n, ...) of another type or length than CryoSPARC's, used or not: it is to be written again."""
    for name in filter(fields.__contains__, FIELDS):
        _checked(name, fields[name], path)


def _checked(name: str, values: np.ndarray, path: Path) -> np.ndarray:
    """The field, if it is of CryoSPARC's kind."""
    kind, width, _ = FIELDS[name]
    if not is_of_kind(name, values.dtype.kind, values.shape[1:]):
        raise InputError(
            f"Field {name} of {path} is {values.dtype.str} of shape {values.shape}, not {width or 1} "
            f"{KINDS[kind[0]][1]} per particle: the file is damaged."
        )
    if kind == "S" and not is_printable(values):
        raise InputError(f"Field {name} of {path} holds control characters: the file is damaged.")
    return values


def _groups(fields, field) -> tuple[np.ndarray, np.ndarray]:
    """Row of each particle's optics group (n,) and the first particle of each group (g,).

    Particles of one exposure group and the same lens, pixel size and aberrations, in the order of these numbers.
    """
    n = len(fields["uid"])
    names = ("ctf/exp_group_id", "ctf/accel_kv", "ctf/cs_mm", "ctf/amp_contrast", "blob/psize_A")
    row = np.zeros(n, dtype=np.int64)
    for name in (*names, "blob/shape", "ctf/tilt_A", "ctf/anisomag"):
        values = field(name).reshape(n, -1).T if name in fields else []
        for column in values:
            if (column != column[0]).any():
                _, rank = np.unique(column, return_inverse=True)
                _, row = np.unique(row * (int(rank.max()) + 1) + rank, return_inverse=True)
    return row, np.unique(row, return_index=True)[1]


def _optics_columns(fields, field, first, path) -> tuple[dict[str, np.ndarray], list[Finding]]:
    """The groups whose first particles are ``first``."""
    told = []
    number = np.arange(1, len(first) + 1)
    columns = {
        GROUP: number,
        GROUP_NAME: np.array(plain_names(len(first)), dtype=bytes),
        **{
            label: field(x)[first]
            for label, x in zip(RELION_LENS, LENS_FIELDS, strict=True)
            if x in fields
        },
        "rlnImagePixelSize": field("blob/psize_A")[first],
        "rlnImageDimensionality": np.full(len(first), 2),
    }
    if "blob/shape" in fields:
        shape = field("blob/shape")[first]
        if (shape[:, 0] == shape[:, 1]).all():
            columns["rlnImageSize"] = shape[:, 0]
    if "ctf/cs_mm" in fields and "ctf/tilt_A" in fields and field("ctf/tilt_A").any():
        length = 1e7 * field("ctf/cs_mm")[first].astype(np.float64)
        if length.all():
            tilt = 1e3 * np.arcsin(field("ctf/tilt_A")[first] / length[:, None])
            columns |= dict(zip(TILT, np.round(tilt, 6).T, strict=True))
    if "ctf/anisomag" in fields and field("ctf/anisomag").any():
        matrix = np.eye(2) + field("ctf/anisomag")[first].reshape(-1, 2, 2)
        if not (np.abs(np.linalg.det(matrix)) > 1e-6).all():
            raise InputError(f"ctf/anisomag of {path} is not a magnification: correct it.")
        inverse = np.linalg.inv(matrix).reshape(-1, 4)
        columns |= dict(zip(MAGNIFICATION, np.round(inverse, 6).T, strict=True))
        told.append(remark("magnification_read", file=str(path)))
    for name in ("ctf/trefoil_A", "ctf/tetra_A", "ctf/shift_A"):
        if name in fields and field(name).any():
            told.append(remark("field_not_applied", field=name, file=str(path)))
    return columns, told


def _origins(fields, field, family: str, path: Path) -> tuple[dict[str, np.ndarray], list[Finding]]:
    """The shifts of ``alignments3D`` or ``alignments2D``, Å."""
    shift, name = f"{family}/shift", f"{family}/psize_A"
    if shift not in fields:
        return {}, []
    images = field("blob/psize_A").astype(np.float64)
    pixel = field(name).astype(np.float64) if name in fields else images
    unknown = ~(pixel > 0)
    told, what = [], dict(field=name, file=str(path))
    if name not in fields:
        told.append(remark("shifts_in_pixels", **what))
    elif unknown.any():
        count = dict(unknown=int(np.count_nonzero(unknown)), particles=len(pixel))
        value = float(pixel[unknown][0])
        told.append(remark("some_shifts_in_pixels", **what, value=value, **count))
    found = field(shift) * np.where(unknown, images, pixel)[:, None]
    return dict(zip(ORIGINS, np.round(found, 6).T, strict=True)), told


def _position(fields, field) -> dict[str, np.ndarray]:
    """Position in the micrograph, whole pixels from its upper left corner, where all are known, and its name."""
    x, y = "location/center_x_frac", "location/center_y_frac"
    found = {}
    if "location/micrograph_path" in fields:
        names = field("location/micrograph_path")
        found[MICROGRAPH] = np.array([name.removeprefix(b">") for name in names.tolist()])
    known = all(name in fields for name in (x, y, MICROGRAPH_SHAPE))
    if known and (field(MICROGRAPH_SHAPE) > 0).all():
        height, width = field(MICROGRAPH_SHAPE).astype(np.float64).T
        across, down = field(x) * width, (1 - field(y).astype(np.float64)) * height
        if (np.abs([across, down]) < BIGGEST).all():
            found |= dict(zip(POSITION, np.round([across, down]), strict=True))
    return found


def _angles(pose: np.ndarray) -> np.ndarray:
    """Rotation vectors (n, 3) to rot, tilt and psi (3, n), degrees, six decimals."""
    parts = torch.from_numpy(pose.astype(np.float64)).split(POSES_AT_ONCE)
    found = [torch.stack(matrix_to_euler(from_rotation_vector(x).mT)) for x in parts]
    return np.round(np.rad2deg(torch.cat(found, 1).numpy()), 6)


def poses(angles: np.ndarray) -> np.ndarray:
    """Degrees (n, 3) to rotation vectors (n, 3)."""
    parts = torch.from_numpy(np.deg2rad(angles)).split(POSES_AT_ONCE)
    return torch.cat([to_rotation_vector(euler_to_matrix(*x.T).mT) for x in parts]).numpy()


def uids(stacks: np.ndarray, address: np.ndarray) -> np.ndarray:
    """Numbers (n,) uint64, made of stack name and image number alone, each once."""
    digests = [hashlib.blake2b(name, digest_size=8).digest() for name in stacks.tolist()]
    start = np.frombuffer(b"".join(digests), np.uint64)[address[:, 0]]
    # splitmix64 (Steele 2014, doi:10.1145/2714064.2660195): one to one within a stack
    x = start + address[:, 1].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    uid = x ^ (x >> np.uint64(31))
    while True:
        order = np.argsort(uid, kind="stable")
        again = order[1:][uid[order[1:]] == uid[order[:-1]]]
        if not len(again):
            return uid
        uid[again] += np.uint64(1)
