"""Slices: exact where they meet the grid, adjoint to insertion, and the interpolation undone in real space."""

from __future__ import annotations

import pytest
import torch

from cryotorch.ops.fourier.slices import (
    accumulator,
    dense,
    extract_slices,
    grid_to_volume,
    gridding_correction,
    insert_slices_,
    merge_,
    projector,
    sample,
    slices_with_gradient,
)
from cryotorch.ops.fourier.transforms import half_plane, pack, unpack
from cryotorch.ops.geometry.rotations import euler_to_matrix, from_rotation_vector, random_rotations


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gaussian(box: int, centre: tuple[float, float, float], sigma: float) -> torch.Tensor:
    x = torch.arange(box) - box // 2
    r2 = (x[:, None, None] - centre[2]) ** 2 + (x[:, None] - centre[1]) ** 2 + (x - centre[0]) ** 2
    return torch.exp(-r2 / (2 * sigma**2))


@pytest.mark.parametrize("padding", [1, 2])
@pytest.mark.parametrize("box", [10, 16])
def test_views_along_the_axes_are_sums(box: int, padding: int) -> None:
    """There the slice meets grid points only, so it equals the projection of the corrected volume exactly."""
    volume = draw(box, box, box)
    table = projector(volume, padding=padding, correct=False)
    quarter = torch.pi / 2
    flip = lambda image, dim: torch.roll(image.flip(dim), 1, dim)  # noqa: E731  about pixel d // 2
    views = {
        (0, 0): volume.sum(0),
        (0, quarter): flip(volume.sum(2).T, 1),  # the particle's x is -z of the reference
        (0, 2 * quarter): flip(volume.sum(0), 1),  # x is -x
    }
    for (rot, tilt), view in views.items():
        rotation = euler_to_matrix(*torch.tensor([[rot], [tilt], [0.0]]))
        found = unpack(extract_slices(table, rotation, half_plane(box).frequency), box)[0]
        assert torch.allclose(found, unpack(pack(view), box), atol=1e-3)


@pytest.mark.parametrize("padding", [1, 2])
@pytest.mark.parametrize("box", [8, 10])
def test_values_are_trilinear_in_the_whole_transform(box: int, padding: int) -> None:
    """By the eight neighbours in a full, periodic transform in float64, up to Nyquist along the axes."""
    volume, size = draw(box, box, box), padding * box
    before = size // 2 - box // 2
    large = torch.nn.functional.pad(volume.double(), [before, size - box - before] * 3)
    whole = torch.fft.fftn(torch.fft.ifftshift(large)) / box
    point = (torch.rand(3, 500, generator=torch.Generator().manual_seed(2)) - 0.5) * box
    point[:, :3] = torch.eye(3) * (box / 2 - 0.25)
    at = point.double() * padding
    low, fraction = at.floor().long(), at - at.floor()
    expected = torch.zeros(500, dtype=torch.complex128)
    for corner in torch.cartesian_prod(*[torch.arange(2)] * 3):
        share = torch.where(corner[:, None] == 1, fraction, 1 - fraction).prod(0)
        x, y, z = (low + corner[:, None]) % size
        expected += share * whole[z, y, x]
    found = sample(projector(volume, padding=padding, correct=False), point[None])[0]
    assert torch.allclose(found.to(torch.complex128), expected, atol=1e-4)


@pytest.mark.parametrize("padding", [1, 2])
def test_the_limit_changes_nothing_below_it(padding: int) -> None:
    box, volume = 16, draw(16, 16, 16)
    rotation = random_rotations(5, torch.Generator().manual_seed(1))
    whole = projector(volume, padding=padding)
    for limit in (2.0, 4.5, 7.0):
        frequency = half_plane(box).frequency[: half_plane(box).count(limit)]
        cut = projector(volume, limit, padding)
        assert cut.reach <= padding * limit + 2
        found = extract_slices(cut, rotation, frequency)
        assert torch.allclose(found, extract_slices(whole, rotation, frequency), atol=1e-5)


def test_many_slices_are_those_of_each_alone() -> None:
    table, frequency = projector(draw(8, 8, 8)), half_plane(8).frequency
    rotation = random_rotations(9, torch.Generator().manual_seed(1))
    whole = extract_slices(table, rotation, frequency)
    y, weight = (
        torch.complex(draw(9, len(frequency)), draw(9, len(frequency))),
        draw(9, len(frequency)).abs(),
    )
    sums = accumulator(8)
    insert_slices_(sums, y, weight, rotation, frequency)
    again = accumulator(8)
    for i in range(9):
        alone = slice(i, i + 1)
        assert torch.allclose(extract_slices(table, rotation[alone], frequency), whole[alone])
        insert_slices_(again, y[alone], weight[alone], rotation[alone], frequency)
    assert torch.allclose(merge_(again), merge_(sums), atol=1e-5)
    assert extract_slices(table, rotation[:0], frequency).shape == (0, len(frequency))


