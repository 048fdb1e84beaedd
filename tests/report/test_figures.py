from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cryotorch.findings import Finding
from cryotorch.report.figures import FIGURES, draw, write_pictures
from cryotorch.results import Guinier, IterationResult


def ink(path: Path) -> float:
    """Share of the pixels that are not paper."""
    with Image.open(path) as image:
        return float((np.asarray(image) < 245).any(-1).mean())


def test_every_figure_is_drawn_and_written(result: IterationResult, tmp_path: Path) -> None:
    paths = write_pictures(draw(result), tmp_path / "plots")
    assert [p.name for p in paths] == [f"{name}.png" for name in FIGURES]
    assert sorted(p.name for p in (tmp_path / "plots").iterdir()) == sorted(p.name for p in paths)
    for path in paths:
        with Image.open(path) as image:
            width, height = image.size
        assert 600 <= width <= 1400 and 400 <= height <= 1200
        assert 0.03 < ink(path) < 0.9, path.name


def test_only_a_local_search_has_departures(result: IterationResult) -> None:
    assert list(draw(result, ["departures"])) == ["departures"]
    assert draw(replace(result, departures=None), ["departures"]) == {}


def test_an_older_figure_is_replaced(result: IterationResult, tmp_path: Path) -> None:
    (tmp_path / "fsc.png").write_bytes(b"old")
    pictures = draw(result)
    write_pictures(pictures, tmp_path)
    assert (tmp_path / "fsc.png").read_bytes() == pictures["fsc"][0]


def test_the_same_result_gives_the_same_bytes(result: IterationResult) -> None:
    assert draw(result, ["fsc", "mask"]) == draw(result, ["fsc", "mask"])


def poor(make) -> dict[str, tuple[IterationResult, str]]:
    """Results that a first or a failed iteration leaves behind, and the figures that they could upset."""
    good = make()
    n, shells = len(good.particles), good.curves["tight"].numel()
    zero, nan = torch.zeros(n), torch.full((n,), torch.nan)
    unknown = good.particles.replace(
        scale=torch.ones(n), pose_sigma=torch.zeros(n, 2), half=torch.full((n,), -1)
    )
    no_fit = Guinier(
        inverse_d2=torch.zeros(shells),
        log_amplitude=torch.full((shells,), -torch.inf),
        used=torch.zeros(shells, dtype=torch.bool),
        bfactor=None,
        intercept=0.0,
        reason=Finding("nothing_claimed"),
    )
    full, empty = torch.ones_like(good.map), torch.zeros_like(good.map)
    return {
        "first": (make(iteration=1, rotation_change=nan, shift_change=nan), "resolution poses"),
        "still": (replace(good, rotation_change=zero, shift_change=zero), "poses"),
        "no history": (replace(good, history=[]), "resolution"),
        "no masks": (replace(good, mask_refine=None, mask_fsc=full), "mask"),
        "empty mask": (replace(good, mask_fsc=empty), "mask"),
        "flat map": (replace(good, map=empty, map_sharp=empty), "slices mask"),
        "no fit": (replace(good, guinier=no_fit), "guinier"),
        "no noise": (replace(good, noise=torch.zeros_like(good.noise)), "noise"),
        "noise nan": (replace(good, noise=torch.full_like(good.noise, torch.nan)), "noise"),
        "many groups": (replace(good, noise=torch.rand(2, 7, shells) + 0.5), "noise"),
        "fsc nan": (replace(good, curves={"corrected": torch.full((shells,), torch.nan)}), "fsc"),
        "one particle": (make(n=1), "orientations scales poses"),
        "unknown": (replace(good, particles=unknown), "orientations scales poses"),
    }


KINDS = (
    *("first", "still", "no history", "no masks", "empty mask", "flat map", "no fit", "no noise"),
    *("noise nan", "many groups", "fsc nan", "one particle", "unknown"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_poor_results_are_drawn_without_a_warning(make, kind: str, tmp_path: Path) -> None:
    result, names = poor(make)[kind]
    for path in write_pictures(draw(result, names.split()), tmp_path):
        assert ink(path) > 0.01, path.name


def test_a_million_particles_are_drawn_as_fast_as_a_few(make) -> None:
    few, many = make(n=1000), make(n=1_000_000)
    names = ("orientations", "scales", "poses")
    draw(few, names)
    start = time.process_time()
    draw(many, names)
    assert time.process_time() - start < 6
