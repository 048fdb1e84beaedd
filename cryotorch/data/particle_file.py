"""Particle STAR files of RELION 3.0, 3.1, 4 and 5, read into ``Particles`` and written back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cryotorch.data.image_names import find_stacks, format_names, parse_names, refuse_duplicates
from cryotorch.data.optics import GROUP, OpticsOfFile, optics_table, read_optics
from cryotorch.data.stacks import Stacks
from cryotorch.data.star import read_star, write_star
from cryotorch.data.table import Table
from cryotorch.errors import InputError
from cryotorch.ops.rotations import euler_to_matrix, matrix_to_euler
from cryotorch.particles import Particles

ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
ORIGINS = ("rlnOriginXAngst", "rlnOriginYAngst")
ORIGINS_PX = ("rlnOriginX", "rlnOriginY")
DEFOCUS = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")
SIGMAS = ("cryotorchRotationSigma", "cryotorchShiftSigma")
SCALE = "cryotorchScale"
HALF = "rlnRandomSubset"
# Read past, never silently.
NOT_APPLIED = {
    "rlnCtfBfactor": 0.0,
    "rlnCtfScalefactor": 1.0,
    "rlnBeamTiltX": 0.0,
    "rlnBeamTiltY": 0.0,
}
# A pixel size in the STAR file that differs less from the stack's is a later calibration, not a mistake.
CALIBRATION = 0.05
# Å. Smaller defocus values, other than none at all, are meant in micrometres.
LEAST_DEFOCUS = 100.0


@dataclass(frozen=True)
class ParticleFile:
    """A particle STAR file.

    Attributes:
        path: of the STAR file.
        particles: its rows.
        stacks: the image files that ``particles.address`` counts.
        box: pixels per edge of the images as extracted; 0 where images were not needed and the file does not say.
        pixel_size: Å per pixel of the images as extracted; the same in all optics groups.
        tables: everything in the file, in the layout of RELION 3.1: blocks "optics" and "particles" and the others.
        messages: sentences for the log: what was assumed or overruled.
    """

    path: Path
    particles: Particles
    stacks: list[Path]
    box: int
    pixel_size: float
    tables: dict[str, Table]
    messages: list[str] = field(default_factory=list)


def read_particles(
    path: str | Path, project: str | Path | None = None, need_images: bool = True
) -> ParticleFile:
    """Read a particle STAR file and check it against the headers of its stacks.

    Origins may be in pixels (RELION 3.0) or Å (which win); shifts are read also where angles are missing (after
    2D classification). Half sets are 0 and 1, -1 where ``rlnRandomSubset`` is missing or another number.

    Args:
        project: folder that image names are relative to; for the others tried see ``find_stacks``.
        need_images: False reads the table alone, for jobs that need poses but no images.

    Raises:
        InputError: anything missing, doubled, contradictory or not a number, with what to do.
    """
    path = Path(path)
    blocks = read_star(path)
    name = _particle_block(blocks, path)
    table = blocks[name]
    n = table.rows
    if not n:
        raise InputError(f"{path} holds no particles: its table data_{name} has no rows.")
    messages: list[str] = []
    missing = [f"_{label}" for label in DEFOCUS if label not in table]
    if missing:
        raise InputError(
            f"{path} has no CTF: column {', '.join(missing)} is missing; estimate the CTF first."
        )
    optics = read_optics(blocks.get("optics"), table, path, messages)

    names, address = parse_names(table.raw("rlnImageName"), path)
    stacks = [Path(stack) for stack in names]
    box = optics.box
    if need_images:
        stacks = find_stacks(names, path, project)
        stacks, address = _merge_aliases(stacks, address)
        opened = Stacks(stacks)
        opened.check(address)
        box = _check_against_stacks(opened, optics.box, optics.pixel_size, path, messages)
    refuse_duplicates(address, stacks, path)
    if box and box % 2:
        raise InputError(f"The box of {path} must be even, got {box}: pad to {box + 1}.")

    def column(label: str, default: float = 0.0) -> np.ndarray:
        return table.floats(label, path) if label in table else np.full(n, default)

    has_pose = all(label in table for label in ANGLES)
    rotation = torch.eye(3).repeat(n, 1, 1)
    if has_pose:
        rotation = euler_to_matrix(*(_radians(column(label)) for label in ANGLES)).float()
    shift = [
        column(new) if new in table else column(old) * optics.pixel_size
        for new, old in zip(ORIGINS, ORIGINS_PX, strict=True)
    ]
    defocus = np.stack([column(label) for label in DEFOCUS], 1)
    largest = np.abs(defocus[:, :2]).max()
    if 0 < largest < LEAST_DEFOCUS:
        raise InputError(
            f"_{DEFOCUS[0]} is at most {largest:.3g} in {path}: give the defocus in Å, not in µm."
        )
    if defocus[:, :2].max() < 0:
        messages.append(
            f"All particles of {path} are overfocused: _{DEFOCUS[0]} is negative (underfocus is positive)."
        )
    defocus[:, 2] = np.deg2rad(defocus[:, 2])
    reach = np.abs(np.stack(shift)).max(0)
    if box and reach.max() > box * optics.pixel_size / 2:
        row = int(reach.argmax())
        raise InputError(
            f"The origin of particle {row + 1} of {path} is {reach[row]:.4g} Å from the middle of its image, outside of the "
            f"{box * optics.pixel_size:.4g} Å box: correct it (_{ORIGINS[0]} is in Å, _{ORIGINS_PX[0]} in pixels) or remove it."
        )
    subset = table.integers(HALF, path) if HALF in table else np.zeros(n, dtype=np.int64)
    sigma = np.stack([np.deg2rad(column(SIGMAS[0])), column(SIGMAS[1])], 1)
    for label, neutral in NOT_APPLIED.items():
        if label in table and np.any(column(label, neutral) != neutral):
            messages.append(f"_{label} of {path} is kept but not applied.")

    particles = Particles(
        rotation=rotation,
        shift=_float32(np.stack(shift, 1)),
        defocus=_float32(defocus),
        phase_shift=_float32(np.deg2rad(column("rlnPhaseShift"))),
        optics_group=torch.from_numpy(optics.row),
        half=torch.from_numpy(np.where((subset == 1) | (subset == 2), subset - 1, -1)),
        scale=_float32(column(SCALE, 1.0)),
        address=torch.from_numpy(address),
        pose_sigma=_float32(sigma),
        has_pose=has_pose,
        optics=optics.groups,
    )
    tables = _upgraded(blocks, name, optics, box or 0)
    return ParticleFile(path, particles, stacks, box or 0, optics.pixel_size, tables, messages)


def write_particles(
    path: str | Path,
    source: ParticleFile,
    particles: Particles,
    extra: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write ``particles``, the same rows as in ``source``, in the layout of RELION 3.1, atomically.

    All columns and tables of the source are kept, in order and to the digit. Updated or added: image names (see
    ``format_names``), angles, origins, half sets where known, ``cryotorchScale``, ``cryotorchRotationSigma`` (degrees),
    ``cryotorchShiftSigma`` (Å), and ``extra`` columns. Particles without a pose get none of the pose columns.
    """
    path = Path(path)
    table = source.tables["particles"].copy()
    if len(particles) != table.rows:
        raise ValueError(f"{len(particles)} particles for the {table.rows} rows of {source.path}.")
    table["rlnImageName"] = format_names(particles.address.numpy(), source.stacks, path.parent)
    if particles.has_pose:
        for label, angle in zip(ANGLES, matrix_to_euler(particles.rotation.double()), strict=True):
            table[label] = _degrees(angle)
        for label, shift in zip(ORIGINS, particles.shift.T, strict=True):
            table[label] = shift.double().numpy()
        for label in ORIGINS_PX:  # would contradict the new ones
            table.pop(label, None)
        table[SIGMAS[0]] = _degrees(particles.pose_sigma[:, 0])
        table[SIGMAS[1]] = particles.pose_sigma[:, 1].double().numpy()
    if (particles.half >= 0).any():
        table[HALF] = (particles.half + 1).numpy()
    if particles.has_pose or (particles.scale != 1).any():
        table[SCALE] = particles.scale.double().numpy()
    for label, values in (extra or {}).items():
        table[label] = values
    write_star(path, {**source.tables, "particles": table})


