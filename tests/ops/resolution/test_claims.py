"""What may be claimed of two half maps, and what ends their curve."""

from __future__ import annotations

import pytest
import torch

from cryotorch.ops.fourier.transforms import volume_shells
from cryotorch.ops.geometry.symmetry import point_group, rotate_volume
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.resolution.claims import (
    ENDED,
    LIMIT_ENDS,
    NOISE_ENDS,
    NYQUIST_ENDS,
    THRESHOLD_ENDS,
    Background,
    ended_by,
    judge,
)
from cryotorch.ops.resolution.fsc import claimed_shell


@pytest.mark.parametrize(
    ("curve", "band", "shell", "reason"),
    [
        ([1, 0.9, 0.6, 0.30, 0.1], [1, 0.2, 0.2, 0.20, 0.2], 3, THRESHOLD_ENDS),
        ([1, 0.9, 0.6, 0.19, 0.1], [1, 0.2, 0.2, 0.20, 0.2], 2, NOISE_ENDS),
        ([1, 0.9, 0.6, 0.55, 0.1], [1, 0.2, 0.2, 0.60, 0.6], 2, NOISE_ENDS),  # too few numbers
        ([1, 0.9, 0.6, 0.00, 0.0], [1, 0.2, 0.2, 0.20, 0.2], 2, LIMIT_ENDS),
        ([1, 0.9, 0.6, 0.30, 0.2], [1, 0.1, 0.1, 0.10, 0.1], 4, NYQUIST_ENDS),
    ],
)
def test_what_ends_a_curve(curve: list, band: list, shell: int, reason: str) -> None:
    curve = torch.tensor(curve, dtype=torch.float64)
    assert claimed_shell(curve, torch.tensor(band, dtype=torch.float64)) == shell
    assert ended_by(curve, shell) == reason and reason in ENDED


def test_many_copies_widen_the_band_until_it_ends_the_curve() -> None:
    """Half maps whose signal falls slowly through 0.143, with D4: as C1 maps the threshold ends them, as D4 maps noise."""
    box, draw = 32, torch.Generator().manual_seed(1)
    group, mask = point_group("D4"), soft_sphere(box, 11, 3)

    def symmetric() -> torch.Tensor:
        noise = torch.randn(box, box, box, generator=draw)
        return torch.stack([rotate_volume(noise, r.float()) for r in group]).mean(0)

    fall = torch.fft.fftfreq(box, 1 / box).square()
    radius = (fall[:, None, None] + fall[:, None] + fall[: box // 2 + 1]).sqrt()
    signal = torch.fft.rfftn(symmetric()) * (8 * torch.exp(-radius / 4))
    signal = torch.fft.irfftn(signal, s=(box,) * 3)
    halves = torch.stack([signal + symmetric() for _ in range(2)])
    plain = judge(halves, 3.0, mask)
    known = judge(halves, 3.0, mask, known=Background(group, symmetry="D4"))
    assert plain.ended_by == THRESHOLD_ENDS
    assert known.ended_by == NOISE_ENDS and (known.shell, plain.shell) == (10, 12)
    assert float(known.curves["corrected"][known.shell + 1]) > 0.143


def leaking(shared: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Half maps (2, d, d, d) of noise that are one map up to a shell but for shell 2, where they differ, and a small mask."""
    box = 32
    shells = volume_shells(box)
    common, *own = (torch.randn(box, box, box, generator=generator) for _ in range(3))
    known = (shells <= shared) & (shells != 2)
    halves = [
        torch.where(known, 8 * torch.fft.rfftn(common), torch.fft.rfftn(noise)) for noise in own
    ]
    return torch.fft.irfftn(torch.stack(halves), s=(box,) * 3), soft_sphere(box, 5, 2)


def test_what_leaks_from_shared_shells_is_not_claimed_whatever_dips_before_them() -> None:
    """A shell that falls below 0.8 inside what is shared would take the phases from the shells that leak."""
    halves, mask = leaking(10, torch.Generator().manual_seed(5))
    blind, known = (judge(halves, 4.0, mask, known=Background(shared=s)) for s in (1.0, 10.5))
    assert blind.onset == 2 and float(blind.curves["corrected"][11]) > 0.6
    assert known.onset == 11 and known.shell is None
    assert float(known.curves["corrected"][12:].max()) < 0.25


def test_a_claim_is_seen_without_the_mask_too() -> None:
    """Half maps that agree within the mask alone, as if it had been made of their noise: in 1 voxel of 250."""
    draw = torch.Generator().manual_seed(2)
    box, mask = 32, soft_sphere(32, 3, 2)
    common, *own = (torch.randn(box, box, box, generator=draw) for _ in range(3))
    halves = torch.stack([torch.where(mask > 0.1, common, noise) for noise in own])
    free = judge(halves, 4.0, mask)
    assert free.shell == box // 2
    assert judge(halves, 4.0, mask, known=Background(shared=9.0)).shell is None
