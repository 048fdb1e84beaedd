"""Atomic models move with all that depends on where they are."""

from __future__ import annotations

from pathlib import Path

import gemmi
import numpy as np
import pytest
import torch

from cryotorch.data.moved_model import write_moved_model
from cryotorch.ops.geometry.rotations import random_rotations

MODEL = """\
REMARK   2 RESOLUTION.    3.40 ANGSTROMS.
REMARK 350 BIOMOLECULE: 1
REMARK 350 APPLY THE FOLLOWING TO CHAINS: A
REMARK 350   BIOMT1   1  1.000000  0.000000  0.000000        0.00000
REMARK 350   BIOMT2   1  0.000000  1.000000  0.000000        0.00000
REMARK 350   BIOMT3   1  0.000000  0.000000  1.000000        0.00000
REMARK 350   BIOMT1   2 -1.000000  0.000000  0.000000       30.00000
REMARK 350   BIOMT2   2  0.000000 -1.000000  0.000000       10.00000
REMARK 350   BIOMT3   2  0.000000  0.000000  1.000000        0.00000
CRYST1   80.000   90.000  100.000  90.00  90.00  90.00 P 21 21 21
ATOM      1  N   ALA A   1       1.000   2.000   3.000  1.00 40.00           N
ANISOU    1  N   ALA A   1     4000   5000   6000    100    200   -300       N
ATOM      2  CA AALA A   1       2.000   3.500   4.000  0.60 40.00           C
ATOM      3  CA BALA A   1       2.200   3.700   4.300  0.40 40.00           C
ATOM      4  H   ALA A   1       1.500   1.500   2.500  1.00 40.00           H
HETATM    5  O   HOH A   2       9.000   8.000   7.000  1.00 40.00           O
END
"""


def positions(structure: gemmi.Structure) -> np.ndarray:
    return np.array([found.atom.pos.tolist() for found in structure[0].all()])


@pytest.mark.parametrize("format_", ["pdb", "cif"])
def test_all_of_a_model_moves(tmp_path: Path, format_: str) -> None:
    source, target = tmp_path / f"in.{format_}", tmp_path / f"out.{format_}"
    before = gemmi.read_pdb_string(MODEL)
    if format_ == "pdb":
        source.write_text(MODEL)
    else:
        before.setup_entities()
        document = before.make_mmcif_document()
        document[0].set_pair("_my.note", "kept")
        document.write_file(str(source))
    turn = random_rotations(1, torch.Generator().manual_seed(0))[0].double()
    shift = torch.tensor([5.0, -6.0, 7.0]).double()
    write_moved_model(source, target, turn, shift)
    after, rotation = gemmi.read_structure(str(target)), turn.numpy()
    expected = positions(before) @ rotation.T + shift.numpy()
    assert positions(after) == pytest.approx(expected, abs=1e-3)
    assert [f.atom.altloc for f in after[0].all()] == [f.atom.altloc for f in before[0].all()]
    tensors = [np.array(s[0]["A"][0][0].aniso.as_mat33().tolist()) for s in (before, after)]
    assert tensors[1] == pytest.approx(rotation @ tensors[0] @ rotation.T, abs=2e-4)
    assert not after.cell.is_crystal()
    for structure in (before, after):
        structure.transform_to_assembly("1", gemmi.HowToNameCopiedChain.AddNumber)
    assert len(positions(after)) == 10
    expected = positions(before) @ rotation.T + shift.numpy()
    assert positions(after) == pytest.approx(expected, abs=2e-3)
    kept = "REMARK   2 RESOLUTION.    3.40" if format_ == "pdb" else "_my.note"
    assert kept in target.read_text()
