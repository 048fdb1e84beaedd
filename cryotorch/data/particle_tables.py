"""Which table of a STAR file holds the particles, and what must not be in it."""

from __future__ import annotations

from pathlib import Path

from cryotorch.data.optics import GROUP, OpticsOfFile
from cryotorch.data.table import Table
from cryotorch.errors import InputError

NAME = "rlnImageName"
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
ORIGINS = ("rlnOriginXAngst", "rlnOriginYAngst")
ORIGINS_PX = ("rlnOriginX", "rlnOriginY")
TOMO = "rlnTomo"  # how RELION's labels of tomography begin
DIMENSIONS = "rlnImageDimensionality"


def particle_block(blocks: dict[str, Table], path: Path) -> str:
    """The name of the table of particles.

    Raises:
        InputError: there is none, or its particles are those of tomograms.
    """
    _refuse_tomography(blocks, path)
    holding = [name for name, table in blocks.items() if NAME in table]
    if "particles" in blocks and "particles" not in holding:
        raise InputError(f"The table data_particles of {path} has no column _{NAME}: add it.")
    for name in ("particles", "images", "", *holding):
        if name in holding:
            return name
    found = ", ".join(f"data_{name}" for name in blocks)
    raise InputError(
        f"{path} is no particle file: none of its tables ({found}) has the column _{NAME}."
    )


def refuse_partial_poses(table: Table, path: Path) -> None:
    """Raise InputError for a pose of which a column is missing; psi alone is what 2D classification leaves."""
    overruled = all(label in table for label in ORIGINS)  # those in pixels
    for labels in (ORIGINS, *([] if overruled else [ORIGINS_PX]), ANGLES):
        there = [label for label in labels if label in table]
        if there and len(there) < len(labels) and there != ["rlnAnglePsi"]:
            missing = " and ".join(f"_{label}" for label in labels if label not in table)
            raise InputError(
                f"{path} has _{there[0]} but no {missing}: add what is missing, or remove the rest of it."
            )


def upgraded(blocks: dict[str, Table], name: str, optics: OpticsOfFile) -> dict[str, Table]:
    """The blocks in RELION 3.1's layout: a table of optics, origins in Å, the particles called "particles"."""
    table = blocks[name].copy()
    table.single = False
    table[GROUP] = optics.number
    for new, old in zip(ORIGINS, ORIGINS_PX, strict=True):
        if old in table and new not in table:
            table[old] = table.floats(old) * optics.pixel_size[optics.row]
            table = table.rename({old: new})
    tables: dict[str, Table] = {}
    for key, block in blocks.items():
        if key == name:
            tables.setdefault("optics", optics.table())
            tables["particles"] = table
        else:
            tables[key] = optics.table() if key == "optics" else block
    return tables


def _refuse_tomography(blocks: dict[str, Table], path: Path) -> None:
    """Raise InputError for the files of subtomogram averaging, which look like those of single particles at first sight."""
    label = next((x for table in blocks.values() for x in table if x.startswith(TOMO)), None)
    solid = any(
        DIMENSIONS in table and "3" in table[DIMENSIONS].tolist() for table in blocks.values()
    )
    if label is None and not solid:
        return
    if solid or any(NAME in table or "rlnTomoParticleName" in table for table in blocks.values()):
        what = "holds subtomograms or pseudo-subtomograms, several views of each particle"
    else:
        what = "describes tomograms or their tilt series"
    why = f"_{DIMENSIONS} is 3" if label is None else f"it has _{label}"
    raise InputError(
        f"{path} {what} ({why}), and cryotorch refines single images of particles: average subtomograms in RELION."
    )
