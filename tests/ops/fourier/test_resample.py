"""Resampling against functions that are known everywhere."""

from __future__ import annotations

import pytest
import torch

from cryotorch.ops.fourier.resample import resample_images, resample_volume, stretched
from cryotorch.ops.fourier.transforms import resize_images, resize_volume
from cryotorch.ops.models.gaussians import gaussian_density


def blob(box: int, pixel_size: float) -> torch.Tensor:
    position = torch.tensor([[3.0, -8.0, 5.0], [-6.0, 2.0, 9.0], [0.0, 7.0, -11.0]])
    return gaussian_density(
        position, torch.tensor([3.0, 1.0, 2.0]), torch.full((3,), 4.0), box, pixel_size
    )


@pytest.mark.parametrize(("box", "pixel_size"), [(40, 2.0), (33, 2.3), (64, 1.37), (20, 3.0)])
def test_gaussians_on_another_grid(box: int, pixel_size: float) -> None:
    """Pixel size, box, parity, padding and cropping: the same density at the same places."""
    resampled = resample_volume(blob(45, 1.9), 1.9, box, pixel_size)
    expected = blob(box, pixel_size)
    assert resampled.shape == expected.shape
    assert torch.allclose(resampled, expected, atol=2e-3 * float(expected.max()))


def test_the_same_grid_changes_nothing() -> None:
    volume = torch.randn(15, 15, 15, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(resample_volume(volume, 2.0, 15, 2.0), volume, atol=1e-5)


def test_coarser_over_the_same_edge_is_a_fourier_crop() -> None:
    volume = torch.randn(24, 24, 24, generator=torch.Generator().manual_seed(0))
    cropped = resample_volume(volume, 1.0, 16, 1.5)
    assert torch.allclose(cropped, resize_volume(volume, 16), atol=1e-4)


def test_outside_the_old_box_is_zero() -> None:
    padded = resample_volume(torch.ones(9, 9, 9), 1.0, 17, 1.0)
    assert torch.allclose(padded[4:13, 4:13, 4:13], torch.ones(9, 9, 9), atol=1e-5)
    assert float(padded.sum()) == pytest.approx(729, rel=1e-5)


def gaussian_images(box: int, pixel_size: float) -> torch.Tensor:
    """Two Gaussians of 4 and 5 Å in closed form."""
    x = (torch.arange(box) - box // 2) * pixel_size
    images = [
        torch.exp(-((x[:, None] - cy) ** 2 + (x[None, :] - cx) ** 2) / (2 * s**2))
        for cx, cy, s in ((9.0, -5.0, 4.0), (-11.0, 7.0, 5.0))
    ]
    return torch.stack(images)


@pytest.mark.parametrize(
    ("box", "pixel_size"), [(62, 1.25), (50, 1.6), (24, 2.9), (65, 1.2), (128, 1.2403)]
)
def test_images_sampled_at_two_pixel_sizes_agree(box: int, pixel_size: float) -> None:
    resampled = resample_images(gaussian_images(64, 1.24), 1.24, box, pixel_size)
    expected = gaussian_images(box, pixel_size)
    assert torch.allclose(resampled, expected, atol=1e-3 * float(expected.max()))


def test_images_over_the_same_edge_are_cropped_in_fourier_space() -> None:
    images = torch.randn(3, 24, 24, generator=torch.Generator().manual_seed(0))
    cropped = resample_images(images, 1.0, 16, 1.5)
    assert torch.allclose(cropped, 1.5 * resize_images(images, 16), atol=1e-5)


def test_images_are_resampled_as_the_planes_of_a_volume() -> None:
    """A volume that does not change along z, image by image."""
    images = torch.randn(2, 20, 20, generator=torch.Generator().manual_seed(1))
    new = resample_images(images, 2.0, 26, 1.7)
    for image, found in zip(images, new, strict=True):
        volume = resample_volume(image.expand(20, 20, 20).contiguous(), 2.0, 26, 1.7)
        assert torch.allclose(found, volume[13], atol=1e-5)


@pytest.mark.parametrize(("box", "pixel_size"), [(45, 1.9), (40, 2.0), (33, 2.3)])
def test_a_shift_in_the_unit_of_the_pixels(box: int, pixel_size: float) -> None:
    shift = (2.7, -1.9, 3.8)
    moved = resample_volume(blob(45, 1.9), 1.9, box, pixel_size, shift)
    position = torch.tensor([[3.0, -8.0, 5.0], [-6.0, 2.0, 9.0], [0.0, 7.0, -11.0]])
    weight, sigma = torch.tensor([3.0, 1.0, 2.0]), torch.full((3,), 4.0)
    expected = gaussian_density(position + torch.tensor(shift), weight, sigma, box, pixel_size)
    assert torch.allclose(moved, expected, atol=2e-3 * float(expected.max()))


@pytest.mark.parametrize("old", [14, 15])
def test_whole_voxels_are_copied(old: int) -> None:
    """Crop, pad and shift at one pixel size, k = d / 2 of even boxes included."""
    volume = torch.randn(old, old, old, generator=torch.Generator().manual_seed(0))
    wide = resample_volume(volume, 2.0, 24, 2.0, (4.0, 0.0, -2.0))
    z, y, x = (12 - old // 2 + step for step in (-1, 0, 2))
    found = wide[z : z + old, y : y + old, x : x + old]
    assert torch.allclose(found, volume, atol=1e-5)
    assert float(wide.square().sum()) == pytest.approx(float(volume.square().sum()), rel=1e-5)


@pytest.mark.parametrize("box", [48, 47])
def test_a_stretched_blob_is_round_again(box: int) -> None:
    """Spectra P(M k) of a round blob are those of one at M^T p, its covariance M^T M; A = M^-1 brings it back."""
    m = torch.tensor([[1.06, 0.02], [-0.01, 0.95]])
    place, width = torch.tensor([9.0, -4.0]), 2.0
    line = torch.arange(box) - float(box // 2)
    x = torch.stack([line.expand(box, box), line[:, None].expand(box, box)], -1)

    def blob(middle: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
        off = x - middle
        far = torch.einsum("yxi,ij,yxj->yx", off, torch.linalg.inv(shape), off)
        return (-0.5 * far).exp() / torch.linalg.det(shape).sqrt()

    wanted = blob(place, width**2 * torch.eye(2))
    seen = blob(m.T @ place, width**2 * m.T @ m)
    found = stretched(torch.stack([seen, 2 * seen, wanted]), torch.linalg.inv(m))
    assert float((found[0] - wanted).norm() / wanted.norm()) < 0.01
    assert torch.allclose(found[1], 2 * found[0], atol=1e-6)
    assert float((found[2] - wanted).norm() / wanted.norm()) > 0.2
    same = stretched(seen[None], torch.eye(2))[0]
    assert torch.allclose(same, seen, atol=1e-5)
