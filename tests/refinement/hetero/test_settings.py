"""Settings in pixels."""

from __future__ import annotations

import torch

from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.refinement.hetero.settings import HeteroSettings
from cryotorch.refinement.settings import ImageGrid


def made(**changes) -> HeteroSettings:
    given = dict(grid=ImageGrid.whole(24, 4.0), group=point_group("C1"), n_classes=2, limit=9.3)
    return HeteroSettings(**{**given, "split": 4.0, "first_limit": 5.9, **changes})


def test_limits_end_with_a_shell() -> None:
    plane = half_plane(24)
    for limit, last in ((made().limit, 9), (made().first_limit, 5)):
        inside = plane.shell[: plane.count(limit)]
        assert int(inside.max()) == last
        assert len(inside) == int((plane.shell <= last).sum())


def test_stages_draw_different_numbers_and_the_same_again() -> None:
    first, second = (torch.rand(3, generator=made().generator(*s)) for s in ((0, 1), (1, 0)))
    assert not torch.equal(first, second)
    assert torch.equal(first, torch.rand(3, generator=made().generator(0, 1)))
