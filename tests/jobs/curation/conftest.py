"""Small lists of particles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cryotorch.data.star import Table, write_star
from cryotorch.jobs.curation.particle_list import ParticleList, read_list

Maker = Callable[..., ParticleList]


@pytest.fixture
def make_list(tmp_path: Path) -> Maker:
    """A list of n particles, 10 in a micrograph, as it is read from a file, with further columns; ``optics`` are columns of the groups."""

    def make(n: int = 30, name: str = "a.star", optics: dict | None = None, **columns):
        draw = np.random.default_rng(3)
        place = np.arange(n)
        lens = {"rlnVoltage": "300", "rlnSphericalAberration": "2.7", "rlnAmplitudeContrast": "0.1"}
        group = {"rlnOpticsGroup": ["1"], "rlnOpticsGroupName": ["opticsGroup1"]}
        group |= {label: [value] for label, value in lens.items()}
        group |= {"rlnImagePixelSize": ["1.500000"], "rlnImageSize": ["64"]}
        group |= optics or {}
        groups = len(group["rlnOpticsGroup"])
        group = {label: x * groups if len(x) < groups else x for label, x in group.items()}
        rows = {
            "rlnImageName": [f"{i % 10 + 1:06d}@Extract/m{i // 10}.mrcs" for i in place],
            "rlnMicrographName": [f"Micrographs/m{i // 10}.mrc" for i in place],
            "rlnCoordinateX": draw.uniform(0, 1000, n).round(2),
            "rlnCoordinateY": draw.uniform(0, 1000, n).round(2),
            "rlnDefocusU": draw.uniform(8000, 30000, n),
            "rlnDefocusV": draw.uniform(8000, 30000, n),
            "rlnDefocusAngle": draw.uniform(0, 180, n),
            "rlnAngleRot": draw.uniform(-180, 180, n),
            "rlnAngleTilt": draw.uniform(0, 180, n),
            "rlnAnglePsi": draw.uniform(-180, 180, n),
            "rlnOriginXAngst": draw.normal(0, 3, n),
            "rlnOriginYAngst": draw.normal(0, 3, n),
            "rlnRandomSubset": place % 2 + 1,
            "rlnOpticsGroup": np.array(group["rlnOpticsGroup"], dtype=int)[place % groups],
            "someoneElsesColumn": [f"word{i}" for i in place],
        } | columns
        rows = {label: values for label, values in rows.items() if values is not None}
        write_star(tmp_path / name, {"optics": Table(group), "particles": Table(rows)})
        return read_list(str(tmp_path / name), out=tmp_path)[0]

    return make
