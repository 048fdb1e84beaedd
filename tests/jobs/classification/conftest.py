"""A small simulated set and its classes, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryotorch.jobs import class2d, simulate
from cryotorch.jobs.config.catalog import make_settings

FAST = dict(
    n_classes=3,
    iterations=6,
    epochs=2,
    max_resolution=12.0,
    mask_diameter=96.0,
    shift_extent=8.0,
    device="cpu",
)


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 particles of the phantom in a box of 32 pixels of 4 Å."""
    out = tmp_path_factory.mktemp("class2d") / "set"
    size = dict(box_size=32, pixel_size=4.0, n_particles=240, snr=2.0, seed=1)
    return simulate.run(make_settings("simulate", out=str(out), **size))


@pytest.fixture(scope="session")
def settings(simulated: Path):
    """Settings of a short run; keywords are changed."""

    def changed(**changes):
        given = FAST | dict(particles=str(simulated / "particles.star")) | changes
        return make_settings("class2d", **given)

    return changed


@pytest.fixture(scope="session")
def done(simulated: Path, settings, drawn) -> Path:
    """The folder of a run with the suggested classes selected, in both formats."""
    out = simulated.parent / "classes"
    with drawn():
        return class2d.run(settings(out=str(out), select=[1, 3], write=["star", "cs"]))