def new_particle_file(
    path: str | Path, stacks: list[Path], box: int, particles: Particles
) -> ParticleFile:
    """A source for ``write_particles`` where no file was read: CTF, optics and image names of ``particles``."""
    defocus = particles.defocus.double().numpy()
    table = Table(
        {
            "rlnImageName": format_names(particles.address.numpy(), stacks, Path(path).parent),
            "rlnDefocusU": defocus[:, 0],
            "rlnDefocusV": defocus[:, 1],
            "rlnDefocusAngle": np.rad2deg(defocus[:, 2]),
            "rlnPhaseShift": _degrees(particles.phase_shift),
            GROUP: (particles.optics_group + 1).numpy(),
        }
    )
    tables = {"optics": optics_table(particles.optics, box), "particles": table}
    pixel_size = float(particles.optics.pixel_size[0])
    return ParticleFile(Path(path), particles, list(stacks), box, pixel_size, tables)


def _particle_block(blocks: dict[str, Table], path: Path) -> str:
    holding = [name for name, table in blocks.items() if "rlnImageName" in table]
    if "particles" in blocks and "particles" not in holding:
        raise InputError(f"The table data_particles of {path} has no column _rlnImageName: add it.")
    for name in ("particles", "images", "", *holding):
        if name in holding:
            return name
    found = ", ".join(f"data_{name}" for name in blocks)
    raise InputError(
        f"{path} is no particle file: none of its tables ({found}) has the column _rlnImageName."
    )


