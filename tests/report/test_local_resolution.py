"""The picture of a local resolution: drawn for ordinary, even and empty cases."""

from __future__ import annotations

import pytest
import torch

from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.report.local_resolution import local_resolution_figure
from cryotorch.report.style import render


@pytest.mark.parametrize("box", [24, 25])
def test_it_names_the_median_and_colours_the_mask(box):
    volume = torch.randn(box, box, box, generator=torch.Generator().manual_seed(0))
    ramp = torch.linspace(3, 9, box).expand(box, box, box)
    mask = soft_sphere(box, 8, 2)
    figure = local_resolution_figure(ramp, volume, mask, 2.0, "Local resolution")
    median = float(ramp[mask > 0.5].median())
    assert figure.axes[-1].get_title() == f"median {median:.1f} Å"
    coloured = figure.axes[0].images[1].get_array()
    assert (~coloured.mask).sum() == int((mask[box // 2] > 0.5).sum())
    assert len(render(figure).png) > 1000


def test_one_resolution_everywhere_and_an_empty_mask():
    flat, volume = torch.full((16,) * 3, 5.0), torch.randn(16, 16, 16)
    for mask in (torch.ones(16, 16, 16), torch.zeros(16, 16, 16)):
        assert len(render(local_resolution_figure(flat, volume, mask, 2.0, "x")).png) > 1000
