"""What the end of a refinement says about its start, and about its views."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from cryotorch.findings import Finding
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.config.parse import in_angstrom
from cryotorch.jobs.homo_refine import global_em_settings
from cryotorch.jobs.refinement.start_advice import Beginning, initial_map_advice
from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.fourier.resample import resample_volume
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.models.phantom import phantom

BOX, PIXEL, SHELL = 40, 4.0, 16
FIRST = BOX * PIXEL / 30  # the last shell of a first iteration at 30 Å


def molecule(seed: int = 1) -> Tensor:
    volume = phantom(BOX, PIXEL, torch.eye(3)[None], seed)
    return volume / volume.std()


def noticed(initial: Tensor, first: float = FIRST, volume: Tensor | None = None) -> list[Finding]:
    volume = molecule() if volume is None else volume
    noise = torch.randn(volume.shape, generator=torch.Generator().manual_seed(2))
    mask = soft_sphere(BOX, 14, 3)
    result = SimpleNamespace(map=volume + 0.5 * noise, mask_fsc=mask, pixel_size=PIXEL)
    return initial_map_advice(result, Beginning(initial, first), SHELL)


@pytest.mark.parametrize("resolution", [10.0, 20.0, 30.0, 45.0, 60.0, 80.0])
def test_the_right_initial_map_is_not_doubted_however_coarse(resolution: float) -> None:
    assert noticed(low_pass(molecule(), PIXEL, resolution)) == []
    assert noticed(2.5 * molecule()) == []


def test_nothing_to_compare_says_nothing() -> None:
    result = SimpleNamespace(map=molecule(), mask_fsc=soft_sphere(BOX, 14, 3), pixel_size=PIXEL)
    assert initial_map_advice(result, Beginning(), SHELL) == []


def test_another_size_is_told_where_the_initial_map_has_detail() -> None:
    larger = resample_volume(molecule(), 1.05, BOX, 1.0)
    (found,) = noticed(molecule(), volume=larger)
    assert found.code == "other_size" and found["factor"] == pytest.approx(1.05, abs=0.005)
    assert noticed(low_pass(molecule(), PIXEL, 30), volume=larger) == []


@pytest.mark.parametrize("first", [FIRST, 16.0])
def test_another_molecule_is_told(first: float) -> None:
    (found,) = noticed(molecule(7), first)
    assert found.code == "other_map" and found["resolution"] > found["first"]


@pytest.mark.parametrize(("initial", "shared"), [(30.0, 20.0), (10.0, 10.0)])
def test_what_both_half_sets_are_aligned_to_first_is_in_common(
    initial: float, shared: float
) -> None:
    """A resolution counts only beyond it: images of noise keep the shape of the initial map."""
    images = SimpleNamespace(box=BOX, pixel_size=PIXEL)
    settings = make_settings("homo_refine", initial_resolution=initial, compile=False)
    half = torch.arange(10) % 2
    planned = global_em_settings(in_angstrom(settings, PIXEL), images, point_group("C1"), half)
    assert planned.in_common == pytest.approx(BOX * PIXEL / shared)
