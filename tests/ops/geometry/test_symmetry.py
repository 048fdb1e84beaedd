"""Point groups against RELION's published axes, rotation of volumes, asymmetric units."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from scipy.spatial.transform import Rotation

from cryotorch.ops.fourier.transforms import resize_volume
from cryotorch.ops.geometry.symmetry import (
    cosets,
    in_asymmetric_unit,
    move_volume,
    point_group,
    rotate_volume,
    symmetrise_volume,
    symmetry_correlation,
)
from cryotorch.ops.masks.soft import soft_sphere

DATA = Path(__file__).parents[4] / "shared" / "data"
ORDERS = {"C1": 1, "c7": 7, "D1": 2, "D2": 4, "d7": 14, "T": 12, "O": 24, "I": 60}
ORDERS |= {"I1": 60, "i2": 60, "I3": 60, "I4": 60}
X, Y, Z = (1, 0, 0), (0, 1, 0), (0, 0, 1)
AXES = {
    "C5": [(Z, 5)],
    "D3": [(Z, 3), (X, 2)],
    "D7": [(Z, 7), (X, 2)],
    "T": [(Z, 3), ((0, 0.8165, 0.5774), 2)],
    "O": [(Z, 4), ((1, 1, 1), 3)],
    "I": [(X, 2), (Y, 2), (Z, 2), ((0.5257, 0, 0.8507), 5), ((0, 0.3568, 0.9342), 3)],
    "I1": [(X, 2), (Y, 2), (Z, 2), ((0.8507, 0, -0.5257), 5), ((0.9342, 0.3568, 0), 3)],
    "I2": [(X, 2), (Y, 2), (Z, 2), ((0.5257, 0, 0.8507), 5), ((0, 0.3568, 0.9342), 3)],
    "I3": [(Z, 5), ((-0.5257, 0, 0.8507), 2), ((-0.4911, 0.3568, 0.7947), 3)],
    "I4": [(Z, 5), ((0.5257, 0, 0.8507), 2), ((0.4911, 0.3568, 0.7947), 3)],
}


def read_map(name: str) -> torch.Tensor:
    mrcfile = pytest.importorskip("mrcfile")
    if not (DATA / name).exists():
        pytest.skip(f"needs {name} of the shared test data")
    return torch.from_numpy(mrcfile.read(DATA / name).astype("float32"))


def contains(group: torch.Tensor, rotation: torch.Tensor, tolerance: float) -> bool:
    return bool((group - rotation).abs().amax((1, 2)).min() < tolerance)


@pytest.mark.parametrize(("name", "order"), ORDERS.items())
def test_groups_are_groups_of_rotations(name, order):
    group = point_group(name)
    assert group.shape == (order, 3, 3) and group.dtype == torch.float64
    assert torch.equal(group[0], torch.eye(3, dtype=torch.float64))
    assert torch.allclose(group @ group.mT, group[:1].expand_as(group), atol=1e-12)
    assert torch.allclose(torch.linalg.det(group), torch.ones(order, dtype=torch.float64))
    distance = torch.cdist(group.flatten(1), group.flatten(1)) + 9 * torch.eye(order)
    assert distance.min() > 0.1
    products = (group[:, None] @ group).flatten(0, 1)
    assert torch.cdist(products.flatten(1), group.flatten(1)).amin(1).max() < 1e-6


@pytest.mark.parametrize("name", AXES)
def test_axes_are_relions(name):
    group = point_group(name)
    for axis, fold in AXES[name]:
        unit = torch.tensor(axis, dtype=torch.float64) / math.hypot(*axis)
        turn = torch.from_numpy(Rotation.from_rotvec(2 * math.pi / fold * unit).as_matrix())
        # the published axes have four decimals
        assert contains(group, turn, 3e-4), (axis, fold)


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_refine") is None, reason="needs relion_refine")
@pytest.mark.parametrize("name", ["C7", "D7", "T", "O", "I", "I1", "I2", "I3", "I4"])
def test_matrices_are_those_that_relion_prints(name, tmp_path):
    command = ["relion_refine", "--o", "x", "--sym", name, "--print_symmetry_ops"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    rows = re.findall(r"^ +(\S+) +(\S+) +(\S+) *$", done.stdout, re.MULTILINE)
    printed = torch.tensor([[float(x) for x in row] for row in rows]).double().reshape(-1, 9)
    distance = torch.cdist(printed, point_group(name).flatten(1))
    assert distance.shape[0] == distance.shape[1]
    # RELION's icosahedral axes are typed in with few decimals
    assert distance.amin(0).max() < 2e-3 and distance.amin(1).max() < 2e-3


@pytest.mark.parametrize("box", [24, 25])
def test_a_symmetrised_volume_is_the_mean_of_its_turned_copies(box):
    volume = torch.zeros(box, box, box)
    volume[box // 2 + 3, box // 2 - 2, box // 2 + 5] = 1
    group = point_group("D2")
    once = symmetrise_volume(volume, group)
    # to the Nyquist frequency, which is lost in a finer grid
    assert torch.allclose(once, sum(rotate_volume(volume, r) for r in group) / 4, atol=0.03)
    assert float(once.max()) == 0.25 and int((once > 0.1).sum()) == 4
    assert (
        symmetry_correlation(once, group).min() > 0.999 > symmetry_correlation(volume, group).min()
    )


def test_names_that_are_no_group():
    for name in ("", "C0", "D", "S4", "I5", "C-3", "O2", "C3x"):
        with pytest.raises(ValueError, match="symmetry must be one of"):
            point_group(name)


def test_rotation_moves_a_point_to_r_x():
    volume = torch.zeros(16, 16, 16)
    volume[8 + 1, 8 + 2, 8 + 5] = 1  # x = 5, y = 2, z = 1
    quarter = point_group("C4")[1]  # x -> y -> -x
    turned = rotate_volume(volume, quarter)
    assert turned.argmax() == (8 + 1) * 256 + (8 + 5) * 16 + (8 - 2)
    assert turned.max() > 0.8


@pytest.mark.parametrize("box", [32, 33])
def test_rotated_gaussian_is_the_gaussian_at_r_x(box):
    rotation = torch.from_numpy(Rotation.from_rotvec([0.4, -0.9, 0.7]).as_matrix()).float()
    centre, sigma = torch.tensor([5.0, -2.0, 3.0]), 2.5

    def gaussian(at: torch.Tensor) -> torch.Tensor:
        line = torch.arange(box) - box // 2
        z, y, x = torch.meshgrid(line, line, line, indexing="ij")
        return torch.exp(-(torch.stack([x, y, z], -1) - at).square().sum(-1) / (2 * sigma**2))

    turned = rotate_volume(gaussian(centre), rotation)
    assert (turned - gaussian(rotation @ centre)).abs().max() < 0.02
    assert (turned - gaussian(rotation.T @ centre)).abs().max() > 0.5


def test_correlation_recognises_the_symmetry_of_a_map():
    group = point_group("C3")
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(32, 32, 32, generator=generator, dtype=torch.float64)
    k = torch.fft.fftfreq(32)
    radius2 = k[:, None, None] ** 2 + k[None, :, None] ** 2 + torch.fft.rfftfreq(32) ** 2
    smooth = torch.fft.irfftn(torch.fft.rfftn(noise) * torch.exp(-radius2 * 150), s=noise.shape)
    three = sum(rotate_volume(smooth, r) for r in group)
    found = symmetry_correlation(three, group)
    assert found[0] == pytest.approx(1, abs=1e-9) and found.min() > 0.98
    assert symmetry_correlation(smooth, group)[1:].max() < 0.5


@pytest.mark.parametrize("name", ["C1", "C4", "C7", "D2", "D7", "T", "O", "I1", "I2", "I3", "I4"])
def test_every_orbit_has_one_direction_in_the_unit(name):
    group = point_group(name)
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(5000, 3, generator=generator, dtype=torch.float64)
    direction /= direction.norm(dim=1, keepdim=True)
    orbit = torch.einsum("gij,nj->ngi", group, direction)
    inside = in_asymmetric_unit(orbit.reshape(-1, 3), group).reshape(len(direction), len(group))
    assert torch.equal(inside.sum(1), torch.ones(len(direction), dtype=torch.int64))
    share = in_asymmetric_unit(direction, group).double().mean()
    expected = 1 / len(group)
    assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / len(direction)) + 1e-9


@pytest.mark.parametrize("name", ["C4", "D7", "T", "O", "I2"])
def test_directions_on_axes_are_not_lost(name):
    group = point_group(name)
    for axis in (X, Y, Z, (1, 1, 1)):
        orbit = group.float() @ torch.tensor(axis, dtype=torch.float32)
        assert in_asymmetric_unit(orbit.double().round(decimals=6), group[:1]).all()
        exact = group @ torch.tensor(axis, dtype=torch.float64)
        assert in_asymmetric_unit(exact, group).any()


@pytest.mark.data
def test_beta_galactosidase_is_d2():
    volume = read_map("real/betaGal.mrc.gz")
    assert symmetry_correlation(volume, point_group("D2")).min() > 0.999
    mirrored = torch.corrcoef(torch.stack([volume[1:].flatten(), volume[1:].flip(0).flatten()]))
    assert mirrored[0, 1] < 0.9


@pytest.mark.data
def test_trpv1_truth_is_c4_about_z_and_not_about_x():
    volume = read_map("relion_c4/truth/truth.mrc.gz")
    assert symmetry_correlation(volume, point_group("C4")).min() > 0.9999
    about_x = torch.from_numpy(Rotation.from_rotvec([math.pi / 2, 0, 0]).as_matrix())
    over_the_box = torch.stack([volume.flatten(), rotate_volume(volume, about_x).flatten()])
    assert float(torch.corrcoef(over_the_box)[0, 1]) == pytest.approx(0.29, abs=0.005)
    # without the empty corners, which agree with anything, less is left
    assert float(symmetry_correlation(volume, about_x[None])) == pytest.approx(0.235, abs=0.005)


@pytest.mark.parametrize(
    ("symmetry", "on_grid"),
    [
        ("C2", 2),
        ("C3", 1),
        ("C6", 2),
        ("D4", 8),
        ("D7", 2),
        ("T", 1),
        ("O", 24),
        ("I2", 12),
        ("I3", 2),
    ],
)
def test_cosets_make_up_the_group(symmetry: str, on_grid: int) -> None:
    group = point_group(symmetry)
    grid, representatives = cosets(group)
    assert len(grid) == on_grid and len(grid) * len(representatives) == len(group)
    assert torch.equal(representatives[0], torch.eye(3, dtype=group.dtype))
    products = (representatives[:, None] @ grid).flatten(0, 1)
    distance = (products[:, None] - group).abs().amax((2, 3))
    assert (distance < 1e-9).sum(0).eq(1).all() and (distance < 1e-9).sum(1).eq(1).all()


@pytest.mark.parametrize("size", [9, 12])
@pytest.mark.parametrize("name", ["C4", "D2", "D3", "O", "I2"])
def test_a_mean_over_the_group_is_that_of_turned_copies(name: str, size: int) -> None:
    """Inside the box: at its edge those that only move voxels go round."""
    noise = torch.randn((size,) * 3, generator=torch.Generator().manual_seed(size))
    volume = resize_volume(noise, 3 * size).contiguous()  # nothing near Nyquist
    group = point_group(name)
    found = symmetrise_volume(volume, group)
    copies = torch.stack([rotate_volume(volume, r) for r in group]).mean(0)
    inside = soft_sphere(3 * size, 1.2 * size, 0) > 0.5
    assert (found - copies)[inside].abs().max() < 0.03 * copies.abs().max()


@pytest.mark.parametrize("box, size", [(32, 3.0), (27, 3.5)])
def test_a_map_moves_onto_another_grid(box: int, size: float) -> None:
    """A Gaussian stays one: its centre moves, its width and height stay."""

    def gaussian(d: int, pixel_size: float, centre: torch.Tensor) -> torch.Tensor:
        line = (torch.arange(d, dtype=torch.float64) - d // 2) * pixel_size
        x, y, z = ((line - c).square() for c in centre.tolist())
        return torch.exp(-(z[:, None, None] + y[:, None] + x) / (2 * 9.0**2))

    centre, shift = torch.tensor([9.0, -6.0, 4.0]).double(), torch.tensor([-5.0, 7.0, 2.0]).double()
    turn = torch.from_numpy(Rotation.from_rotvec([0.4, -0.9, 0.3]).as_matrix())
    for matrix in (turn, -turn):
        moved = move_volume(gaussian(32, 3.0, centre), 3.0, matrix, shift, box, size)
        assert float((moved - gaussian(box, size, matrix @ centre + shift)).abs().max()) < 0.01
