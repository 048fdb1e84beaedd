"""Atomic models moved as they are: every atom of the file with its displacement tensor, and the operators that build assemblies."""

from __future__ import annotations

from pathlib import Path

import gemmi
from torch import Tensor

from cryotorch.data.files import replace_file

CIF = (".cif", ".mmcif")
ASSEMBLIES = "REMARK 350"


def is_cif(path: str | Path) -> bool:
    """Whether a file name, perhaps of a compressed file, is that of mmCIF; else it is PDB."""
    suffixes = [s.lower() for s in Path(path).suffixes[-2:]]
    return any(s in CIF for s in suffixes)


def write_moved_model(
    source: str | Path, target: str | Path, rotation: Tensor, shift: Tensor
) -> None:
    """The atomic model ``source`` with every atom at R x + shift, R (3, 3) a proper rotation and shift (3,) in Å, in its own format.

    All models, alternative locations, hydrogens and waters move, anisotropic displacements turn, and so do the operators of biological
    assemblies and of non-crystallographic symmetry. The crystal's cell, whose symmetry the moved atoms do not have, is left out. Of an
    mmCIF file all else stays as it was.
    """
    move = gemmi.Transform()
    move.mat.fromlist(rotation.double().tolist())
    move.vec.fromlist(shift.double().tolist())
    back = move.inverse()
    document = gemmi.cif.read(str(source)) if is_cif(source) else None
    if document is None:
        structure = gemmi.read_structure(str(source))
    else:
        structure = gemmi.make_structure_from_block(document[0])
    for model in structure:
        model.transform_pos_and_adp(move)
    for assembly in structure.assemblies:
        for generator in assembly.generators:
            for operator in generator.operators:
                operator.transform = move.combine(operator.transform).combine(back)
    for copy in structure.ncs:
        moved = move.combine(copy.tr).combine(back)
        copy.tr.mat.fromlist(moved.mat.tolist())
        copy.tr.vec.fromlist(moved.vec.tolist())
    structure.cell, structure.spacegroup_hm = gemmi.UnitCell(), ""
    structure.has_origx = False
    if document is None:
        text = _as_pdb(structure)
    else:
        groups = gemmi.MmcifOutputGroups(
            False, atoms=True, assembly=True, ncs=True, cell=True, symmetry=True
        )
        structure.update_mmcif_block(document[0], groups)
        text = document.as_string()
    with replace_file(Path(target)) as file:
        file.write(text.encode())


def _as_pdb(structure: gemmi.Structure) -> str:
    """Its PDB file, with the remarks as they were but for those that say how assemblies are built."""
    kept = [line for line in structure.raw_remarks if not line.startswith(ASSEMBLIES)]
    structure.raw_remarks = []  # what gemmi writes itself where there are none
    own = structure.make_pdb_headers().splitlines()
    made = [line for line in own if line.startswith(ASSEMBLIES)]
    before = sum(line[:10] < ASSEMBLIES for line in kept)
    structure.raw_remarks = kept[:before] + made + kept[before:]
    return structure.make_pdb_string()
