"""A small set of two species and one of one, and what is made of them, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryotorch.jobs import simulate
from cryotorch.jobs.components.inputs import load
from cryotorch.jobs.components.steps import analysed
from cryotorch.jobs.config.catalog import make_settings

SIZE = dict(box_size=32, pixel_size=5.0, n_particles=240, snr=0.3, resolution=12.0, seed=1)
FAST = dict(n_components=2, max_resolution=14.0, iterations=8, device="cpu")


@pytest.fixture(scope="session")
def species(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 particles, 96 of them of a second species."""
    out = tmp_path_factory.mktemp("variability") / "set"
    return simulate.run(make_settings("simulate", out=str(out), second_species="phantom", **SIZE))


@pytest.fixture(scope="session")
def settings(species: Path):
    """Settings of a short run; keywords are changed."""

    def changed(**changes):
        given = FAST | dict(particles=str(species / "truth.star")) | changes
        return make_settings("variability", **given)

    return changed


@pytest.fixture(scope="session")
def read(settings):
    """The input, read."""
    return load(settings())


@pytest.fixture(scope="session")
def made(read):
    """The components."""
    return analysed(read)
