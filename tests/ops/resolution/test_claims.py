"""What may be claimed of two half maps, and what ends their curve."""

from __future__ import annotations

import pytest
import torch

from cryotorch.ops.geometry.symmetry import point_group, rotate_volume
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.resolution.claims import (
    ENDED,
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
