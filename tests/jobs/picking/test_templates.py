"""Views of a map, the grid of their images, and how much of the particle these hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cryotorch.data.mrc import write_volume
from cryotorch.errors import InputError
from cryotorch.findings import Finding
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.picking.templates import arrange, measure
from cryotorch.ops.models.gaussians import gaussian_density
from cryotorch.report.sentences import say

BOX, PIXEL = 48, 4.0


@pytest.fixture(scope="module")
def molecule(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blobs within 60 Å of the middle."""
    draw = torch.Generator().manual_seed(8)
    position = torch.randn(120, 3, generator=draw) * 24
    position *= (60 / position.norm(dim=1, keepdim=True)).clamp(max=1)
    volume = gaussian_density(position, torch.ones(120), torch.full((120,), 5.0), BOX, PIXEL)
    path = tmp_path_factory.mktemp("molecule") / "molecule.mrc"
    write_volume(path, volume, PIXEL)
    return path


def views(molecule: Path, **changes: Any):
    return arrange(molecule, make_settings("create_templates", **changes))


def test_a_box_or_circle_that_cuts_is_warned_of(molecule: Path) -> None:
    def warnings(**changes: Any) -> list[Finding]:
        settings = make_settings("create_templates", n_templates=3, **changes)
        return measure(arrange(molecule, settings)).warnings

    (small,), (narrow,) = warnings(box_size=16), warnings(diameter=60)
    assert (small["parameter"], small["size"]) == ("box_size", 16)
    assert "diameter=60 cuts" in say(narrow)
    assert warnings(box_size=64, pixel_size=3.2, diameter=160) == []


def test_the_grid_of_the_images_is_that_of_the_map_unless_told(molecule: Path) -> None:
    made = views(molecule, n_templates=5)
    assert (made.box, made.pixel_size, len(made.views), made.order) == (48, 4.0, 5, 1)
    coarse = views(molecule, n_templates=5, pixel_size=5.0, low_pass=20)
    assert (coarse.box, coarse.pixel_size) == (38, 5.0)  # 192 Å, even
    assert views(molecule, n_templates=5, box_size=64).box == 64


def test_angles_point_along_the_views(molecule: Path) -> None:
    """RELION's rot and tilt: (sin tilt cos rot, sin tilt sin rot, cos tilt)."""
    made = views(molecule, n_templates=12)
    rot, tilt = made.angles.deg2rad().unbind(1)
    back = torch.stack([tilt.sin() * rot.cos(), tilt.sin() * rot.sin(), tilt.cos()], 1)
    torch.testing.assert_close(back, made.views.to(back), atol=1e-6, rtol=0)
    assert 0 < made.ideal <= made.gap < 60


def test_contrast_sets_the_spread_of_the_grey_values(molecule: Path) -> None:
    plain = measure(views(molecule, n_templates=4, contrast=None))
    half = measure(views(molecule, n_templates=4, contrast=0.5))
    assert plain.factor == 1.0 and half.spread == pytest.approx(0.5)
    assert half.factor == pytest.approx(0.5 / plain.spread)
    torch.testing.assert_close(half.sheet, plain.sheet * half.factor)


def test_sign_and_circle(molecule: Path) -> None:
    given = dict(n_templates=4, contrast=None)
    dark, light = (measure(views(molecule, **given, invert=i)).sheet for i in (True, False))
    assert torch.equal(dark, -light) and float(light.sum()) > 0
    cut = next(views(molecule, **given, invert=False, diameter=120).images())[0]
    radius = (torch.arange(BOX) - BOX // 2).square()
    outside = (radius[:, None] + radius).sqrt() > 15 * 1.2 + 0.1
    assert float(cut[:, outside].abs().max()) == 0 and float(cut.max()) > 0


def test_a_symmetry_that_the_map_lacks_is_refused(molecule: Path) -> None:
    with pytest.raises(InputError, match=r"does not have symmetry=C3 .*use symmetry=C1"):
        views(molecule, symmetry="C3")
