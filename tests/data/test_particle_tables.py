"""Which table holds the particles, and which files hold none that can be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryotorch.data.optics import GROUP, read_optics
from cryotorch.data.particle_tables import (
    ANGLES,
    NAME,
    ORIGINS,
    ORIGINS_PX,
    particle_block,
    refuse_partial_poses,
    upgraded,
)
from cryotorch.data.table import Table
from cryotorch.errors import InputError

PATH = Path("p.star")


def table(**columns: object) -> Table:
    return Table({name: np.asarray(values) for name, values in columns.items()})


HERE = {NAME: ["1@a.mrcs", "2@a.mrcs"]}


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["images", "particles", "other"], "particles"),
        (["other", "images", ""], "images"),
        (["other", ""], ""),
        (["other"], "other"),
    ],
)
def test_the_table_of_particles_by_its_name_then_by_its_column(
    names: list[str], chosen: str
) -> None:
    blocks = {name: table(**HERE) for name in names} | {"optics": table(a=[1])}
    assert particle_block(blocks, PATH) == chosen


def test_files_without_particles_are_refused() -> None:
    with pytest.raises(InputError, match=r"none of its tables \(data_a, data_b\) has the column"):
        particle_block({"a": table(x=[1]), "b": table(y=[1])}, PATH)
    with pytest.raises(InputError, match=r"data_particles of p\.star has no column _rlnImageName"):
        particle_block({"particles": table(x=[1]), "images": table(**HERE)}, PATH)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (HERE | {"rlnTomoName": ["t", "t"]}, r"holds subtomograms .*it has _rlnTomoName"),
        ({"rlnTomoName": ["t"]}, "describes tomograms or their tilt series"),
        (HERE | {"rlnImageDimensionality": ["3", "3"]}, "_rlnImageDimensionality is 3"),
    ],
)
def test_files_of_tomograms_are_refused(columns: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        particle_block({"particles": table(**columns)}, PATH)


def test_images_in_two_dimensions_are_no_tomograms() -> None:
    flat = table(**HERE, rlnImageDimensionality=["2", "2"])
    assert particle_block({"particles": flat}, PATH) == "particles"


@pytest.mark.parametrize(
    ("labels", "missing"),
    [
        (ANGLES, None),
        (ANGLES[2:], None),  # psi alone, of 2D classification
        ((*ANGLES, *ORIGINS), None),
        ((*ORIGINS, ORIGINS_PX[0]), None),  # Å overrule pixels
        (ANGLES[:2], ANGLES[2]),
        (ANGLES[1:], ANGLES[0]),
        (ORIGINS[:1], ORIGINS[1]),
        (ORIGINS_PX[1:], ORIGINS_PX[0]),
    ],
)
def test_poses_in_part_are_refused(labels: tuple[str, ...], missing: str | None) -> None:
    given = table(**{label: ["1.0"] for label in labels})
    if missing is None:
        refuse_partial_poses(given, PATH)
    else:
        with pytest.raises(InputError, match=f"but no _{missing}: add what is missing"):
            refuse_partial_poses(given, PATH)


def test_old_files_come_to_have_a_table_of_optics_and_origins_in_angstrom() -> None:
    lens = dict(rlnVoltage=["300"] * 2, rlnSphericalAberration=["2.7"] * 2)
    old = table(**HERE, **lens, rlnAmplitudeContrast=["0.1"] * 2, rlnOriginX=["2", "-1"], rlnOriginY=["0", "4"], rlnDetectorPixelSize=["5"] * 2, rlnMagnification=["20000"] * 2)  # fmt: skip
    optics = read_optics(None, old, PATH)
    new = upgraded({"": old, "notes": table(a=[1])}, "", optics)
    assert list(new) == ["optics", "particles", "notes"]
    particles = new["particles"]
    assert "rlnOriginX" not in particles and particles.floats(ORIGINS[0]).tolist() == [5.0, -2.5]
    assert particles.floats(ORIGINS[1]).tolist() == [0.0, 10.0]
    assert particles.integers(GROUP).tolist() == [1, 1]
    assert new["optics"].floats("rlnImagePixelSize").tolist() == [2.5]
    assert "rlnOriginX" in old  # the table that was read stays
