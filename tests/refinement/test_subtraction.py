"""Projections of what a mask leaves out, against closed forms, and the grey scale that is found for them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cryotorch.ops.fourier.filters import filter_shells
from cryotorch.ops.fourier.transforms import half_plane, pack, unpack
from cryotorch.ops.geometry.rotations import random_rotations
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.particles import Batch, Optics, Particles, unposed
from cryotorch.refinement.image_terms import transfer
from cryotorch.refinement.image_weight import Watch, unlimited
from cryotorch.refinement.settings import ImageGrid
from cryotorch.refinement.subtraction import (
    Match,
    Subtraction,
    compare,
    without_noise,
)

BOX, PIXEL, N = 32, 3.0, 24
BLOB = torch.tensor([9.0, -15.0, 21.0])  # Å from the middle, (x, y, z)
SIGMA = 6.0  # Å


def blob(box: int, pixel_size: float) -> Tensor:
    """A Gaussian density of standard deviation ``SIGMA`` at ``BLOB``."""
    line = (torch.arange(box) - box // 2) * pixel_size
    x, y, z = ((line - at).square() for at in BLOB)
    return torch.exp(-(z[:, None, None] + y[:, None] + x) / (2 * SIGMA**2))


def seen(particles: Particles, rows: Tensor, box: int, pixel_size: float) -> Tensor:
    """Its images in closed form: a Gaussian at M^T (R x)_xy - s, with the transfer in Fourier space and the scale."""
    m = particles.optics.magnification
    place = (particles.rotation[rows] @ BLOB)[:, :2]
    k = half_plane(box).frequency / (box * pixel_size)
    stretched = k.expand(len(rows), -1, -1)
    if m is not None:
        of_row = m[particles.optics_group[rows]]
        stretched = k @ of_row.mT
        place = (of_row.mT @ place[:, :, None])[:, :, 0]
    at = place - particles.shift[rows]
    turn = torch.polar(torch.ones(()), -2 * math.pi * at @ k.T)
    height = (2 * math.pi * SIGMA**2) ** 1.5 / pixel_size**3 / box
    through = transfer(particles, rows, box, pixel_size)
    gain = through.gain * particles.scale[rows, None]
    done = particles.optics.premultiplied
    if done is not None:
        gain = torch.where(done[particles.optics_group[rows], None], gain * through.gain, gain)
    decay = torch.exp(-2 * (math.pi * SIGMA) ** 2 * stretched.square().sum(-1))
    spectrum = height * decay * turn * gain
    return unpack(spectrum if through.phase is None else spectrum * through.phase, box)


def some_particles() -> Particles:
    """With all that an image model may have, in two groups of different pixels."""
    draw = torch.Generator().manual_seed(1)
    optics = Optics(
        *(torch.tensor([a, b]) for a, b in ((300.0, 200.0), (2.7, 1.4), (0.1, 0.07), (PIXEL, 2.0))),
        beam_tilt=torch.tensor([[2.0, -1.0], [0.0, 0.0]]),
        odd_zernike=torch.tensor([[0.0, 0.0, 9.0], [3.0, 0.0, 0.0]]),
        even_zernike=torch.tensor([[5.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        magnification=torch.tensor([[[1.02, 0.01], [0.0, 0.97]], [[1.0, 0.0], [0.0, 1.0]]]),
        mtf=torch.tensor([[1.0, 0.5], [1.0, 0.8]]),
        premultiplied=torch.tensor([False, True]),
    )
    return unposed(N, optics).replace(
        rotation=random_rotations(N, draw),
        shift=4 * torch.randn(N, 2, generator=draw),
        defocus=torch.tensor([9000.0, 8600.0, 0.4]).repeat(N, 1),
        optics_group=torch.arange(N) % 2,
        half=torch.arange(N) // 2 % 2,
        scale=0.8 + 0.4 * torch.rand(N, generator=draw),
        has_pose=True,
    )


@pytest.mark.parametrize(("group", "box", "pixel_size"), [(0, BOX, PIXEL), (1, 48, 2.0)])
def test_projections_are_those_of_a_gaussian(group: int, box: int, pixel_size: float) -> None:
    """Of either half set's own map, on the grid of the images, with aberrations, magnification, MTF, scale and premultiplication."""
    particles = some_particles()
    rows = torch.nonzero(particles.optics_group == group)[:, 0]
    maps = torch.stack([blob(BOX, PIXEL), 2 * blob(BOX, PIXEL)])
    found = Subtraction(particles, maps, PIXEL).projections(rows, box, pixel_size)
    expected = seen(particles, rows, box, pixel_size) * (1 + particles.half[rows])[:, None, None]
    left = (found - expected).square().sum() / expected.square().sum()
    assert float(left) < 1e-3
    other = seen(particles.replace(shift=-particles.shift), rows, box, pixel_size)
    assert float((found - other).square().sum() / expected.square().sum()) > 0.1


