"""Small particle sets on disk: a stack with known pixels and STAR files in RELION's layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryotorch.data.mrc import write_stack
from cryotorch.data.star import Table, write_star

N, BOX, PIXEL = 12, 16, 2.5


class ParticleSet:
    """A stack and its STAR tables; change ``optics`` or ``particles``, then ``write``."""

    def __init__(self, folder: Path):
        rng = np.random.default_rng(1)
        self.folder, self.stack, self.star = (
            folder,
            folder / "stack.mrcs",
            folder / "particles.star",
        )
        self.images = rng.normal(size=(N, BOX, BOX)).astype(np.float32)
        write_stack(self.stack, [self.images], N, BOX, PIXEL)
        self.optics = Table(
            {
                "rlnOpticsGroup": [1],
                "rlnOpticsGroupName": ["opticsGroup1"],
                "rlnVoltage": ["300.000000"],
                "rlnSphericalAberration": ["2.700000"],
                "rlnAmplitudeContrast": ["0.100000"],
                "rlnImagePixelSize": ["2.500000"],
                "rlnImageSize": [BOX],
                "rlnImageDimensionality": [2],
            }
        )
        self.particles = Table(
            {
                "rlnImageName": [f"{i + 1:06d}@stack.mrcs" for i in range(N)],
                "rlnMicrographName": [f"mic{i}.mrc" for i in range(N)],
                "rlnDefocusU": np.linspace(9000, 18000, N),
                "rlnDefocusV": np.linspace(8800, 17000, N),
                "rlnDefocusAngle": np.linspace(0, 170, N),
                "rlnOpticsGroup": np.ones(N, dtype=int),
            }
        )

    def write(self) -> Path:
        write_star(self.star, {"optics": self.optics, "particles": self.particles})
        return self.star

    def add_poses(self) -> None:
        rng = np.random.default_rng(2)
        for label, top in (("Rot", 180), ("Tilt", 90), ("Psi", 180)):
            self.particles[f"rlnAngle{label}"] = rng.uniform(-top, top, N) + 90 * (label == "Tilt")
        for label in ("rlnOriginXAngst", "rlnOriginYAngst"):
            self.particles[label] = rng.normal(size=N)
        self.particles["rlnRandomSubset"] = np.arange(N) % 2 + 1


@pytest.fixture
def particle_set(tmp_path: Path) -> ParticleSet:
    return ParticleSet(tmp_path)
