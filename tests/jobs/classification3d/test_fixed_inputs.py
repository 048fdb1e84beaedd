"""The inputs of classes at fixed poses: box, limits, and what half sets share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cryotorch.errors import InputError
from cryotorch.jobs import simulate
from cryotorch.jobs.classification3d.fixed_inputs import Inputs, read_inputs
from cryotorch.jobs.config.catalog import make_settings


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("inputs") / "set"
    few = dict(box_size=32, pixel_size=4.0, n_particles=120, snr=1.0)
    return simulate.run(make_settings("simulate", out=str(out), **few))


def inputs(data: Path, **given: Any) -> Inputs:
    given = dict(particles=str(data / "truth.star"), final_resolution=12) | given
    return read_inputs(make_settings("classify", out="x", **given), torch.device("cpu"))


def test_the_box_holds_three_pixels_of_the_final_resolution(data: Path) -> None:
    read = inputs(data, final_resolution=16)
    assert read.images.box == 24 and read.algorithm.limit == pytest.approx(8.499)
    assert inputs(data).images.box == 32
    assert inputs(data, box_size=28).images.box == 28
    assert read.algorithm.first_limit == pytest.approx(6.499)


def test_the_finer_of_both_counts_as_shared(data: Path) -> None:
    assert inputs(data).shared == 20
    read = inputs(data, shared_resolution=14)
    assert read.shared == 14 and read.known.shared == pytest.approx(128 / 14)
    assert inputs(data, shared_resolution=40).shared == 20
    assert read.known.inserted == read.algorithm.limit


def test_lengths_that_do_not_fit_are_refused(data: Path) -> None:
    with pytest.raises(InputError, match="initial_resolution=60 cannot be used: a box of 128 Å"):
        inputs(data, initial_resolution=60)
    with pytest.raises(InputError, match="particle_diameter"):
        inputs(data, particle_diameter=400)
