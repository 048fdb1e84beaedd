"""Scores against sums in float64, derivatives against finite differences, the coarse search against the fine one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from cryotorch.ops.fourier import slices
from cryotorch.ops.fourier.image_model import predict
from cryotorch.ops.fourier.slices import Projector, extract_slices, projector
from cryotorch.ops.fourier.transforms import half_plane, shift_phase
from cryotorch.ops.geometry.rotations import from_rotation_vector, random_rotations
from cryotorch.ops.pose.scores import (
    Observation,
    grid_correlations,
    grid_scores,
    pose_terms,
    residual_power,
    shift_scores,
    sum_power,
    templates,
)

BOX = 24


@dataclass
class Scene:
    """A smooth molecule, and images of it with CTF, scale and noise that differ."""

    table: Projector
    rotation: Tensor
    shift: Tensor
    gain: Tensor
    seen: Observation


def scene(noise: float = 1.0, n: int = 6) -> Scene:
    generator = torch.Generator().manual_seed(1)
    x = torch.arange(BOX) - BOX // 2
    z, y, x = torch.meshgrid(x, x, x, indexing="ij")
    volume = torch.zeros(BOX, BOX, BOX)
    for cx, cy, cz, width in ((2, -3, 1, 2.0), (-4, 1, 3, 1.7), (1, 4, -3, 2.2)):
        volume += torch.exp(-((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2) / (2 * width**2))
    table = projector(volume)
    rotation = random_rotations(n, generator)
    shift = 2 * torch.randn(n, 2, generator=generator)
    m = len(half_plane(BOX).radius)
    gain = torch.sin(4 * torch.rand(n, m, generator=generator)) * (
        0.5 + torch.rand(n, 1, generator=generator)
    )
    y = predict(table, rotation, shift, gain)
    y = y + noise * torch.randn(n, m, dtype=torch.complex64, generator=generator)
    precision = 0.2 + torch.rand(n, m, generator=generator)
    return Scene(table, rotation, shift, gain, Observation(y, gain, precision, BOX))


def dense_score(s: Scene, image: int, rotation: Tensor, shift: Tensor) -> float:
    """sum w (|y|^2 - |y - f|^2) / 2 in float64, from nothing but slices."""
    m = s.seen.spectrum.shape[1]
    frequency = half_plane(BOX).frequency[:m]
    f = extract_slices(s.table, rotation[None], frequency)[0].numpy().astype(complex)
    turn = 2 * np.pi / BOX * (frequency.double().numpy() @ shift.double().numpy())
    f = f * np.exp(1j * turn) * s.seen.gain[image].double().numpy()
    y, w = s.seen.spectrum[image].numpy().astype(complex), s.seen.precision[image].double().numpy()
    return float((w * (np.abs(y) ** 2 - np.abs(y - f) ** 2)).sum() / 2)


def test_pose_terms_agree_with_a_dense_score() -> None:
    s = scene()
    image = torch.tensor([0, 0, 3, 5])
    rotation = random_rotations(4, torch.Generator().manual_seed(2))
    shift = torch.tensor([[0.0, 0], [1.5, -2], [-0.3, 4], [2, 2]])
    terms = pose_terms(s.table, s.seen, image, rotation, shift)
    expected = [dense_score(s, int(i), r, t) for i, r, t in zip(image, rotation, shift)]
    assert terms.score.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-3)
    limited = s.seen.limited(half_plane(BOX).count(5))
    terms = pose_terms(s.table, limited, image, rotation, shift)
    s.seen = limited
    expected = [dense_score(s, int(i), r, t) for i, r, t in zip(image, rotation, shift)]
    assert terms.score.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_poses_in_pieces_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    s = scene()
    image = torch.arange(6)
    whole = pose_terms(s.table, s.seen, image, s.rotation, s.shift)
    monkeypatch.setattr(slices, "CPU_POINTS", 2 * s.seen.spectrum.shape[1])
    assert torch.allclose(
        pose_terms(s.table, s.seen, image, s.rotation, s.shift).gram, whole.gram, rtol=1e-4
    )
    some = s.seen.of(torch.tensor([4, 1]))
    part = pose_terms(s.table, some, torch.tensor([0, 1]), s.rotation[[4, 1]], s.shift[[4, 1]])
    assert torch.allclose(part.gram, whole.gram[[4, 1]], rtol=1e-4)


def moved(s: Scene, rotation: Tensor, shift: Tensor, axis: int, h: float) -> tuple[Tensor, Tensor]:
    """All poses moved along one of the five parameters."""
    step = torch.zeros(5)
    step[axis] = h
    return from_rotation_vector(step[:3]) @ rotation, shift + step[3:]


def test_gradient_against_finite_differences() -> None:
    """At poses off the truth by 5 degrees and a pixel, where the gradient is large."""
    s, image = scene(noise=0.3), torch.arange(6)
    rotation = from_rotation_vector(torch.tensor([0.05, -0.06, 0.04])) @ s.rotation
    shift = s.shift + torch.tensor([0.7, -0.7])
    gradient = pose_terms(s.table, s.seen, image, rotation, shift).gradient
    for axis in range(5):
        h = 0.01 if axis < 3 else 0.05
        plus, minus = (
            pose_terms(
                s.table, s.seen, image, *moved(s, rotation, shift, axis, sign * h)
            ).score.double()
            for sign in (1, -1)
        )
        numeric = (plus - minus) / (2 * h)
        error = (gradient[:, axis] - numeric).norm() / numeric.norm()
        assert error < (0.12 if axis < 3 else 0.005), axis  # rotations meet the kinks between cells


def test_normal_matrix_is_the_curvature_at_the_truth() -> None:
    """Without noise, at the true pose, Gauss-Newton is Newton: minus the second derivative of the score."""
    s, image = scene(noise=0.0), torch.arange(6)
    terms = pose_terms(s.table, s.seen, image, s.rotation, s.shift)
    assert terms.gradient.abs().max() < 1e-3 * terms.normal.abs().max()
    assert torch.allclose(terms.normal, terms.normal.mT, rtol=1e-5)
    h = torch.tensor([0.03, 0.03, 0.03, 0.1, 0.1])
    numeric = torch.zeros(6, 5, 5, dtype=torch.float64)
    for j in range(5):
        ends = [
            pose_terms(
                s.table, s.seen, image, *moved(s, s.rotation, s.shift, j, sign * float(h[j]))
            ).gradient
            for sign in (1, -1)
        ]
        numeric[:, :, j] = (ends[1] - ends[0]).double() / (2 * h[j])
    size = terms.normal.diagonal(dim1=1, dim2=2).sqrt()
    error = (terms.normal - numeric) / (size[:, :, None] * size[:, None])
    assert error.abs().mean() < 0.02 and error.abs().max() < 0.2  # kinks between cells


def test_scale_is_cross_over_power() -> None:
    s = scene(noise=0.0)
    seen = Observation(1.7 * s.seen.spectrum, s.gain, s.seen.precision, BOX)
    terms = pose_terms(s.table, seen, torch.arange(6), s.rotation, s.shift)
    assert torch.allclose(terms.cross / terms.power, torch.full((6,), 1.7), rtol=1e-4)


def shifts_around(centre: Tensor) -> Tensor:
    return centre[:, None] + torch.tensor([[0.0, 0], [1, 0], [0, -1], [-2, 1.5]])


@pytest.mark.parametrize("block", [4096, 7])
def test_grid_scores_agree_with_pose_terms(block: int) -> None:
    s, half = scene(), random_rotations(10, torch.Generator().manual_seed(3))
    grid = torch.cat([half, torch.diag(torch.tensor([-1.0, -1.0, 1.0])) @ half])
    seen = s.seen.limited(half_plane(BOX).count(6))
    frequency = half_plane(BOX).frequency[: seen.spectrum.shape[1]]
    table = templates(extract_slices(s.table, half, frequency), half)
    assert torch.equal(table.rotation, grid)
    shifts = shifts_around(s.shift)
    found = grid_scores(seen, shifts, table, block)
    upright, inverted = grid_correlations(seen, shifts, table, block)
    assert found.shape == upright.shape == inverted.shape == (6, 20)
    i, r, t = (x.flatten() for x in torch.meshgrid(*map(torch.arange, (6, 20, 4)), indexing="ij"))
    terms = pose_terms(s.table, seen, i, grid[r], shifts[i, t])
    best = terms.score.view(6, 20, 4).amax(2)
    assert torch.allclose(found, best, rtol=1e-3, atol=1e-3)
    correlation = (terms.cross / terms.power.sqrt()).view(6, 20, 4)
    assert torch.allclose(upright, correlation.amax(2), rtol=1e-3, atol=1e-3)
    assert torch.allclose(inverted, -correlation.amin(2), rtol=1e-3, atol=1e-3)


def test_an_empty_slice_correlates_with_nothing() -> None:
    """Where the power is zero: 0, not what 0 / 0 is."""
    s, half = scene(), random_rotations(2, torch.Generator().manual_seed(3))
    slices = extract_slices(s.table, half, half_plane(BOX).frequency)
    slices[1] = 0
    found = grid_correlations(s.seen, shifts_around(s.shift), templates(slices, half))
    for values in found:
        assert not values[:, [1, 3]].any() and values[:, [0, 2]].all()


def test_grid_scores_in_half_precision_keep_the_order() -> None:
    s, grid = scene(noise=0.2), random_rotations(40, torch.Generator().manual_seed(3))
    frequency = half_plane(BOX).frequency
    slices = extract_slices(s.table, torch.cat([grid, s.rotation]), frequency)
    for dtype, error in ((torch.float32, 1e-4), (torch.bfloat16, 0.03)):
        table = templates(slices, torch.cat([grid, s.rotation]), dtype)
        found = grid_scores(s.seen, shifts_around(s.shift), table)
        exact = pose_terms(s.table, s.seen, torch.arange(6), s.rotation, s.shift).score
        assert found.shape == (6, 92)
        own = found[torch.arange(6), 40 + torch.arange(6)]
        assert torch.equal(found.argmax(1), 40 + torch.arange(6))
        assert torch.allclose(own.float(), exact, rtol=error)


def test_shift_scores_are_the_cross_terms() -> None:
    s, k = scene(), 3
    rotation = random_rotations(6 * k, torch.Generator().manual_seed(4))
    slices = extract_slices(s.table, rotation, half_plane(BOX).frequency).unflatten(0, (6, k))
    shifts = shifts_around(s.shift)
    found = shift_scores(s.seen, shifts, slices)
    i, c, t = (x.flatten() for x in torch.meshgrid(*map(torch.arange, (6, k, 4)), indexing="ij"))
    terms = pose_terms(s.table, s.seen, i, rotation[i * k + c], shifts[i, t])
    assert torch.allclose(found.flatten(), terms.cross, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("groups", [1, 3])
def test_residual_power_sums_per_group_and_shell(groups: int) -> None:
    s, plane = scene(noise=0.0), half_plane(BOX)
    y, group = s.seen.spectrum, torch.arange(6) * groups // 6
    assert residual_power(y, y).abs().max() == 0
    off = y + 2j * (plane.shell == 3) * (1 + group[:, None])
    power = sum_power(residual_power(off, y), plane.shell, BOX // 2 + 1, group, groups)
    expected = torch.zeros(groups, BOX // 2 + 1, dtype=torch.float64)
    for g in range(groups):
        images = int((group == g).sum())
        expected[g, 3] = 4 * (1 + g) ** 2 * images * int((plane.shell == 3).sum())
    assert torch.allclose(power, expected, rtol=1e-5)


def test_moving_the_image_is_moving_the_prediction() -> None:
    phase = shift_phase(torch.tensor([[1.0, 2.0]]), BOX, 50)
    assert torch.allclose(
        phase * shift_phase(torch.tensor([[-1.0, -2.0]]), BOX, 50), torch.ones_like(phase)
    )
