"""Masks, curves and resolutions as the settings ask for them, on half maps in memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cryotorch.errors import InputError
from cryotorch.findings import codes
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.fsc.validate import _onset, validate
from cryotorch.jobs.inputs.half_maps import HalfMaps
from cryotorch.ops.resolution.claims import Background
from cryotorch.ops.resolution.fsc import fsc_curves, loose_mask, resolution, shell_correlation

CPU = torch.device("cpu")


def look(maps: torch.Tensor, known: Background | None = None, **changes):
    settings = make_settings("validation_fsc", optimize_mask=False, **changes)
    paths = (Path("none_a.mrc"), Path("none_b.mrc"))
    return validate(settings, HalfMaps(maps, 3.0, paths, None, known or Background()), CPU)


def test_curves_are_those_of_the_mask_and_seed(halves: Callable) -> None:
    maps = halves(7.0)
    found = look(maps, seed=3)
    expected = fsc_curves(
        maps, 3.0, found.mask.mask, loose_mask(maps.mean(0), 3.0),
        generator=torch.Generator().manual_seed(3), first_shell=found.onset,
    )  # fmt: skip
    assert set(found.curves) == set(expected)
    for name, curve in expected.items():
        torch.testing.assert_close(found.curves[name], curve)
    for threshold, reached in found.resolutions.items():
        assert reached["tight"] == resolution(expected["tight"], 48, 3.0, threshold)
    assert found.claims and found.resolution == 144 / found.last
    assert found.first is found.mask and found.warnings == []


def test_an_fsc_that_is_known_is_not_computed_again(halves: Callable) -> None:
    maps, settings = halves(7.0), make_settings("validation_fsc", generate_mask=False)
    known = shell_correlation(*maps) * 0.99
    found = validate(settings, HalfMaps(maps, 3.0, (Path("a"), Path("b"))), CPU, no_mask=known)
    assert torch.equal(found.curves["no_mask"], known)


def test_the_sphere_needs_no_loose_curve(halves: Callable) -> None:
    found = look(halves(7.0), generate_mask=False)
    assert found.mask.kind == "sphere" and "loose" not in found.curves
    assert torch.equal(found.curves["tight"], found.curves["spherical"])


def test_noise_has_no_resolution(noise: Callable) -> None:
    found = look(noise(48, 3), generate_mask=False)
    assert not found.claims and math.isnan(found.resolution) and found.ended_by == ""
    assert codes(found.warnings) == ["nothing_shared"]


def test_what_half_maps_had_in_common_is_not_claimed(halves: Callable) -> None:
    maps = halves(7.0)
    free = look(maps)
    shared = look(maps, Background(shared=free.last - 1.0))
    assert free.claims and not shared.claims
    assert shared.last >= free.last - 1


@pytest.mark.parametrize(
    ("below", "shell"), [(0.8, 5), (0.5, 7), (1.0, 1), (12.0, 8), (11.9, 9), (200.0, 1)]
)
def test_where_random_phases_begin(below: float, shell: int) -> None:
    """By the FSC, or by a resolution: 96 Å / 8 is 12."""
    curve = torch.tensor([1, 0.99, 0.97, 0.9, 0.82, 0.7, 0.6, 0.4, 0.3, 0.2, 0.1, 0.0])
    assert _onset(below, curve, 96.0) == shell


def test_random_phases_that_begin_too_late_are_refused() -> None:
    curve = torch.tensor([1, 0.9, 0.5, 0.1, 0.0, 0.0, 0.0, 0.0])
    with pytest.raises(InputError, match=r"begin at 19.20 Å, .* falls below 0.143 at 32.00 Å"):
        _onset(20.0, curve, 96.0)
    with pytest.raises(InputError, match="not begin before Nyquist"):
        _onset(2.0, curve, 96.0)
