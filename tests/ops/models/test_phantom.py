"""The phantom: like a protein, of the right size, symmetric where asked and not otherwise, always the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cryotorch.ops.fourier.filters import low_pass, radial_amplitude
from cryotorch.ops.fourier.resample import resample_volume
from cryotorch.ops.geometry.symmetry import point_group, symmetry_correlation
from cryotorch.ops.models.phantom import (
    HELIX,
    PseudoAtoms,
    _Draw,
    _elements,
    phantom,
    phantom_atoms,
)

EDGE = 144.0


@pytest.fixture(scope="module")
def atoms() -> PseudoAtoms:
    return phantom_atoms(EDGE, point_group("C1"))


@pytest.fixture(scope="module")
def volume() -> torch.Tensor:
    return phantom(48, 3.0, point_group("C1"))


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def test_size_mass_and_centre(atoms: PseudoAtoms) -> None:
    radius = atoms.position.norm(dim=1)
    assert 0.25 * EDGE < float(radius.max()) < 0.35 * EDGE
    centre = (atoms.position * atoms.weight[:, None]).sum(0) / atoms.weight.sum()
    assert float(centre.norm()) < 1e-3
    # 13.5 Da per heavy atom that scatters like 2.4 Å
    assert 20 < float(atoms.weight.sum()) / 2.4 * 13.5e-3 < 120


def test_solvent_is_empty_and_the_molecule_compact(volume: torch.Tensor) -> None:
    line = (torch.arange(48.0) - 24) * 3
    r = (line[:, None, None] ** 2 + line[:, None] ** 2 + line**2).sqrt()
    solvent = volume[r > 0.36 * EDGE]
    assert float(solvent.abs().max()) < 0.02 * float(volume.max())
    assert float(volume.min()) > -0.12 * float(volume.max())
    # one piece: at 15 Å the density is connected to its peak over most of its mass
    smooth = low_pass(volume, 3.0, 15.0)
    assert float(volume[smooth > 0.1 * smooth.max()].sum()) > 0.9 * float(volume.sum())


def test_power_spectrum_falls_like_a_protein(volume: torch.Tensor) -> None:
    """Guinier: steep from the shape, down to 10 Å. Wilson: after it the atoms' slow decay."""
    amplitude = radial_amplitude(phantom(96, 1.5, point_group("C1"))).log()
    inverse_d2 = (torch.arange(len(amplitude)) / EDGE) ** 2

    def slope(fine: float, coarse: float) -> float:
        use = (inverse_d2 < 1 / fine**2) & (inverse_d2 > 1 / coarse**2)
        x, y = inverse_d2[use], amplitude[use]
        return float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())

    guinier, wilson = 4 * slope(14, 60), 4 * slope(3.2, 7)
    assert guinier < -1000
    # B of the atoms, 40 to 120 Å^2, and the blur of a map at 3 Å, 8 pi^2 (0.225 * 3)^2 = 36
    assert -220 < wilson < -60
    assert float(amplitude[1] - amplitude[-2]) > 3


def test_same_seed_same_molecule_other_seed_another(atoms: PseudoAtoms) -> None:
    again = phantom_atoms(EDGE, point_group("C1"))
    assert torch.equal(again.position, atoms.position)
    assert torch.equal(again.weight, atoms.weight)
    other = phantom(48, 3.0, point_group("C1"), seed=1)
    same = phantom(48, 3.0, point_group("C1"), seed=0)
    smooth = [low_pass(v, 3.0, 20.0) for v in (same, other)]
    assert correlation(*smooth) < 0.9


def test_the_molecule_is_the_same_at_any_pixel_size(volume: torch.Tensor) -> None:
    fine = phantom(72, 2.0, point_group("C1"), resolution=6.0)
    assert correlation(resample_volume(fine, 2.0, 48, 3.0), volume) > 0.999


def test_helices_are_right_handed() -> None:
    """Dihedral of four C-alphas: +50 degrees in an alpha helix, which a mirror turns to -50."""
    points = torch.from_numpy(_elements(np.zeros(3), HELIX, 8, _Draw(0))[0])
    b = points[:, 1:4] - points[:, :3]
    n1, n2 = torch.linalg.cross(b[:, 0], b[:, 1]), torch.linalg.cross(b[:, 1], b[:, 2])
    sine = (b[:, 0] * n2).sum(1) * b[:, 1].norm(dim=1)
    dihedral = torch.rad2deg(torch.atan2(sine, (n1 * n2).sum(1)))
    assert torch.allclose(dihedral, torch.full_like(dihedral, 50.0), atol=2.0)
    assert torch.allclose(b.norm(dim=2), torch.full_like(b[..., 0], 3.8), atol=0.05)


def test_no_accidental_symmetry_and_the_hands_differ(volume: torch.Tensor) -> None:
    smooth = low_pass(volume, 3.0, 25.0)
    for name in ("C2", "D2", "C3"):
        assert float(symmetry_correlation(smooth, point_group(name))[1:].max()) < 0.9
    # the best of many turns of the mirror image stays well below the molecule itself
    mirrored = torch.roll(smooth.flip(0), 1, 0)
    turns = [mirrored.flip(a).roll(1, a).flip(b).roll(1, b) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert max(correlation(smooth, turn) for turn in [mirrored, *turns]) < 0.93


@pytest.mark.parametrize("name", ["C4", "D3", "T", "O", "I", "I3"])
def test_symmetry_is_exact_and_copies_keep_apart(name: str) -> None:
    group = point_group(name)
    atoms = phantom_atoms(EDGE, group)
    n = len(atoms.weight) // len(group)
    assert n > 40
    unit = atoms.position[:n].double()
    for i in range(len(group)):
        copy = atoms.position[i * n : (i + 1) * n].double()
        assert torch.allclose(copy, unit @ group[i].T, atol=1e-3)
    # backbones keep apart by construction; side chains may come closer but do not pile up
    gap = torch.cdist(unit, atoms.position[n:].double()).amin(1)
    assert float((gap < 1.5).double().mean()) < 0.04
    assert 0.2 * EDGE < float(atoms.position.norm(dim=1).max()) < 0.36 * EDGE


@pytest.mark.parametrize("name", ["C4", "D3", "T", "O", "I"])
def test_the_symmetric_map_is_symmetric_and_no_more_than_that(name: str) -> None:
    group = point_group(name)
    # at four pixels, where turning a map by interpolation costs nothing
    volume = phantom(48, 3.0, group, resolution=15.0)
    assert float(symmetry_correlation(volume, group).min()) > 0.999
    higher = {"C4": "D4", "D3": "D6", "T": "O", "O": "C5", "I": "I1"}[name]
    assert float(symmetry_correlation(volume, point_group(higher)).min()) < 0.9


@pytest.mark.parametrize("name", ["C1", "D7", "I"])
def test_in_a_small_box_the_molecule_shrinks(name: str) -> None:
    atoms = phantom_atoms(30.0, point_group(name))
    assert 5 < float(atoms.position.norm(dim=1).max()) < 11
    volume = phantom(20, 1.5, point_group(name))
    assert float(volume.max()) > 0
    assert torch.isfinite(volume).all()