def batches(images: Tensor, half: Tensor) -> list[Batch]:
    rows = [torch.nonzero(half == h)[:, 0] for h in (0, 1)]
    return [Batch(rows[h], images[rows[h]], h) for h in (0, 1)]


def test_the_grey_scale_is_found_shell_by_shell() -> None:
    """A map that was sharpened and multiplied is brought back to that of the images; noise beyond it is left out."""
    particles = some_particles().replace(optics_group=torch.zeros(N, dtype=torch.int64))
    rows, grid = torch.arange(N), ImageGrid.whole(BOX, PIXEL)
    images = seen(particles, rows, BOX, PIXEL)
    draw = torch.Generator().manual_seed(3)
    noisy = images + 0.02 * torch.randn(images.shape, generator=draw)
    shells = torch.arange(BOX // 2 + 1)
    maps = filter_shells(blob(BOX, PIXEL), 5 * torch.exp(0.1 * shells)).expand(2, -1, -1, -1)
    noise, watch = torch.full((2, BOX // 2 + 1), 4e-4), Watch(unlimited(BOX), N)
    given = compare(particles, maps, batches(noisy, particles.half), noise, grid, watch)
    wanted = torch.exp(-0.1 * shells) / 5
    assert torch.allclose(given.amplitude[1:6].float(), wanted[1:6], rtol=0.03)
    assert given.amplitude[0] == given.amplitude[1] and bool((given.amplitude[10:] == 0).all())
    assert given.errors > 50
    inverted = compare(particles, -maps, batches(noisy, particles.half), noise, grid, watch)
    assert inverted.errors < -50 and not inverted.amplitude.any()


def test_each_batch_is_compared_with_the_map_that_it_names() -> None:
    particles = some_particles()
    rows, grid = torch.arange(N), ImageGrid.whole(BOX, PIXEL)
    particles = particles.replace(optics_group=torch.zeros(N, dtype=torch.int64))
    images = seen(particles, rows, BOX, PIXEL)
    maps = torch.stack([blob(BOX, PIXEL), -blob(BOX, PIXEL)])
    noise, watch = torch.ones(2, BOX // 2 + 1), Watch(unlimited(BOX), N)
    first, second = (
        compare(particles, maps, [batch], noise, grid, watch)
        for batch in batches(images, particles.half)
    )
    assert first.factor == pytest.approx(1, abs=0.02) and second.factor == pytest.approx(
        -1, abs=0.02
    )


def test_a_match_in_numbers() -> None:
    match = Match(torch.tensor([0.0, 30.0, 0.1]), torch.tensor([0.0, 60.0, 8.0]))
    assert match.amplitude.tolist() == [0.5, 0.5, 0.0]
    assert match.factor == pytest.approx(30.1 / 68) and match.errors == pytest.approx(
        30.1 / 34**0.5
    )


def test_half_maps_are_filtered_and_one_map_is_not() -> None:
    draw = torch.Generator().manual_seed(0)
    maps = blob(BOX, PIXEL) + 0.05 * torch.randn(2, BOX, BOX, BOX, generator=draw)
    clean = without_noise(maps, PIXEL)
    before, after = ((m - blob(BOX, PIXEL)).square().sum() for m in (maps, clean))
    assert float(after) < 0.03 * float(before)
    one = blob(BOX, PIXEL).expand(2, -1, -1, -1)
    assert torch.allclose(without_noise(one, PIXEL), one, atol=1e-3)
    coarse = without_noise(maps[:1].expand(2, -1, -1, -1), PIXEL, 20.0)[0]
    fine = half_plane(BOX).radius > 2 * BOX * PIXEL / 20
    assert float(pack(coarse)[:, fine].abs().max()) < 1e-2 * float(pack(maps[0]).abs().max())


def test_the_background_is_brought_to_zero() -> None:
    shifted = without_noise((blob(BOX, PIXEL) + 3).expand(2, -1, -1, -1), PIXEL)
    assert float((shifted - blob(BOX, PIXEL)).abs().max()) < 1e-3
    assert float(shifted[:, soft_sphere(BOX, BOX / 2, 0) == 0].mean()) == pytest.approx(0, abs=1e-6)