def _merge_aliases(stacks: list[Path], address: np.ndarray) -> tuple[list[Path], np.ndarray]:
    """One entry per file, also where a file goes by two names, so that duplicates show."""
    number: dict[Path, int] = {}
    renumber = np.array([number.setdefault(stack.resolve(), len(number)) for stack in stacks])
    if len(number) == len(stacks):
        return stacks, address
    kept = [stacks[int(np.argmax(renumber == i))] for i in range(len(number))]
    return kept, np.stack([renumber[address[:, 0]], address[:, 1]], 1)


def _check_against_stacks(
    stacks: Stacks, box: int | None, pixel_size: float, path: Path, messages: list[str]
) -> int:
    """The box, after comparing what STAR and headers say; a slightly other pixel size is a calibration and wins."""
    if box not in (None, stacks.box):
        raise InputError(
            f"_rlnImageSize is {box} in {path}, but the images of {stacks.paths[0]} have {stacks.box} pixels: "
            "correct the STAR file or name the right stack."
        )
    sizes = [
        (size, stack) for size, stack in zip(stacks.pixel_sizes, stacks.paths, strict=True) if size
    ]
    wrong = [(size, stack) for size, stack in sizes if abs(size - pixel_size) > 1e-3 * pixel_size]
    for size, stack in wrong:
        if abs(size / pixel_size - 1) > CALIBRATION:
            raise InputError(
                f"The pixel size is {pixel_size:g} Å in {path} but {size:g} Å in the header of {stack}: correct the one "
                "that is wrong."
            )
    if wrong:
        messages.append(
            f"The pixel size is {pixel_size:g} Å in {path} but {wrong[0][0]:g} Å in the header of {wrong[0][1]}"
            f" ({len(wrong)} of {len(stacks.paths)} stacks differ): the STAR file's is used."
        )
    return stacks.box


def _upgraded(
    blocks: dict[str, Table], name: str, optics: OpticsOfFile, box: int
) -> dict[str, Table]:
    """The blocks in RELION 3.1's layout: a table of optics, origins in Å, the particles called "particles"."""
    table = blocks[name].copy()
    table.single = False
    table[GROUP] = optics.number
    for new, old in zip(ORIGINS, ORIGINS_PX, strict=True):
        if old in table and new not in table:
            table[old] = table.floats(old) * optics.pixel_size
            table = table.rename({old: new})
    tables: dict[str, Table] = {}
    for key, block in blocks.items():
        if key == name:
            tables.setdefault("optics", optics.table(box))
            tables["particles"] = table
        else:
            tables[key] = optics.table(box) if key == "optics" else block
    return tables


def _float32(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _radians(degrees: np.ndarray) -> Tensor:
    return torch.from_numpy(np.deg2rad(degrees))


def _degrees(radians: Tensor) -> np.ndarray:
    return np.rad2deg(radians.double().numpy())
