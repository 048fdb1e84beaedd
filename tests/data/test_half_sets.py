"""Half sets by whatever two numbers; everything else refused, or told where they are not needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryotorch.data.cryosparc.file import read_cs, write_cs
from cryotorch.data.half_sets import (
    SHARED_RESOLUTION,
    read_half_sets,
    shared_resolution,
    told_copies,
)
from cryotorch.data.particle_file import read_particles, write_particles, write_tables
from cryotorch.data.table import Table
from cryotorch.errors import InputError
from cryotorch.findings import Finding, codes, remark
from cryotorch.report.sentences import say

PATH = Path("p.star")


def read(values, needed: bool = True, first: int = 1):
    half, messages = read_half_sets(Table({"rlnRandomSubset": values}), PATH, needed, first)
    return half.tolist(), messages


def named(message: Finding) -> tuple[int, ...]:
    """What the half sets are called, and what they are as a rule."""
    return tuple(message[name] for name in ("first", "second", "usual_first", "usual_second"))


@pytest.mark.parametrize(
    ("values", "names"),
    [(["0", "1", "1"], (0, 1)), (["-1", "1", "1"], (-1, 1)), (["2.0", "7.0", "7.0"], (2, 7))],
)
def test_two_numbers_are_two_half_sets(values, names):
    half, messages = read(values)
    assert half == [0, 1, 1]
    assert codes(messages) == ["half_sets_named"]
    assert named(messages[0]) == (*names, 1, 2)


@pytest.mark.parametrize("values", [[1, 2, 2], ["1.0", "2.0", "2.0"]])
def test_one_and_two_are_as_usual(values):
    assert read(values) == ([0, 1, 1], [])


def test_cryosparc_counts_from_zero():
    assert read([1, 2, 2], first=0) == ([0, 1, 1], [])
    half, messages = read([2, 3, 3], first=0)
    assert half == [0, 1, 1] and named(messages[0]) == (1, 2, 0, 1)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([1, 1, 1], "is 1 for all 3 particles of p.star, so that one half set is empty"),
        ([0, 1, 2], "has 3 values, 0, 1, 2, which are not two half sets"),
        (list(range(9)), "has 9 values, 0, 1, 2, 3, 4, ..., which"),
        (["1", "1.5", "2"], "is '1.5' in row 2 of p.star"),
        (["1", "nan", "2"], "is 'nan' in row 2 of p.star"),
    ],
)
def test_all_else_is_refused_with_the_remedy_or_told(values, says):
    with pytest.raises(InputError) as caught:
        read(values)
    assert says in str(caught.value) and "add half_sets=resplit" in str(caught.value)
    half, messages = read(values, needed=False)
    assert set(half) == {-1} and len(half) == len(values)
    assert codes(messages) == ["half_sets_unknown"]
    assert says in messages[0]["reason"] and "resplit" not in messages[0]["reason"]


def test_no_column_is_no_half_sets():
    assert read_half_sets(Table({"rlnX": [1, 2]}), PATH, True)[0].tolist() == [-1, -1]


@pytest.mark.parametrize("ending", ["star", "cs"])
def test_other_names_become_the_usual_ones(particle_set, ending):
    """So that RELION and CryoSPARC see the same half sets in what is written."""
    particle_set.add_poses()
    usual = read_particles(particle_set.write()).particles.half
    particle_set.particles["rlnRandomSubset"] = usual.numpy() * 2 - 1
    file = read_particles(particle_set.write())
    assert file.particles.half.equal(usual) and named(file.messages[0])[:2] == (-1, 1)
    for number, write in enumerate((write_particles, write_tables)):
        path = particle_set.folder / f"{number}.{ending}"
        write(path, *((file, file.particles) if write is write_particles else (file.tables,)))
        again = read_particles(path)
        assert again.particles.half.equal(usual) and again.messages == []


def test_splits_of_a_cs_file_are_named_as_it_names_them(particle_set):
    particle_set.add_poses()
    file = read_particles(particle_set.write())
    path = particle_set.folder / "a.cs"
    write_particles(path, file, file.particles)
    fields = read_cs(path)
    write_cs(path, {**fields, "alignments3D/split": fields["alignments3D/split"] + np.uint32(4)})
    shifted = read_particles(path)
    assert shifted.particles.half.equal(file.particles.half)
    assert shifted.messages[0]["column"] == "alignments3D/split"
    assert named(shifted.messages[0])[:2] == (4, 5)
    split = fields["alignments3D/split"].copy()
    split[0] = 5
    write_cs(path, {**fields, "alignments3D/split": split})
    with pytest.raises(
        InputError, match=r"alignments3D/split of .* has 3 values, 0, 1, 5, .*resplit"
    ):
        read_particles(path)
    assert read_particles(path, need_half_sets=False).particles.half.max() == -1
    write_cs(path, {**fields, "alignments3D/split": split * 0})  # as where there are none
    unknown = read_particles(path)
    assert unknown.particles.half.max() == -1
    assert "alignments3D/split is 0 for all 12 particles" in unknown.messages[0]["reason"]


@pytest.mark.parametrize("label", ["rlnImageOriginalName", "cs/sym_expand/src_uid"])
def test_images_made_of_one_are_known(particle_set, label):
    """Signal subtraction after symmetry expansion: other images, the same noise."""
    names = [f"{i // 3 + 1}@x.mrcs" if "rln" in label else str(2**63 + i // 3) for i in range(12)]
    particle_set.particles[label] = names
    file = read_particles(particle_set.write())
    assert file.particles.origin.tolist() == [i // 3 for i in range(12)]
    assert codes(file.messages) == ["images_of_few"]
    values = dict(images=12, originals=4, column=label.removeprefix("cs/"))
    assert values.items() <= file.messages[0].values.items()


@pytest.mark.parametrize(
    "names",
    [
        [f"{i}@x.mrcs" for i in range(12)],  # one each
        ["x.mrcs"] * 12,  # a stack
    ],
)
def test_names_that_tell_no_shared_origin(particle_set, names):
    particle_set.particles["rlnImageOriginalName"] = names
    file = read_particles(particle_set.write())
    assert file.particles.origin is None and file.messages == []


def test_two_origins_of_one_image_are_none(particle_set):
    particle_set.particles["rlnImageName"] = [f"{i % 6 + 1}@stack.mrcs" for i in range(12)]
    particle_set.particles["rlnImageOriginalName"] = [f"{i // 3}@x.mrcs" for i in range(12)]
    assert read_particles(particle_set.write()).particles.origin is None


def test_copies_are_counted():
    once = np.array([[0, 1], [1, 1], [0, 2]])
    assert told_copies(once, PATH) == []
    (whole,) = told_copies(np.stack([np.zeros(1200, int), np.arange(1200) // 4], 1), PATH)
    words = (
        "1,200 rows of p.star show 300 images, each 4 times: they are taken as symmetry-expanded"
    )
    assert words in say(whole)
    (partly,) = told_copies(once[[0, 0, 1]], PATH)
    values = dict(rows=3, file="p.star", images=2, times=2)
    assert partly == remark("rows_partly_expanded", **values)


def test_the_finest_resolution_in_common_counts_and_gaps_say_nothing():
    assert shared_resolution(Table({SHARED_RESOLUTION: ["20.0", "15.0", "0"]}), PATH) == 15
    assert shared_resolution(Table({SHARED_RESOLUTION: ["0", "0"]}), PATH) is None
    assert shared_resolution(Table({"rlnRandomSubset": [1, 2]}), PATH) is None
    with pytest.raises(InputError, match=SHARED_RESOLUTION):
        shared_resolution(Table({SHARED_RESOLUTION: ["20.0", "coarse"]}), PATH)
