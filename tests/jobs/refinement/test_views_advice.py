"""Views are told where they leave more unseen than as many random ones."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor

from cryotorch.findings import Finding, codes
from cryotorch.jobs.refinement.views_advice import views_advice
from cryotorch.ops.geometry.directions import random_views
from cryotorch.ops.geometry.symmetry import point_group

BOX, PIXEL, SHELL = 40, 4.0, 16


def views(rotation: Tensor, group: str = "C1") -> list[Finding]:
    particles = SimpleNamespace(rotation=rotation)
    found = SimpleNamespace(
        particles=particles,
        group=point_group(group),
        map=torch.zeros(BOX, 1, BOX),
        pixel_size=PIXEL,
    )
    return views_advice(found, SHELL)


def test_views_are_told_where_they_are_uneven_for_their_number() -> None:
    draw = torch.Generator().manual_seed(3)
    for n in (20, 200, 2000):
        assert views(random_views(n, generator=draw)) == []
    assert views(random_views(2000, 2.0, draw)) == []  # within 60 degrees or so
    found = views(random_views(2000, 20.0, draw))
    assert codes(found) == ["views_uneven"] and 0.2 <= found[0]["unseen"] <= 0.45
    assert views(
        random_views(500, 200.0, draw), "D7"
    )  # the copies of a view along the axis lie there too
    assert views(random_views(500, 3.0, draw), "D7") == []
