"""Packed half planes, volume transforms and resizing against NumPy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cryotorch.ops.fourier import transforms
from cryotorch.ops.fourier.transforms import (
    fft_volume,
    half_plane,
    ifft_volume,
    multiply_radial_,
    pack,
    resize_images,
    resize_volume,
    shell_count,
    shell_sum,
    unpack,
    volume_shells,
    wave_numbers,
)

BOXES = (8, 9, 16, 30)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def grid(box: int, dims: int) -> list[torch.Tensor]:
    """Pixel coordinates about the origin, slowest axis first."""
    x = torch.arange(box, dtype=torch.float64) - box // 2
    return list(torch.meshgrid(*[x] * dims, indexing="ij"))


@pytest.mark.parametrize("box", BOXES)
def test_the_half_plane_holds_each_pair_once_in_order(box: int) -> None:
    plane = half_plane(box)
    held = [(int(x), int(y)) for x, y in plane.frequency]
    reach = range(-(box // 2), box // 2 + 1)
    wanted = {(x, y) for x in reach for y in reach if 0 < np.hypot(x, y) < box / 2}
    assert len(set(held)) == len(held) == len(wanted) // 2
    assert set(held) | {(-x, -y) for x, y in held} == wanted
    assert (plane.radius.diff() >= 0).all()
    assert torch.equal(plane.radius, plane.frequency.norm(dim=1))
    assert plane.shell.min() == 1 and plane.shell.max() == box // 2
    assert ((plane.shell - plane.radius).abs() <= 0.5).all()
    for limit in (0.5, 1, 2.5, 3, box / 2):
        assert plane.count(limit) == sum(np.hypot(x, y) <= limit for x, y in held)


@pytest.mark.parametrize("box", BOXES)
def test_a_point_packs_to_a_phase(box: int) -> None:
    """exp(-2 pi i k.x / d) / d, with the origin at pixel d // 2."""
    image = torch.zeros(2, box, box)
    image[0, box // 2, box // 2] = 1
    image[1, box // 2 + 1, box // 2 - 2] = 1  # x = -2, y = +1
    packed = pack(image)
    assert torch.allclose(packed[0], torch.ones_like(packed[0]) / box, atol=1e-6)
    kx, ky = half_plane(box).frequency.T
    phase = torch.polar(torch.ones_like(kx), -2 * torch.pi * (-2 * kx + ky) / box)
    assert torch.allclose(packed[1], phase / box, atol=1e-6)


@pytest.mark.parametrize("box", BOXES)
def test_unpack_inverts_pack_and_power_is_kept(box: int) -> None:
    spectrum = torch.complex(
        draw(3, len(half_plane(box).radius)), draw(3, len(half_plane(box).radius), seed=1)
    )
    images = unpack(spectrum, box)
    assert images.shape == (3, box, box)
    assert images.mean((1, 2)).abs().max() < 1e-6
    assert torch.allclose(pack(images), spectrum, atol=1e-5)
    assert float(images.square().sum()) == pytest.approx(
        2 * float(spectrum.abs().square().sum()), rel=1e-5
    )


@pytest.mark.parametrize("box", BOXES)
def test_leading_dimensions_are_kept(box: int) -> None:
    images = draw(2, 3, box, box)
    packed = pack(images)
    back = unpack(packed, box)
    for i, j in ((0, 0), (1, 2)):
        assert torch.allclose(packed[i, j], pack(images[i, j]), atol=1e-6)
        assert torch.allclose(back[i, j], unpack(packed[i, j], box), atol=1e-6)
    volumes = draw(2, 3, box, box, box)
    assert torch.allclose(fft_volume(volumes)[1, 2], fft_volume(volumes[1, 2]), atol=1e-4)


def test_white_noise_has_its_variance_in_every_coefficient() -> None:
    packed = pack(3 * draw(4000, 16, 16))
    assert packed.abs().square().mean() == pytest.approx(9, rel=0.01)
    assert packed.abs().square().mean(0) == pytest.approx(9, rel=0.15)


@pytest.mark.parametrize("box", (6, 7))
def test_volume_transform_is_numpys_about_the_centre(box: int) -> None:
    volume = draw(2, box, box, box)
    z, y, x = (c.flatten() for c in grid(box, 3))
    k = np.fft.fftfreq(box, 1 / box)
    kz, ky, kx = np.meshgrid(k, k, np.arange(box // 2 + 1), indexing="ij")
    turn = np.einsum("...i,in->...n", np.stack([kx, ky, kz], -1), torch.stack([x, y, z]).numpy())
    expected = np.exp(-2j * np.pi * turn / box) @ volume[1].flatten().double().numpy()
    transform = fft_volume(volume)
    np.testing.assert_allclose(transform[1].numpy(), expected, atol=1e-4)
    assert torch.allclose(ifft_volume(transform, box), volume, atol=1e-5)


@pytest.mark.parametrize("box", (8, 9))
def test_shells_and_their_sums_count_the_whole_transform(box: int) -> None:
    volume = draw(box, box, box).numpy()
    k = np.fft.fftfreq(box, 1 / box)
    radius = np.sqrt(k[:, None, None] ** 2 + k[None, :, None] ** 2 + k**2)
    shell = np.floor(radius + 0.5).astype(int)
    assert np.array_equal(volume_shells(box).numpy(), shell[..., : box // 2 + 1])
    power = np.abs(np.fft.fftn(volume)) ** 2
    expected = np.bincount(shell.ravel(), power.ravel())[: box // 2 + 1]
    found = shell_sum(fft_volume(torch.from_numpy(volume)).abs().square(), box)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
    assert found.dtype == torch.float64


@pytest.mark.parametrize(("old", "new"), [(32, 20), (20, 32), (32, 21), (24, 24)])
def test_resizing_keeps_density(old: int, new: int) -> None:
    """A smooth blob over the same edge has the same values at the new grid points."""

    def blob(box: int, dims: int) -> torch.Tensor:
        centre = (0.06, -0.09, 0.03)
        r2 = sum((c / box - at) ** 2 for c, at in zip(grid(box, dims), centre))
        return torch.exp(-r2 / (2 * 0.09**2)).float()

    assert (resize_volume(blob(old, 3), new) - blob(new, 3)).abs().max() < 2e-3
    # images are projections, whose sums run over new / old times as many pixels
    assert (resize_images(blob(old, 2), new) - blob(new, 2) * new / old).abs().max() < 2e-3


@pytest.mark.parametrize(("old", "new"), [(9, 7), (7, 9), (8, 9), (9, 8), (10, 6), (6, 10)])
def test_resizing_keeps_what_lies_below_both_nyquist_frequencies(old: int, new: int) -> None:
    """Coefficients of values per pixel; all others are zero."""

    def spectra(values: torch.Tensor) -> dict[tuple[int, ...], complex]:
        box, dims = values.shape[-1], tuple(range(-values.dim(), 0))
        found = torch.fft.fftn(torch.fft.ifftshift(values.double(), dim=dims), dim=dims)
        k = torch.fft.fftfreq(box, 1 / box).long().tolist()
        places = torch.cartesian_prod(*[torch.tensor(k)] * len(dims)).tolist()
        return dict(zip(map(tuple, places), (found / box ** len(dims)).flatten().tolist()))

    for resize, values, scale in (
        (resize_volume, draw(old, old, old), 1),
        (resize_images, draw(old, old), new / old),
    ):
        before, after = spectra(values), spectra(resize(values, new))
        for k, found in after.items():
            kept = max(map(abs, k)) < min(old, new) / 2
            assert found == pytest.approx(scale * before[k] if kept else 0, abs=1e-6)


def test_projection_and_resizing_commute() -> None:
    volume = draw(16, 16, 16)
    small = resize_images(volume.sum(0), 10)
    assert torch.allclose(resize_volume(volume, 10).sum(0), small, atol=1e-5)


def test_cropping_after_padding_gives_the_band_limited_original() -> None:
    images = unpack(pack(draw(2, 12, 12)), 12)
    assert torch.allclose(resize_images(resize_images(images, 20), 12), images, atol=1e-5)
    kept = pack(resize_images(images, 8))
    count = half_plane(8).count(3)
    both = {tuple(k): i for i, k in enumerate(half_plane(12).frequency.tolist())}
    rows = [both[tuple(k)] for k in half_plane(8).frequency[:count].tolist()]
    # density is kept and sums run over fewer pixels: orthonormal coefficients shrink by (new / old)^2
    assert torch.allclose(kept[:, :count], pack(images)[:, rows] * (8 / 12) ** 2, atol=1e-5)


def test_shell_sums_add_up_by_rows_and_leave_their_input_alone():
    values = torch.rand(9, 9, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = values.clone()
    whole = shell_sum(values, 9)
    parts = shell_sum(values[:4], 9) + shell_sum(values[4:], 9, first_row=4)
    torch.testing.assert_close(parts, whole)
    assert torch.equal(values, before)


@pytest.mark.parametrize("box", (8, 9))
def test_gains_and_sums_by_radius_are_the_same_in_slabs(
    box: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slabs of two rows, the last one shorter for the odd box, beside |k| of every coefficient."""
    monkeypatch.setattr(transforms, "SLAB", 2 * box * (box // 2 + 1))
    k = torch.fft.fftfreq(box, 1 / box, dtype=torch.float64)
    kx = torch.arange(box // 2 + 1.0, dtype=torch.float64)
    radius = (k[:, None, None] ** 2 + k[:, None] ** 2 + kx**2).sqrt()
    table = wave_numbers(box)
    assert torch.equal(table, torch.arange(3 * (box // 2) ** 2 + 1, dtype=torch.float64).sqrt())
    transform = torch.complex(draw(*radius.shape), draw(*radius.shape, seed=1)).to(torch.complex128)
    expected = transform / (1 + radius)
    found = multiply_radial_(transform.clone(), 1 / (1 + table))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    whole = (k[:, None, None] ** 2 + k[:, None] ** 2 + k**2).sqrt().add(0.5).floor().long()
    counts = torch.bincount(whole.flatten())[: box // 2 + 1].double()
    assert torch.equal(shell_sum(torch.ones_like(radius), box), counts)
    assert torch.equal(shell_count(box), counts)
