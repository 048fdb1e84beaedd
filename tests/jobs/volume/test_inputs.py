"""Maps, masks and atomic models, each where its header or its coordinates put it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import gemmi
import mrcfile
import numpy as np
import pytest
import torch

from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.errors import InputError

PX = 2.0


def test_a_corrected_pixel_size_takes_the_corner_along(
    tmp_path, edit: Callable, off_centre: Callable
) -> None:
    source = off_centre(tmp_path, "in.mrc", 40, (-40, 0, 20))
    _, summary = edit(tmp_path / "a", volume=source, pixel_size="2.2A")
    assert summary["corner"] == pytest.approx([-44, 0, 22])


def test_a_map_that_is_no_cube_becomes_one(tmp_path, edit: Callable, off_centre: Callable) -> None:
    whole = read_volume(off_centre(tmp_path, "in.mrc", 40, (0, 0, 0)))[0]
    write_volume(tmp_path / "slab.mrc", whole[8:37, 2:], PX, (0, 4, 16))
    result, summary = edit(tmp_path / "a", volume=f"{tmp_path}/slab.mrc")
    place = [c * PX for c in (16, 20, 24)]
    assert len(result) == 40
    assert summary["centre_of_mass"]["angstrom"] == pytest.approx(place, abs=0.01)
    assert "40 x 38 x 29 voxels, padded with zeros to 40 voxels per edge" in summary["steps"][0]


def test_an_odd_box_without_pixel_size(tmp_path: Path, volumes: Path, edit: Callable) -> None:
    with mrcfile.new(tmp_path / "bare.mrc") as file:
        file.set_data(read_volume(volumes / "odd.mrc")[0].numpy())
    source = f"{tmp_path}/bare.mrc"
    with pytest.raises(InputError, match=r"does not state its pixel size: add pixel_size=<Å>"):
        edit(tmp_path / "a", volume=source)
    assert not (tmp_path / "a").exists()
    mask, summary = edit(
        tmp_path / "a",
        volume=source,
        pixel_size=5,
        threshold=0.3,
        soften="3px",
        box_size=41,
        flip_hand=True,
    )
    assert len(mask) == 41 and summary["pixel_size"] == 5
    _, summary = edit(tmp_path / "b", volume=f"{volumes}/blob.mrc", like=source, pixel_size=5)
    assert (summary["box"], summary["pixel_size"]) == (33, 5)


@pytest.mark.parametrize("box", [40, 41])
@pytest.mark.parametrize("field", ["origin", "start"])
def test_a_fitted_model_lands_where_its_coordinates_are(
    two_chains, tmp_path, box, field, edit: Callable
) -> None:
    """In the frame of the map: its corner is at the header's origin, or at its start in voxels."""
    corner = torch.tensor([-4.0, -12.0, 6.0])
    write_volume(tmp_path / "like.mrc", torch.zeros(box, box, box), PX)
    with mrcfile.open(tmp_path / "like.mrc", "r+") as file:
        if field == "origin":
            file.header.origin.x, file.header.origin.y, file.header.origin.z = corner.tolist()
        else:
            file.header.nxstart, file.header.nystart, file.header.nzstart = -2, -6, 3
    common = dict(volume=str(two_chains), like=f"{tmp_path}/like.mrc", resolution=6)
    whole, summary = edit(tmp_path / "a", **common)
    atoms = gemmi.read_structure(str(two_chains))[0]
    for name, chains in (("a", "AB"), ("b", "B")):
        if name == "b":
            whole, summary = edit(tmp_path / "b", **common, select="B")
        xyz = [a.pos.tolist() for c in atoms if c.name in chains for r in c for a in r]
        expected = (torch.tensor(xyz, dtype=torch.float64).mean(0) - corner) / PX
        assert summary["centre_of_mass"]["voxels"] == pytest.approx(expected.tolist(), abs=0.05)
    assert (len(whole), summary["read_as"]) == (box, "model")


