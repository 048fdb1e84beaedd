"""Atomic models: reading, assemblies, and density against gemmi's calculator and a closed form."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import gemmi
import numpy as np
import pytest
import torch

from cryotorch.data.atoms import SIGMA_PER_RESOLUTION, Atoms, _scattering, density, read_atoms
from cryotorch.errors import InputError
from cryotorch.ops.geometry.symmetry import point_group, symmetry_correlation

LINE = "{:6}{:5} {:^4} {:3} {}{:4}    {:8.3f}{:8.3f}{:8.3f}{:6.2f}{:6.2f}          {:>2}"


def pdb(path: Path, *atoms: tuple, before: str = "") -> Path:
    """A PDB file of (residue, name, element, x, y, z, occupancy, B)."""
    lines = [
        LINE.format("ATOM", i, name, residue, "A", i, x, y, z, occupancy, b, element)
        for i, (residue, name, element, x, y, z, occupancy, b) in enumerate(atoms, 1)
    ]
    path.write_text(before + "\n".join([*lines, "END", ""]))
    return path


def test_heavy_atoms_are_kept_waters_and_hydrogens_dropped(tmp_path: Path) -> None:
    file = pdb(
        tmp_path / "a.pdb",
        ("ALA", "CA", "C", 1, 2, 3, 1, 20),
        ("ALA", "HA", "H", 1, 2, 4, 1, 20),
        ("GLY", "N", "N", 5, 2, 3, 0.5, 30),
        ("HOH", "O", "O", 9, 9, 9, 1, 40),
        ("GLY", "O", "O", 9, 9, 9, 0, 40),
    )
    atoms = read_atoms(file, centre=False)
    assert torch.equal(atoms.position, torch.tensor([[1.0, 2, 3], [5, 2, 3]]))
    # electron scattering at zero angle, International Tables C 4.3.2.2: C 2.509 Å, N 2.214 Å
    assert atoms.weight.tolist() == pytest.approx([2.509, 2.2135 / 2], rel=1e-3)
    width = atoms.bfactor - torch.tensor([20.0, 30.0])
    assert bool((width > 8).all()) and bool((width < 20).all())
    centred = read_atoms(file)
    assert float(centred.centre_of_mass().norm()) < 1e-5
    assert torch.allclose(centred.position[1] - centred.position[0], torch.tensor([4.0, 0, 0]))


def test_one_gaussian_per_element_matches_the_tables_at_zero_and_3_angstrom() -> None:
    for name in ("C", "N", "O", "S", "P", "Mg", "Fe"):
        weight, bfactor = _scattering(gemmi.Element(name))
        table = gemmi.Element(name).c4322
        for k in (0.0, 1 / 3):
            exact = sum(a * math.exp(-b * k**2 / 4) for a, b in zip(table.a, table.b, strict=True))
            assert weight * math.exp(-bfactor * k**2 / 4) == pytest.approx(exact, rel=1e-6)


def test_density_of_one_atom_is_the_formula() -> None:
    box, pixel_size, resolution = 32, 1.5, 8.0
    atom = Atoms(torch.tensor([[2.0, -3.5, 5.25]]), torch.tensor([2.5]), torch.tensor([50.0]))
    sigma2 = 50 / (8 * math.pi**2) + (SIGMA_PER_RESOLUTION * resolution) ** 2
    line = (torch.arange(box, dtype=torch.float64) - box // 2) * pixel_size
    r2 = (
        (line[:, None, None] - 5.25) ** 2 + (line[:, None] + 3.5) ** 2 + (line - 2.0) ** 2
    )  # (z, y, x)
    expected = 2.5 * (2 * math.pi * sigma2) ** -1.5 * torch.exp(-r2 / (2 * sigma2))
    measured = density(atom, box, pixel_size, resolution).double()
    assert torch.allclose(measured, expected, atol=1e-4 * float(expected.max()))


def test_biological_assembly_is_built(tmp_path: Path) -> None:
    remark = "REMARK 350 BIOMOLECULE: 1\nREMARK 350 APPLY THE FOLLOWING TO CHAINS: A\n"
    for number, sign in ((1, 1), (2, -1)):
        for row, line in enumerate(np.diag([sign, sign, 1]), 1):
            numbers = "".join(f"{value:10.6f}" for value in line) + f"{0:15.5f}"
            remark += f"REMARK 350   BIOMT{row}   {number}{numbers}\n"
    file = pdb(tmp_path / "a.pdb", ("ALA", "CA", "C", 1, 2, 3, 1, 20), before=remark)
    assert sorted(read_atoms(file, centre=False).position.tolist()) == [[-1, -2, 3], [1, 2, 3]]
    assert read_atoms(file, assembly=None, centre=False).position.tolist() == [[1, 2, 3]]
    with pytest.raises(InputError, match=r"no assembly '7' \(it has: 1\)"):
        read_atoms(file, assembly="7")


def test_parts_are_chosen_by_chain_and_residue(tmp_path: Path) -> None:
    rows = [("ALA", "CA", "C", i, 0, 0, 1, 20) for i in range(1, 7)]
    file = pdb(tmp_path / "a.pdb", *rows)
    text = file.read_text().splitlines()
    text[3:6] = [line[:21] + "B" + line[22:] for line in text[3:6]]  # chain B from the fourth on
    file.write_text("\n".join(text))

    def xs(*select: str) -> list[float]:
        return read_atoms(file, centre=False, select=select).position[:, 0].tolist()

    assert xs() == xs("A", "B") == xs("A,B") == [1, 2, 3, 4, 5, 6]
    assert xs("B") == [4, 5, 6] and xs("A/2-3") == [2, 3]
    assert xs("A/2-3", "B/6", "A/3") == [2, 3, 6]
    with pytest.raises(
        InputError, match=r"select=C chooses no atom of .*a\.pdb: its chains are A, B;"
    ):
        xs("C")
    with pytest.raises(InputError, match=r"select=\[\[ cannot be read"):
        xs("[[")


def test_mmcif_and_gzip_read_the_same(tmp_path: Path) -> None:
    file = pdb(
        tmp_path / "a.pdb", ("ALA", "CA", "C", 1, 2, 3, 1, 20), ("GLY", "N", "N", 5, 2, 3, 1, 30)
    )
    structure = gemmi.read_structure(str(file))
    structure.setup_entities()
    structure.make_mmcif_document().write_file(str(tmp_path / "a.cif"))
    (tmp_path / "b.pdb.gz").write_bytes(gzip.compress(file.read_bytes()))
    expected = read_atoms(file)
    for other in ("a.cif", "b.pdb.gz"):
        assert torch.allclose(read_atoms(tmp_path / other).position, expected.position)
        assert torch.equal(read_atoms(tmp_path / other).weight, expected.weight)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.pdb", "no model here\n"),
        ("a.pdb", ""),
        ("a.cif", "this is not mmCIF {"),
        ("a.cif", "data_x\n_cell.length_a 10\n"),
        ("a.pdb.gz", "not gzip"),
        ("a.txt", "hello"),
        ("a.pdb", "\x00\x01\x02\xff"),
    ],
)
def test_a_file_that_is_no_model_is_refused_by_name(
    tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=name):
        read_atoms(tmp_path / name)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.pdb does not exist"):
        read_atoms(tmp_path / "none.pdb")


@pytest.mark.data
def test_density_agrees_with_gemmi(shared_data: Path) -> None:
    """Five Gaussians per atom there, one here: correlation 0.9999 at 6 Å."""
    file, box, pixel_size, resolution = shared_data / "real/3sn6.pdb.gz", 100, 2.0, 6.0
    measured = density(read_atoms(file), box, pixel_size, resolution)
    structure = gemmi.read_structure(str(file))
    structure.setup_entities()
    structure.remove_hydrogens()
    structure.remove_waters()
    move = torch.full((3,), (box // 2) * pixel_size)
    move -= read_atoms(file, centre=False).centre_of_mass()
    for place in structure[0].all():
        place.atom.pos += gemmi.Position(*move.tolist())
    edge = box * pixel_size
    calculator = gemmi.DensityCalculatorE()
    calculator.d_min, calculator.rate = 2 * pixel_size, 1.0
    calculator.blur = 8 * math.pi**2 * (SIGMA_PER_RESOLUTION * resolution) ** 2
    calculator.grid.set_unit_cell(gemmi.UnitCell(edge, edge, edge, 90, 90, 90))
    calculator.put_model_density_on_grid(structure[0])
    expected = torch.from_numpy(np.array(calculator.grid.array)).permute(2, 1, 0)
    assert expected.shape == measured.shape
    pair = torch.stack([expected.flatten(), measured.flatten()])
    assert float(torch.corrcoef(pair)[0, 1]) > 0.999
    assert float(measured.sum() / expected.sum()) == pytest.approx(1, abs=0.005)


@pytest.mark.data
def test_a_channel_has_its_fourfold_axis_on_z(shared_data: Path) -> None:
    atoms = read_atoms(shared_data / "real/pdb3j5p.pdb.gz")
    assert len(atoms) == 18_636
    volume = density(atoms, 64, 3.0, 12.0)
    assert float(symmetry_correlation(volume, point_group("C4")).min()) > 0.999


@pytest.mark.data
def test_a_virus_shell_has_sixty_copies(shared_data: Path) -> None:
    file = shared_data / "real/2buk.pdb.gz"
    one, shell = read_atoms(file, assembly=None), read_atoms(file)
    # ions on a symmetry axis are there once, not once per copy
    assert 59.9 * len(one) < len(shell) <= 60 * len(one)
    radius = shell.position.norm(dim=1)
    assert 40 < float(radius.min()) < float(radius.max()) < 105
