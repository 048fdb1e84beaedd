"""A simulated set on disk, as the functions from Python read it."""

from __future__ import annotations

from pathlib import Path

import pytest

import cryotorch as ct

SET = dict(box_size=32, pixel_size=4.0, n_particles=120, snr=0.5, seed=2)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ct.simulate(**SET).save(tmp_path_factory.mktemp("api") / "set")


@pytest.fixture(scope="session")
def reconstruction(folder: Path) -> ct.Reconstruction:
    return ct.reconstruct(folder / "truth.star", half_sets="resplit")