def test_a_model_that_was_not_fitted_is_centred_and_its_parts_with_it(
    two_chains, tmp_path, edit: Callable
) -> None:
    common = dict(volume=str(two_chains), resolution=6, box_size=41, pixel_size=PX)
    both, summary = edit(tmp_path / "a", **common)
    assert summary["centre_of_mass"]["voxels"] == pytest.approx([20, 20, 20], abs=0.05)
    parts = [edit(tmp_path / chain, **common, select=[chain])[0] for chain in "AB"]
    assert torch.allclose(sum(parts), both, atol=1e-6)
    mask, _ = edit(tmp_path / "m", **common, select="A", threshold=0.2, soften="3px")
    assert float((mask * parts[0]).sum() / parts[0].sum()) > 0.9
    assert float((mask * parts[1]).sum() / parts[1].sum()) < 0.2


@pytest.mark.parametrize(("move", "part"), [(0, None), (27, 0.08), (31, 0.2), (80, 1)])
def test_a_model_outside_the_box_is_refused(
    two_chains, tmp_path, move, part, edit: Callable, refused: Callable
) -> None:
    """One atom or two outside are spoken of, more than a tenth cannot be meant."""
    write_volume(tmp_path / "like.mrc", torch.ones(40, 40, 40), PX, (-move, 0.0, 0.0))
    changes = dict(volume=str(two_chains), like=f"{tmp_path}/like.mrc", resolution=6)
    if part is None or part < 0.1:
        _, summary = edit(tmp_path / "a", **changes)
        assert len(summary["warnings"]) == (part is not None)
        assert all("add center=true" in warning for warning in summary["warnings"])
        return
    message = refused(tmp_path, **changes)
    assert "lies outside like=" in message and "or add center=true" in message


@pytest.mark.data
@pytest.mark.parametrize("box", [100, 101])
def test_molmap_agrees_with_gemmi(
    shared_data: Path, tmp_path: Path, box: int, edit: Callable, correlation: Callable
) -> None:
    """3SN6 at 6 Å in the frame of a map: gemmi has five Gaussians per atom, the job one."""
    source, pixel_size, resolution = shared_data / "real/3sn6.pdb.gz", 2.0, 6.0
    corner = (-60.0, -90.0, -80.0)
    write_volume(tmp_path / "like.mrc", torch.zeros(box, box, box), pixel_size)
    with mrcfile.open(tmp_path / "like.mrc", "r+") as file:
        file.header.origin.x, file.header.origin.y, file.header.origin.z = corner
    found, summary = edit(
        tmp_path / "a", volume=str(source), like=f"{tmp_path}/like.mrc", resolution=resolution
    )
    structure = gemmi.read_structure(str(source))
    structure.setup_entities()
    structure.remove_hydrogens()
    structure.remove_waters()
    for place in structure[0].all():
        place.atom.pos -= gemmi.Position(*corner)
    calculator, edge = gemmi.DensityCalculatorE(), box * pixel_size
    calculator.d_min, calculator.rate = 2 * pixel_size, 1.0
    calculator.blur = 8 * math.pi**2 * (0.225 * resolution) ** 2  # molmap's Gaussian
    calculator.grid.set_unit_cell(gemmi.UnitCell(edge, edge, edge, 90, 90, 90))
    calculator.grid.set_size(box, box, box)
    calculator.add_model_density_to_grid(structure[0])
    expected = torch.from_numpy(np.array(calculator.grid.array)).permute(2, 1, 0).contiguous()
    assert expected.shape == found.shape
    assert correlation(found, expected) > 0.999
    line = torch.arange(box, dtype=torch.float64)
    center = [
        float((expected.double().sum(dims) * line).sum() / expected.double().sum())
        for dims in ((0, 1), (0, 2), (1, 2))
    ]
    assert summary["centre_of_mass"]["voxels"] == pytest.approx(center, abs=0.03)
    # a tenth of a voxel would show: the correlation falls where the grid is moved by it
    lines = [torch.exp(-2j * torch.pi * 0.1 * torch.fft.fftfreq(box)), torch.ones(box)]
    for turn in range(3):
        shape = [-1 if dim == turn else 1 for dim in range(3)]
        moved = torch.fft.ifftn(torch.fft.fftn(found) * lines[0].view(shape)).real
        assert correlation(moved, expected) < correlation(found, expected)
