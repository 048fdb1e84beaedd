"""Optics groups by the names of micrographs."""

from __future__ import annotations

import numpy as np
import pytest

from cryotorch.data.particle_file import read_particles, write_tables
from cryotorch.errors import InputError
from cryotorch.jobs.curation.names import optics_from_names


def test_groups_by_what_the_pattern_holds(make_list, tmp_path) -> None:
    names = [f"Movies/FoilHole_{i}_Data_{100 + i % 3}_{i % 2}_2020.mrc" for i in range(30)]
    two = {"rlnOpticsGroup": ["4", "9"], "rlnImagePixelSize": ["1.5", "1.6"]}
    two["rlnOpticsGroupName"] = ["x", "y"]
    some = make_list(optics=two, rlnMicrographName=names)
    made = optics_from_names(some, r"_Data_(\d+)_")
    assert made.optics.rows == 6
    assert made.optics["rlnOpticsGroupName"].tolist() == [f"{a}_10{b}" for a in "xy" for b in "012"]
    assert np.array_equal(made.pixel_size(), some.pixel_size())
    row = made.group()
    told = [made.optics["rlnOpticsGroupName"][i] for i in row]
    assert told == [f"{'xy'[i % 2]}_{100 + i % 3}" for i in range(30)]
    write_tables(tmp_path / "out.star", made.tables)
    again = read_particles(tmp_path / "out.star", need_images=False)
    assert np.array_equal(again.particles.optics_group.numpy(), row)


def test_several_groups_in_the_pattern_and_no_micrographs(make_list) -> None:
    some = make_list(rlnMicrographName=None)
    made = optics_from_names(some, r"(E)xtract/m(\d)")
    assert made.optics["rlnOpticsGroupName"].tolist() == ["E_0", "E_1", "E_2"]
    assert made.group().tolist() == [i // 10 for i in range(30)]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("m(", "it is no regular expression"),
        ("m", r"put what tells the groups apart between"),
        ("m([02])", "it fits 1 of 3 names nowhere, Micrographs/m1.mrc for example"),
    ],
)
def test_patterns_of_no_use(make_list, pattern: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        optics_from_names(make_list(), pattern)
