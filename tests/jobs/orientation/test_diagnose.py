"""Scores and how they are read together, on half maps in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cryotorch.errors import InputError
from cryotorch.findings import codes
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.inputs.half_maps import HalfMaps
from cryotorch.jobs.orientation.diagnose import (
    Views,
    _empty,
    _reading,
    _scarce,
    _some,
    diagnose,
    load_views,
)
from cryotorch.ops.geometry.directions import random_views
from cryotorch.ops.models.phantom import phantom
from cryotorch.ops.resolution.sampling import Sampling
from cryotorch.report.sentences import say

BOX, PIXEL = 32, 4.0


def sampling(scf: float, mean: float = 100.0) -> Sampling:
    return Sampling(**{**dict.fromkeys(Sampling._fields, 0.0), "scf_star": scf, "mean": mean})


@pytest.mark.parametrize(
    ("cfar", "scf", "words"),
    [
        (0.9, 0.9, "No orientation bias that the scores see: the map is resolved alike"),
        (0.6, 0.9, "cFAR 0.60 where 1 is alike"),
        (0.4, 0.9, "junk, damaged or wrongly"),
        (0.4, 0.5, "preferred orientation"),
        (0.9, 0.5, "Inconclusive"),
        (0.9, None, "With particles="),
        (0.4, None, "Give particles="),
        (None, 0.9, "No score"),
    ],
)
def test_both_scores_are_read_together(cfar, scf, words: str) -> None:
    assert words in say(_reading(cfar, None if scf is None else sampling(scf)))


def test_few_slices_and_empty_directions_are_told() -> None:
    assert _scarce(None, 0) == _scarce(sampling(0.9, 20.0), 50) == []
    (few,) = _scarce(sampling(0.9, 19.0), 50)
    assert few.values == dict(particles=50, slices=19.0)
    assert _empty(torch.zeros(4, dtype=torch.bool)) == []
    (empty,) = _empty(torch.tensor([True, False, False, False]))
    assert empty["share"] == 0.25


def test_some_views_are_drawn_by_the_seed() -> None:
    direction = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    assert _some(direction, 50, 0) is direction
    few = _some(direction, 10, 0)
    assert len(few) == 10 and torch.equal(few, _some(direction, 10, 0))
    assert not torch.equal(few, _some(direction, 10, 1))
    assert len({tuple(row) for row in few.tolist()}) == 10


@pytest.fixture(scope="module")
def half_maps() -> HalfMaps:
    """A molecule that is resolved alike in all directions."""
    truth = phantom(BOX, PIXEL, torch.eye(3)[None], 1)
    noise = torch.randn(2, BOX, BOX, BOX, generator=torch.Generator().manual_seed(2))
    return HalfMaps(truth / truth.std() + 0.7 * noise, PIXEL, (Path("a"), Path("b")))


@pytest.mark.parametrize(("concentration", "even"), [(0.0, True), (50.0, False)])
def test_views_from_one_side_lower_the_sampling_alone(
    half_maps: HalfMaps, concentration: float, even: bool
) -> None:
    draw = torch.Generator().manual_seed(3)
    direction = random_views(400, concentration, draw)[:, 2]
    views = Views(Path("p.star"), direction, torch.zeros(400), torch.eye(3)[None], "C1")
    settings = make_settings("orientation_diagnostics", n_directions=100)
    found = diagnose(settings, half_maps, views, torch.device("cpu"))
    assert found.cfar > 0.6 and found.counted == 400
    assert (found.sampling.scf_star > 0.81) == even
    assert len(found.directions) == len(found.curves) == len(found.slices) == 50
    assert ("Inconclusive" in say(found.reading)) == (not even)
    alone = diagnose(settings, half_maps, None, torch.device("cpu"))
    assert alone.sampling is None and alone.cfar == found.cfar


def test_noise_has_no_score(half_maps: HalfMaps) -> None:
    noise = torch.randn(2, BOX, BOX, BOX, generator=torch.Generator().manual_seed(5))
    settings = make_settings("orientation_diagnostics", n_directions=100)
    found = diagnose(settings, HalfMaps(noise, PIXEL, half_maps.paths), None, torch.device("cpu"))
    assert found.cfar is None and found.reading.code == "directions_untold"
    assert found.mask.kind == "sphere" and "nothing_shared" in codes(found.warnings)


def test_views_come_from_a_file_that_is_there() -> None:
    settings = make_settings("orientation_diagnostics", half_map_a="a", half_map_b="b")
    assert load_views(settings) is None
    with pytest.raises(InputError, match="does not exist"):
        load_views(make_settings("orientation_diagnostics", particles="gone.star"))