@pytest.mark.parametrize("padding", [1, 2])
@pytest.mark.parametrize("box", [10, 16])
def test_insertion_is_the_adjoint_of_extraction(box: int, padding: int) -> None:
    """<extract(V), y> = <V, insert(y)> over the padded half transform, x = 0 plane included."""
    generator = torch.Generator().manual_seed(3)
    volume = draw(box, box, box)
    rotation = torch.cat([random_rotations(7, generator), torch.eye(3)[None]])
    frequency = half_plane(box).frequency[: half_plane(box).count(box / 2 - 1)]
    table = projector(volume, padding=padding, correct=False)
    y = torch.randn(8, len(frequency), dtype=torch.complex64, generator=generator)
    sums = accumulator(box, padding)
    insert_slices_(sums, y, torch.ones_like(y.real), rotation, frequency)
    numerator, weight = dense(sums)
    left = 2 * (extract_slices(table, rotation, frequency).conj() * y).real.sum()
    back = grid_to_volume(lambda y: numerator[:, y], box, padding * box, correct=False) * padding**3
    assert left == pytest.approx(float((volume * back * box).sum()), rel=1e-4)
    whole = 2 * weight[:, :, 1:-1].sum() + weight[:, :, 0].sum()
    assert float(whole) == pytest.approx(2 * y.numel(), rel=1e-5)


@pytest.mark.parametrize("padding", [1, 2])
@pytest.mark.parametrize("along", [(1, 0, 0), (1, 1, 0), (1, 1, 1), (1, -1, 1)])
def test_interpolation_weakens_by_the_separable_sinc(
    along: tuple[int, int, int], padding: int
) -> None:
    """Trilinear reading of a point's transform is, on average, sinc^2 per *axis*: on the diagonal its cube.

    A radial sinc^2(|x|), the wrong correction, is off by 18 % on the diagonal here.
    """
    box, at = 24, torch.tensor(along) * 9
    volume = torch.zeros(box, box, box)
    volume[tuple((at.flip(0) + box // 2).tolist())] = 1
    rotation = random_rotations(400, torch.Generator().manual_seed(4))
    frequency = half_plane(box).frequency
    found = extract_slices(projector(volume, padding=padding, correct=False), rotation, frequency)
    turn = -2 * torch.pi / box * (rotation @ at.float())[:, :2] @ frequency.T
    exact = torch.polar(torch.ones_like(turn), turn) / box
    ratio = (exact.conj() * found).real.sum() / exact.abs().square().sum()
    correction = gridding_correction(box, padding * box)[tuple((at.flip(0) + box // 2).tolist())]
    line = torch.sinc(torch.tensor(9 / (padding * box))) ** 2
    assert correction == pytest.approx(float(line) ** int(at.abs().sum() / 9), rel=1e-5)
    assert ratio == pytest.approx(float(correction), rel=0.01)


@pytest.mark.parametrize("padding", [1, 2])
def test_corrected_slices_keep_heights_along_the_diagonal(padding: int) -> None:
    """A Gaussian projects, on average, to the same height wherever it lies; single views waver."""
    box, sigma = 32, 1.8
    rotation = random_rotations(200, torch.Generator().manual_seed(6))
    for reach in (0.0, 3.0, 7.0):
        centre = torch.tensor([reach, -reach, reach])
        table = projector(gaussian(box, tuple(centre.tolist()), sigma), padding=padding)
        images = unpack(extract_slices(table, rotation, half_plane(box).frequency), box)
        at = (rotation @ centre)[:, :2]
        x = torch.arange(box) - box // 2
        r2 = (x - at[:, 0, None, None]) ** 2 + (x[:, None] - at[:, 1, None, None]) ** 2
        model = (2 * torch.pi) ** 0.5 * sigma * torch.exp(-r2 / (2 * sigma**2))
        model = model - model.mean((1, 2), keepdim=True)
        height = (images * model).sum((1, 2)) / model.square().sum((1, 2))
        assert height.mean() == pytest.approx(1, abs=0.01)
        assert height.std() < (0.1 if padding == 1 else 0.02)


def test_slice_gradient_against_finite_differences() -> None:
    box = 24
    volume = gaussian(box, (2.0, -3.0, 1.0), 2.0) - 0.5 * gaussian(box, (-4.0, 1.0, 3.0), 1.5)
    table = projector(volume)
    rotation = random_rotations(5, torch.Generator().manual_seed(4))
    frequency = half_plane(box).frequency
    value, gradient = slices_with_gradient(table, rotation, frequency)
    exact = extract_slices(table, rotation, frequency)
    assert torch.allclose(torch.view_as_complex(value), exact, atol=1e-5)
    h = 0.02
    for axis in range(3):
        w = torch.zeros(3)
        w[axis] = h
        plus = extract_slices(table, from_rotation_vector(w) @ rotation, frequency)
        minus = extract_slices(table, from_rotation_vector(-w) @ rotation, frequency)
        numeric = (plus - minus) / (2 * h)
        error = (
            torch.view_as_complex(gradient[:, axis].contiguous()) - numeric
        ).norm() / numeric.norm()
        assert (
            error < 0.12
        )  # a trilinear function has kinks; the mean over its cells is what counts


def test_slice_gradient_is_exact_inside_a_cell() -> None:
    """Steps so small that hardly a coefficient crosses into another cell: then the difference is the derivative."""
    box, h = 12, 2e-3
    table = projector(draw(box, box, box))
    rotation = random_rotations(4, torch.Generator().manual_seed(7))
    frequency = half_plane(box).frequency
    _, gradient = slices_with_gradient(table, rotation, frequency)
    for axis in range(3):
        w = torch.zeros(3)
        w[axis] = h
        plus = extract_slices(table, from_rotation_vector(w) @ rotation, frequency)
        minus = extract_slices(table, from_rotation_vector(-w) @ rotation, frequency)
        error = torch.view_as_complex(gradient[:, axis].contiguous()) - (plus - minus) / (2 * h)
        size = ((plus - minus) / (2 * h)).abs()
        assert error.abs().median() < 2e-3 * size.median()
