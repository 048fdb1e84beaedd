"""The differentiable image model: the numbers of the one that searches use, and the right derivatives."""

from __future__ import annotations

import torch

from cryotorch.ops.ctf.transfer import contrast_transfer
from cryotorch.ops.fourier import differentiable
from cryotorch.ops.fourier.image_model import project
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.rotations import from_rotation_vector

BOX, PIXEL = 12, 3.0


def scene(dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """A volume of noise, two rotation vectors, shifts and defoci."""
    draw = torch.Generator().manual_seed(3)
    volume = torch.randn(BOX, BOX, BOX, generator=draw, dtype=torch.float64)
    turn = torch.randn(2, 3, generator=draw, dtype=torch.float64)
    shift = torch.randn(2, 2, generator=draw, dtype=torch.float64)
    defocus = torch.tensor([[8000.0, 7000.0, 0.4], [12000.0, 11500.0, 1.0]], dtype=torch.float64)
    return tuple(v.to(dtype) for v in (volume, turn, shift, defocus))


def ctf_of(defocus: torch.Tensor) -> torch.Tensor:
    frequency = half_plane(BOX).frequency.to(defocus) / (BOX * PIXEL)
    phase, voltage, aberration, contrast = defocus.new_tensor([0.1, 300, 2.7, 0.1]).expand(2, 4).T
    return contrast_transfer(frequency, defocus, phase, voltage, aberration, contrast)


def test_same_numbers_as_the_model_of_the_searches() -> None:
    volume, turn, shift, defocus = scene(torch.float32)
    rotation, scale = from_rotation_vector(turn), torch.tensor([0.8, 1.3])
    arguments = volume, rotation, shift, ctf_of(defocus), scale
    expected = project(*arguments)
    found = differentiable.project(*arguments)
    assert float((found - expected).abs().max()) < 2e-5 * float(expected.abs().max())


def test_derivatives_by_map_rotation_shift_and_defocus() -> None:
    volume, turn, shift, defocus = scene(torch.float64)
    kilo = defocus.new_tensor([1e3, 1e3, 1.0])  # steps of gradcheck are absolute

    def images(volume, turn, shift, defocus):
        spectrum = differentiable.project(
            volume, from_rotation_vector(turn), shift, ctf_of(defocus * kilo)
        )
        return torch.view_as_real(spectrum[:, ::7])

    inputs = [v.requires_grad_() for v in (volume, turn, shift, defocus / kilo)]
    assert torch.autograd.gradcheck(images, inputs, eps=1e-7, atol=1e-5, fast_mode=True)
