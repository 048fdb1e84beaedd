"""The M-step against the same linear systems in float64, voxel by voxel."""

from __future__ import annotations

import pytest
import torch

from cryotorch.ops.fourier.image_model import predict
from cryotorch.ops.fourier.reconstruct import collect, shell_mean_weight, solve
from cryotorch.ops.fourier.slices import accumulator, grid_to_volume, insert_slices_, projector
from cryotorch.ops.fourier.transforms import half_plane, shift_phase
from cryotorch.ops.geometry.rotations import random_rotations
from cryotorch.ops.pose.scores import Observation
from cryotorch.refinement.variability.sums import FLOOR, PADDING, LatentSums

LIMIT = 5.0
CPU = torch.device("cpu")


def images(b: int, box: int):
    draw = torch.Generator().manual_seed(0)
    count = half_plane(box).count(LIMIT)
    spectrum = torch.randn(b, count, generator=draw, dtype=torch.complex64)
    gain, precision = 0.2 + torch.rand(2, b, count, generator=draw)
    rotation, shift_px = random_rotations(b, draw).float(), torch.randn(b, 2, generator=draw)
    return Observation(spectrum, gain, precision, box), rotation, shift_px, draw


@pytest.mark.parametrize("box", [12, 13])
def test_one_map_is_that_of_a_reconstruction(box: int) -> None:
    seen, rotation, shift_px, _ = images(60, box)
    sums = LatentSums(box, 1, LIMIT, CPU)
    one = torch.ones(60, 1)
    sums.insert(seen, rotation, shift_px, one, one[:, None])
    made, weight = sums.solve(torch.zeros(1, box // 2 + 1))
    into = accumulator(box, PADDING)
    count = seen.gain.shape[1]
    value = seen.spectrum * seen.gain * seen.precision * shift_phase(-shift_px, box, count)
    frequency = half_plane(box).frequency[:count]
    insert_slices_(into, value, seen.gain**2 * seen.precision, rotation, frequency)
    expected = solve(collect(into, LIMIT), FLOOR * _mean(into))
    assert torch.allclose(made[0], expected, atol=2e-3 * float(expected.abs().max()))
    assert torch.allclose(weight[0], PADDING**3 * _mean(into), rtol=1e-5)


def _mean(into) -> torch.Tensor:
    return shell_mean_weight(collect(into, LIMIT))


@pytest.mark.parametrize("box", [12, 13])
def test_three_maps_solve_the_systems_of_all_voxels(box: int) -> None:
    b, q = 40, 3
    seen, rotation, shift_px, draw = images(b, box)
    mean = torch.randn(b, q, generator=draw)
    spread = torch.randn(b, q, q, generator=draw)
    second = mean[:, :, None] * mean[:, None] + spread @ spread.mT / 4
    sums = LatentSums(box, q, LIMIT, CPU)
    sums.insert(seen, rotation, shift_px, mean, second)
    prior = torch.rand(q, box // 2 + 1, generator=draw) * 40
    made, _ = sums.solve(prior)
    count = seen.gain.shape[1]
    frequency = half_plane(box).frequency[:count]
    value = seen.spectrum * seen.gain * seen.precision * shift_phase(-shift_px, box, count)
    power = seen.gain**2 * seen.precision
    matrix, right = {}, []
    for j in range(q):
        for k in range(q):
            into = accumulator(box, PADDING)
            share = power * second[:, j, k, None]
            insert_slices_(into, value * mean[:, j, None], share, rotation, frequency)
            sums_jk = collect(into, LIMIT)
            matrix[j, k] = sums_jk
        right.append(matrix[j, j].numerator.to(torch.complex128))
    shell = matrix[0, 0].shells().long()
    a = torch.stack(
        [torch.stack([matrix[j, k].weight.double() for k in range(q)], -1) for j in range(q)], -2
    )
    inside = shell <= box // 2
    for j in range(q):
        mean_weight = shell_mean_weight(matrix[j, j])
        added = prior[j].double() / PADDING**3 + FLOOR * mean_weight
        a[..., j, j] += added[shell.clamp(max=box // 2)]
    solution = torch.linalg.solve(a.to(torch.complex128), torch.stack(right, -1)[..., None])
    solution = torch.where(inside[..., None], solution[..., 0], 0)
    for j in range(q):
        grid = solution[..., j].to(torch.complex64)
        expected = grid_to_volume(lambda y, g=grid: g[:, y], box, PADDING * box)
        assert float((made[j] - expected).norm() / expected.norm()) < 1e-3


@pytest.mark.parametrize("box", [12, 13])
def test_known_coordinates_give_the_maps_back(box: int) -> None:
    """Noise-free images of V_0 + z V_1 with z known."""
    n = 400
    seen, rotation, shift_px, draw = images(n, box)
    line = torch.arange(box) - box // 2
    ball = -(line**2 + line[:, None] ** 2 + line[:, None, None] ** 2) / 5.0
    maps = torch.stack([ball.exp(), torch.roll(ball.exp(), (1, -2, 2), (0, 1, 2))])
    z = torch.stack([torch.ones(n), torch.randn(n, generator=draw)], 1)
    tables = [projector(volume) for volume in maps]
    parts = [predict(table, rotation, shift_px, seen.gain) for table in tables]
    spectrum = sum(part * z[:, j, None] for j, part in enumerate(parts))
    sums = LatentSums(box, 2, LIMIT, CPU)
    exact = Observation(spectrum, seen.gain, seen.precision, box)
    sums.insert(exact, rotation, shift_px, z, z[:, :, None] * z[:, None])
    made, _ = sums.solve(torch.zeros(2, box // 2 + 1))
    for volume, truth in zip(made, maps, strict=True):
        truth = truth - truth.mean()
        volume = volume - volume.mean()
        assert float((volume * truth).sum() / (volume.norm() * truth.norm())) > 0.98
        assert 0.9 < float((volume * truth).sum() / truth.square().sum()) < 1.1
