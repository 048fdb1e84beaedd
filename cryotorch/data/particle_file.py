"""Particle files of RELION (STAR, 3.0 to 5) and CryoSPARC (.cs), read into ``Particles`` and written back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cryotorch.data.aberrations import updated_optics
from cryotorch.data.cryosparc.alignments import rows_of_class
from cryotorch.data.cryosparc.fields import in_fields
from cryotorch.data.cryosparc.file import is_cs, refuse_names, write_cs
from cryotorch.data.cryosparc.passthrough import read_joined
from cryotorch.data.cryosparc.tables import to_fields, to_tables
from cryotorch.data.grids import boxes_of_groups, several_grids
from cryotorch.data.half_sets import HALF, read_half_sets, read_origins, told_copies
from cryotorch.data.image_names import find_stacks, format_names, parse_names
from cryotorch.data.mtf import mtf_of_groups
from cryotorch.data.optics import GROUP, optics_table, read_optics
from cryotorch.data.particle_tables import (
    ANGLES,
    ORIGINS,
    ORIGINS_PX,
    particle_block,
    refuse_partial_poses,
    upgraded,
)
from cryotorch.data.stacks import Stacks
from cryotorch.data.star import NotStarError, read_star, star_bytes, write_star
from cryotorch.data.table import Table
from cryotorch.errors import InputError
from cryotorch.findings import Finding, remark
from cryotorch.ops.geometry.rotations import euler_to_matrix, matrix_to_euler
from cryotorch.particles import Particles

DEFOCUS_COLUMNS = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")
POSE_SIGMAS = ("cryotorchRotationSigma", "cryotorchShiftSigma")
SCALE = "cryotorchScale"
SIGN = "cs/blob/sign"
BFACTOR, FACTOR = "rlnCtfBfactor", "rlnCtfScalefactor"
# Å. Smaller defocus values, other than none at all, are meant in micrometres.
LEAST_DEFOCUS, MOST_DEFOCUS = 100.0, 1e6


@dataclass(frozen=True)
class ParticleFile:
    """A particle file.

    Attributes:
        path: of the STAR or .cs file.
        particles: its rows.
        stacks: the image files that ``particles.address`` counts.
        box: pixels per edge of the images as extracted, in the optics group with most particles; 0 where images were
            not needed and the file does not say.
        pixel_size: Å per pixel of these. Images of other groups are brought to this grid.
        tables: everything in the file, in the layout of RELION 3.1: blocks "optics" and "particles" and the others.
        messages: for the log: what was assumed or overruled.
        sign: (n,) float32, 1 or -1, what images are multiplied by; None = 1.
        as_read: ``particles`` where those are all that the file holds; None = nobody says.
    """

    path: Path
    particles: Particles
    stacks: list[Path]
    box: int
    pixel_size: float
    tables: dict[str, Table]
    messages: list[Finding] = field(default_factory=list)
    sign: np.ndarray | None = None
    as_read: Particles | None = field(default=None, repr=False, compare=False)


def read_particles(
    path: str | Path,
    project: str | Path | None = None,
    need_images: bool = True,
    passthrough: str | Path | None = None,
    need_half_sets: bool = True,
    of_class: int | None = None,
) -> ParticleFile:
    """Read a particle file, STAR or .cs as its first bytes tell, and check it against the headers of its stacks.

    Origins may be in pixels (RELION 3.0) or Å (which win); shifts are read also where angles are missing (after
    2D classification). Half sets are 0 and 1, -1 where none are known; ``rlnRandomSubset`` is 1 or 2 in the tables. Several rows
    may show one image, as after symmetry expansion, which is told.

    Args:
        project: folder that image names are relative to; for the others tried see ``find_stacks``.
        need_images: False reads the table alone, for jobs that need no images; the CTF may then be missing, which is told.
        passthrough: .cs file with the fields that a .cs file lacks; null = see ``read_joined``.
        need_half_sets: False tells of a column that is no half sets, instead of refusing it.
        of_class: the class whose particles are read alone, counted as the file does: from 1 in STAR, from 0 in .cs.

    Raises:
        InputError: anything missing, doubled, contradictory or not a number, with what to do.
    """
    path = Path(path)
    needs = (project, need_images, need_half_sets)
    if is_cs(path):
        try:
            fields, joined = read_joined(path, passthrough, need_images)
            blocks, told = to_tables(fields, path, of_class)
            file = _from_blocks(blocks, path, *needs, fields["uid"])
        except InputError as error:  # of columns that the user has not
            raise InputError(in_fields(str(error))) from None
        messages = [*joined, *told, *file.messages]
        return replace(file, messages=[_in_fields(message) for message in messages])
    if passthrough is not None:
        raise InputError(
            f"{path} is a STAR file, to which passthrough={passthrough} cannot be joined: leave passthrough out."
        )
    try:
        blocks = read_star(path)
    except NotStarError as error:
        reason = str(error).removesuffix(".")
        raise InputError(f"{reason}, nor is it a .cs file: name a file of particles.") from None
    if of_class is None:
        return _from_blocks(blocks, path, *needs)
    blocks, taken = _of_class(blocks, of_class, path)
    file = _from_blocks(blocks, path, *needs)
    return replace(file, messages=[taken, *file.messages])


def _in_fields(finding: Finding) -> Finding:
    """The same with the names of fields in the places of the columns that they became."""
    texts = {name: in_fields(v) for name, v in finding.pairs if isinstance(v, str)}
    return finding.plus(**texts)


def _of_class(blocks: dict[str, Table], which: int, path: Path) -> tuple[dict[str, Table], Finding]:
    """The blocks with the particles of one class alone, and how many there are."""
    name = particle_block(blocks, path)
    table = blocks[name]
    found = table.integers("rlnClassNumber", path) if "rlnClassNumber" in table else None
    rows, taken = rows_of_class(found, which, path)
    return {**blocks, name: table.taken(rows)}, taken


def _from_blocks(
    blocks: dict[str, Table],
    path: Path,
    project: str | Path | None,
    need_images: bool,
    need_half_sets: bool,
    uid: np.ndarray | None = None,
) -> ParticleFile:
    """The particles of the tables of a file, checked; ``uid`` are their numbers in a .cs file."""
    name = particle_block(blocks, path)
    table, messages = blocks[name], list[Finding]()
    n = table.rows
    if not n:
        raise InputError(f"{path} holds no particles: its table data_{name} has no rows.")
    missing = [f"_{label}" for label in DEFOCUS_COLUMNS if label not in table]
    if missing:
        said = f"{path} has no CTF: column {', '.join(missing)} is missing; estimate the CTF first."
        if need_images:
            raise InputError(said)
        messages.append(remark("no_ctf", reason=said))
    refuse_partial_poses(table, path)
    optics = read_optics(blocks.get("optics"), table, path, need_images)
    messages += optics.ignored

    names, address = parse_names(table.raw("rlnImageName"), path)
    stacks = [Path(stack) for stack in names]
    if need_images:
        stacks = find_stacks(names, path, project)
        stacks, address = _merge_aliases(stacks, address)
        opened = Stacks(stacks)
        opened.check(address)
        boxes, calibrated = boxes_of_groups(opened, address, optics, path)
        mtf, lost = mtf_of_groups(optics.read, optics.pixel_size, path, project)
        optics = replace(optics, box=boxes, groups=optics.groups.replace(mtf=mtf))
        messages += [*calibrated, *lost, *several_grids(optics, path)]
    origin, made_of = read_origins(table, address, path)
    messages += [*told_copies(address, path), *made_of, *_told_repeated(uid, path, need_images)]
    box, pixel_size = int(optics.box[optics.main]), float(optics.pixel_size[optics.main])
    if box % 2:
        raise InputError(f"The box of {path} must be even, got {box}: pad to {box + 1}.")

    def column(label: str, default: float = 0.0) -> np.ndarray:
        return table.floats(label, path) if label in table else np.full(n, default)

    has_pose = all(label in table for label in ANGLES)
    rotation = torch.eye(3).repeat(n, 1, 1)
    if has_pose:
        rotation = euler_to_matrix(*(_radians(column(label)) for label in ANGLES)).float()
    shift = [
        column(new) if new in table else column(old) * optics.pixel_size[optics.row]
        for new, old in zip(ORIGINS, ORIGINS_PX, strict=True)
    ]
    defocus = np.stack([column(label) for label in DEFOCUS_COLUMNS], 1)
    largest = np.abs(defocus[:, :2]).max()
    if 0 < largest < LEAST_DEFOCUS:
        raise InputError(
            f"_{DEFOCUS_COLUMNS[0]} is at most {largest:.3g} in {path}: give the defocus in Å, not in µm."
        )
    if largest > MOST_DEFOCUS:
        row = int(np.abs(defocus[:, :2]).max(1).argmax())
        raise InputError(
            f"The defocus of particle {row + 1} of {path} is {largest:.3g} Å, which no microscope has: give it in Å, at most "
            f"{MOST_DEFOCUS:.0e}, or remove the particle."
        )
    if defocus[:, :2].max() < 0:
        what = dict(file=str(path), column=f"_{DEFOCUS_COLUMNS[0]}")
        messages.append(remark("overfocused", **what))
    defocus[:, 2] = np.deg2rad(defocus[:, 2])
    reach = np.abs(np.stack(shift)).max(0)
    edge = (optics.box * optics.pixel_size)[optics.row]
    outside = (edge > 0) & (reach > edge / 2)
    if outside.any():
        row = int((reach * outside).argmax())
        raise InputError(
            f"The origin of particle {row + 1} of {path} is {reach[row]:.4g} Å from the middle of its image, outside of the "
            f"{edge[row]:.4g} Å box: correct it (_{ORIGINS[0]}; _{ORIGINS_PX[0]} would be in pixels) or remove it."
        )
    half, named = read_half_sets(table, path, need_half_sets, 1 if uid is None else 0)
    messages += named
    sigma = np.stack([np.deg2rad(column(POSE_SIGMAS[0])), column(POSE_SIGMAS[1])], 1)
    bfactor, factor = column(BFACTOR), column(FACTOR, 1.0)
    if not factor.any():
        raise InputError(
            f"_{FACTOR} is 0 for all particles of {path}: remove the column, it is a factor on the CTF."
        )
    if bfactor.min() < 0:
        what = dict(column=f"_{BFACTOR}", particles=int(np.count_nonzero(bfactor < 0)))
        messages.append(remark("bfactors_negative", **what, file=str(path)))

    particles = Particles(
        rotation=rotation,
        shift=_float32(np.stack(shift, 1)),
        defocus=_float32(defocus),
        phase_shift=_float32(np.deg2rad(column("rlnPhaseShift"))),
        optics_group=torch.from_numpy(optics.row),
        half=torch.from_numpy(half),
        scale=_float32(column(SCALE, 1.0)),
        address=torch.from_numpy(address),
        pose_sigma=_float32(sigma),
        has_pose=has_pose,
        optics=optics.groups,
        bfactor=_float32(bfactor) if bfactor.any() else None,
        ctf_scale=_float32(factor) if (factor != 1).any() else None,
        origin=None if origin is None else torch.from_numpy(origin),
    )
    tables = upgraded(blocks, name, optics)
    if (half >= 0).any() and (table.integers(HALF) != half + 1).any():
        tables["particles"][HALF] = half + 1
    sign = _signs(table, path)
    return ParticleFile(path, particles, stacks, box, pixel_size, tables, messages, sign)


def write_particles(
    path: str | Path,
    source: ParticleFile,
    particles: Particles,
    extra: Mapping[str, np.ndarray] | None = None,
) -> list[Finding]:
    """Write ``particles``, the same rows as in ``source``, atomically; what the format cannot say.

    A name that ends in .cs gives CryoSPARC's format, any other RELION's STAR in the layout of 3.1.

    All columns and tables of the source are kept, in order and to the digit. Updated or added: image names (see
    ``format_names``), angles, origins, half sets where known, ``cryotorchScale``, ``cryotorchRotationSigma`` (degrees),
    ``cryotorchShiftSigma`` (Å), and ``extra`` columns (n,); defocus and optics where they differ from the source's.
    Particles without a pose get none of the pose columns.

    Raises ValueError for particles that are not the rows of ``source``.
    """
    return write_tables(path, updated_tables(path, source, particles, extra or {}))


def try_tables(path: str | Path, tables: dict[str, Table]) -> None:
    """Raises InputError where ``write_tables`` would, without writing."""
    if Path(path).suffix.lower() == ".cs":
        refuse_names(path, to_fields(tables, path)[0])
    else:
        for _ in star_bytes(path, tables):
            pass


def updated_tables(
    path: str | Path, source: ParticleFile, particles: Particles, extra: Mapping[str, np.ndarray]
) -> dict[str, Table]:
    """The tables of a source with what its ``particles`` are now, ``extra`` columns (n,) too, for a file in this place; ValueError for other rows."""
    table = source.tables["particles"].copy()
    if len(particles) != table.rows:
        raise ValueError(f"{len(particles)} particles for the {table.rows} rows of {source.path}.")
    table["rlnImageName"] = format_names(
        particles.address.numpy(), source.stacks, Path(path).parent
    )
    if particles.has_pose:
        for label, angle in zip(ANGLES, matrix_to_euler(particles.rotation.double()), strict=True):
            table[label] = _degrees(angle)
        for label, shift in zip(ORIGINS, particles.shift.T, strict=True):
            table[label] = shift.double().numpy()
        for label in ORIGINS_PX:  # would contradict the new ones
            table.pop(label, None)
        table[POSE_SIGMAS[0]] = _degrees(particles.pose_sigma[:, 0])
        table[POSE_SIGMAS[1]] = particles.pose_sigma[:, 1].double().numpy()
    if (particles.half >= 0).any():
        table[HALF] = (particles.half + 1).numpy()
    if particles.has_pose or (particles.scale != 1).any():
        table[SCALE] = particles.scale.double().numpy()
    if not torch.equal(particles.defocus, source.particles.defocus):
        for label, values in _defocus_columns(particles).items():
            table[label] = values
    table.update(extra)
    optics = updated_optics(source.tables["optics"], source.particles.optics, particles.optics)
    return {**source.tables, "optics": optics, "particles": table}


def write_tables(path: str | Path, tables: dict[str, Table]) -> list[Finding]:
    """Write the tables of a ``ParticleFile`` as they are, as STAR or, where the name ends in .cs, for CryoSPARC.

    Returns what the format cannot say; the file is named without its folder, which may be a temporary one.
    """
    name = Path(Path(path).name)
    if name.suffix.lower() == ".cs":
        fields, unseen = to_fields(tables, name)
        write_cs(path, fields)
        return unseen
    write_star(path, tables)
    if _signs(tables["particles"], name) is None:
        return []
    return [Finding("dark_on_bright", file=str(name), column=f"_{SIGN}")]


def new_particle_file(
    path: str | Path, stacks: list[Path], box: int, particles: Particles
) -> ParticleFile:
    """A source for ``write_particles`` where no file was read: CTF, optics and image names of ``particles``."""
    table = Table(
        {
            "rlnImageName": format_names(particles.address.numpy(), stacks, Path(path).parent),
            **_defocus_columns(particles),
            "rlnPhaseShift": _degrees(particles.phase_shift),
            GROUP: (particles.optics_group + 1).numpy(),
        }
    )
    for label, values in ((BFACTOR, particles.bfactor), (FACTOR, particles.ctf_scale)):
        if values is not None:
            table[label] = values.double().numpy()
    boxes = np.full(len(particles.optics), box)
    tables = {"optics": optics_table(particles.optics, boxes), "particles": table}
    pixel_size = float(particles.optics.pixel_size[0])
    return ParticleFile(Path(path), particles, list(stacks), box, pixel_size, tables)


def _defocus_columns(particles: Particles) -> dict[str, np.ndarray]:
    u, v, angle = particles.defocus.double().numpy().T
    return dict(zip(DEFOCUS_COLUMNS, (u, v, np.rad2deg(angle)), strict=True))


def _told_repeated(uid: np.ndarray | None, path: Path, refuse: bool) -> list[Finding]:
    """A finding, or InputError, when two particles of a .cs file go by one number (n,)."""
    number, times = np.unique([] if uid is None else uid, return_counts=True)
    again = number[times > 1]
    if not len(again):
        return []
    said = f"{path} gives {len(again)} of its uid to more than one particle, the first being {again[0]}: keep one row of each."
    if refuse:
        raise InputError(said)
    return [remark("uid_twice", reason=said)]


def _merge_aliases(stacks: list[Path], address: np.ndarray) -> tuple[list[Path], np.ndarray]:
    """One entry per file, also where a file goes by two names, so that duplicates show."""
    number: dict[Path, int] = {}
    renumber = np.array([number.setdefault(stack.resolve(), len(number)) for stack in stacks])
    if len(number) == len(stacks):
        return stacks, address
    kept = [stacks[int(np.argmax(renumber == i))] for i in range(len(number))]
    return kept, np.stack([renumber[address[:, 0]], address[:, 1]], 1)


def _signs(table: Table, path: Path) -> np.ndarray | None:
    """What the images are multiplied by; None where that is 1."""
    if SIGN not in table:
        return None
    sign = table.floats(SIGN, path)
    if (np.abs(sign) != 1).any():
        wrong = sign[np.abs(sign) != 1][0]
        raise InputError(f"blob/sign is {wrong:g} in {path}: give 1 or -1.")
    return None if (sign == 1).all() else sign.astype(np.float32)


def _float32(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _radians(degrees: np.ndarray) -> Tensor:
    return torch.from_numpy(np.deg2rad(degrees))


def _degrees(radians: Tensor) -> np.ndarray:
    return np.rad2deg(radians.double().numpy())
