"""Turns that make components of half sets alike, their FSC, and what faults of images look like."""

from __future__ import annotations

import torch

from cryotorch.ops.fourier.transforms import resize_volume
from cryotorch.ops.geometry.rotations import from_rotation_vector
from cryotorch.refinement.variability.agreement import (
    aligned,
    component_fsc,
    explained,
    faults_of_images,
    gradient,
    principal,
    shell_power,
    turned,
)

BOX = 24
DRAW = torch.Generator().manual_seed(0)


def smooth(k: int, box: int = 16) -> torch.Tensor:
    return resize_volume(torch.randn(k, 6, 6, 6, generator=DRAW), box)


def test_turned_components_are_found_again() -> None:
    a = smooth(3) * torch.tensor([3.0, 2.0, 1.0])[:, None, None, None]
    turn = from_rotation_vector(torch.tensor([[0.5, -0.8, 1.1]]).double())[0]
    b = turned(turn, a)
    p, q = aligned(a, b)
    one, other = turned(p, a), turned(q, b)
    assert torch.allclose(one, other, atol=1e-4)
    assert torch.allclose(p.T @ p, torch.eye(3).double(), atol=1e-9)


def test_fsc_of_a_component_and_of_noise() -> None:
    volumes, noise = smooth(2), torch.randn(2, 16, 16, 16, generator=DRAW)
    same = component_fsc(volumes, volumes * 3)
    assert torch.allclose(same[:, 1:3], torch.ones(2, 2).double(), atol=1e-5)
    none = component_fsc(noise[:1], noise[1:])
    assert float(none[0, 4:].abs().max()) < 0.3
    signal = component_fsc(noise[:1] + noise[1:], noise[:1])
    assert 0.55 < float(signal[0, 5]) < 0.85  # sqrt(1 / 2)


def test_shell_power_of_white_noise_is_that_of_a_slice() -> None:
    """|F|^2 / d^2 = d times the variance of a voxel."""
    power = shell_power(torch.randn(24, 24, 24, generator=DRAW))
    assert torch.allclose(power[4:].mean(), torch.tensor(24.0).double(), rtol=0.05)


def test_gradient_of_a_wave() -> None:
    """d/dx sin(2 pi 5 x / d), where differences of neighbours would lose a third."""
    line = torch.arange(BOX) * (2 * torch.pi * 5 / BOX)
    z, y, x = gradient(line.sin().expand(BOX, BOX, BOX))
    assert torch.allclose(x[3, 4], 2 * torch.pi * 5 / BOX * line.cos(), atol=1e-4)
    assert float(z.abs().max()) < 1e-4 and float(y.abs().max()) < 1e-4


def test_a_turned_map_is_explained_by_faults_and_a_moved_part_is_not(blobs) -> None:
    mask = torch.ones(BOX, BOX, BOX)
    mean = blobs.molecule(0.0)
    modes = faults_of_images(mean, mask)
    turn = from_rotation_vector(torch.tensor([[0.02, 0.05, -0.03]]))[0]
    places = torch.tensor([*blobs.still, (5.0, -2.0, -2.0)]) @ turn.T
    rigid = sum(blobs.blob(*place) for place in places.tolist()) - mean
    part = blobs.molecule(0.5) - mean
    share = explained(torch.stack([rigid, part, 0.1 * mean]), modes)
    assert float(share[0]) > 0.9 and float(share[2]) > 0.999
    assert float(share[1]) < 0.5


def test_principal_components_are_orthogonal_and_keep_the_variance() -> None:
    volumes = smooth(3)
    made, variance = principal(volumes)
    flat = made.flatten(1).double()
    assert torch.allclose(flat @ flat.T, variance.diag(), atol=1e-3 * float(variance[0]))
    assert bool((variance.diff() <= 0).all())
    before, after = (v.flatten(1).double() for v in (volumes, made))
    assert torch.allclose(before.T @ before, after.T @ after, atol=1e-4)
    largest = made.flatten(1).gather(1, made.flatten(1).abs().argmax(1, keepdim=True))
    assert bool((largest > 0).all())
