"""The picture of a local resolution: drawn for ordinary, even and empty cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.report.local_resolution import chimerax_script, local_resolution_figure
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


def test_what_has_no_value_has_no_colour_and_counts_as_coarser():
    volume = torch.randn(16, 16, 16, generator=torch.Generator().manual_seed(0))
    values = torch.linspace(3, 9, 16).expand(16, 16, 16).clone()
    values[..., 8:] = torch.inf
    values[..., 0] = 3.0
    figure = local_resolution_figure(values, volume, torch.ones(16, 16, 16), 2.0, "x", ends=(4, 8))
    image = figure.axes[0].images[1]
    assert int((~image.get_array().mask).sum()) == 16 * 8
    assert image.get_clim() == (4, 8)
    assert figure.axes[-1].get_title() == ""  # half of it is not said: there is no median
    values[..., 8] = 6.2
    figure = local_resolution_figure(values, volume, torch.ones(16, 16, 16), 2.0, "x")
    assert figure.axes[-1].get_title() == "median 6.0 Å"  # between the columns of 5.8 and 6.2


def test_chimerax_knows_the_commands(check_chimerax, tmp_path):
    for name in ("map sharp.mrc", "local.mrc"):
        (tmp_path / name).touch()
    inside = np.linspace(3, 7, 1001)
    assert check_chimerax(chimerax_script("map sharp.mrc", "local.mrc", inside), tmp_path) == 2
    with pytest.raises(AssertionError, match="no such command"):
        check_chimerax("colour #1 red", tmp_path)


def test_chimerax_colours_one_map_by_the_other():
    inside = np.linspace(3, 7, 1001)
    lines = chimerax_script("map sharp.mrc", "local.mrc", inside, (4.0, 8.0)).splitlines()
    assert lines[0].startswith("#") and all(not line.startswith("#") for line in lines[1:])
    assert lines[1:4] == ['open "map sharp.mrc"', 'open "local.mrc"', "hide #2 models"]
    command, palette = lines[5].rsplit(" ", 1)
    assert command == "color sample #1 map #2 palette"
    stops = [stop.split(",") for stop in palette.split(":")]
    assert [float(value) for value, _ in stops] == [0, 3.6, 4, 5, 6, 7, 8]
    assert stops[0][1] == stops[1][1] == "#b0b0b0"
    assert (
        stops[2][1] == "#fde725" and stops[-1][1] == "#440154"
    )  # the ends of viridis, sharp is bright
    assert lines[6].split()[1:] == [f"{c}:{float(v):.1f}" for v, c in stops[2:]]
    spread = chimerax_script("a", "b", inside).splitlines()[6]
    assert spread.split()[1].endswith(":3.0") and spread.endswith(":7.0")
