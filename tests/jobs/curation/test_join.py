"""Joined lists: every row, every column, the right optics."""

from __future__ import annotations

import numpy as np
import pytest

from cryotorch.data.cryosparc.file import read_cs, write_cs
from cryotorch.data.particle_file import read_particles, write_tables
from cryotorch.errors import InputError
from cryotorch.findings import codes
from cryotorch.jobs.curation.join import join, unique_names
from cryotorch.jobs.curation.particle_list import read_list


def test_groups_stay_apart_with_their_pixel_sizes(make_list, tmp_path) -> None:
    """Under other numbers and names, as RELION takes groups of one name for the same."""
    other = {"rlnImagePixelSize": ["2.0"], "rlnImageSize": ["48"]}
    first = make_list(10)
    names = [f"{i + 1:06d}@other.mrcs" for i in range(20)]
    second = make_list(20, "b.star", other, rlnImageName=names, rlnScore=np.arange(20))
    both, told = join([first, second], match=False)
    assert len(both) == 30 and both.optics["rlnOpticsGroup"].tolist() == ["1", "2"]
    assert both.optics["rlnOpticsGroupName"].tolist() == ["opticsGroup1", "opticsGroup1_2"]
    assert np.allclose(both.pixel_size(), [1.5] * 10 + [2.0] * 20)
    assert both.table["someoneElsesColumn"].tolist()[10:12] == ["word0", "word1"]
    assert np.array_equal(both.numbers("rlnScore"), [0] * 10 + list(range(20)))
    assert codes(told) == ["columns_filled", "grids_joined"]
    assert len(np.unique(both.image_code())) == 30
    write_tables(tmp_path / "both.star", both.tables)
    again = read_particles(tmp_path / "both.star", need_images=False)
    assert again.particles.optics_group.tolist() == [0] * 10 + [1] * 20
    assert np.allclose(again.particles.shift[10:], second.shift(), atol=1e-5)


def test_groups_of_the_same_values_become_one(make_list) -> None:
    first = make_list(10, optics={"rlnOpticsGroup": ["1", "7"], "rlnVoltage": ["300", "200"]})
    second = make_list(10, "b.star", {"rlnVoltage": ["200.000"], "rlnOpticsGroupName": ["x"]})
    both, _ = join([first, second], match=True)
    assert both.optics.rows == 2
    assert np.array_equal(both.numbers("rlnVoltage"), [300, 200] * 5 + [200] * 10)
    assert both.table["rlnOpticsGroup"].tolist() == ["1", "7"] * 5 + ["7"] * 10
    apart, _ = join([first, second], match=False)
    assert apart.optics.rows == 3
    assert np.array_equal(apart.numbers("rlnVoltage"), both.numbers("rlnVoltage"))


def test_missing_optics_are_filled_with_what_changes_nothing(make_list) -> None:
    magnified = {f"rlnMagMat{i}{j}": ["1.02" if i == j else "0.01"] for i in "01" for j in "01"}
    first = make_list(3, optics={"rlnOddZernike": ["[1,0,0,2,0,0]"], **magnified})
    second = make_list(3, "b.star", {"rlnVoltage": ["200"]})
    third = make_list(3, "c.star", {"rlnOddZernike": ["[1,0,0,2,0,0,5,6,7,8]"]})
    optics = join([first, second, third], match=False)[0].optics
    assert np.array_equal(optics.vectors("rlnOddZernike")[1], np.zeros(10))
    assert np.array_equal(optics.vectors("rlnOddZernike")[0], [1, 0, 0, 2, 0, 0, 0, 0, 0, 0])
    found = [optics.floats(f"rlnMagMat{i}{j}")[1] for i in "01" for j in "01"]
    assert found == [1, 0, 0, 1]


@pytest.mark.parametrize(
    ("label", "remedy"),
    [("rlnRandomSubset", r"reset=\[half_sets\]"), ("rlnAngleRot", r"reset=\[angles\]")],
)
def test_what_only_some_know_is_refused(make_list, label: str, remedy: str) -> None:
    gone = [x for x in ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi") if label in x[:8] + label]
    first = make_list(5)
    second = make_list(
        5, "b.star", **dict.fromkeys([label, *gone] if "Angle" in label else [label])
    )
    with pytest.raises(InputError, match=rf"a.star has _{label} and .*b.star has not.*{remedy}"):
        join([first, second], match=False)
    dropped = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", label)
    assert len(join([first, second], False, dropped)[0]) == 10


def test_no_digit_is_lost(make_list) -> None:
    """Of text, of float32 in its shortest form, and of vectors, beside columns of another type."""
    values = np.array([[1.2345679e-7, 2], [3e-9, 0.1]], np.float32)
    first = make_list(2, **{"cs/tiny": ["1.23456789012e-11", "7"], "cs/other": values[:, 0]})
    second = make_list(2, "b.star").with_columns({"cs/tiny": values[:, 0], "cs/pair": values})
    table = join([first, second], match=True)[0].table
    assert table["cs/tiny"].tolist() == ["1.23456789012e-11", "7", "1.2345679e-07", "3e-09"]
    assert table["cs/pair"].tolist() == ["[0,0]"] * 2 + ["[1.2345679e-07,2.0]", "[3e-09,0.1]"]
    assert np.array_equal(table.floats("cs/other")[2:], [0, 0])


def test_files_of_both_programs_make_a_cs_file(make_list, tmp_path) -> None:
    """Every particle has a number of its own, and fields that are bytes of a row have as many bytes everywhere."""
    write_tables(tmp_path / "a.cs", make_list(4).tables)
    fields = read_cs(tmp_path / "a.cs")
    fields["uid"] = np.arange(7, 11, dtype=np.uint64)
    fields["other/poses"] = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    write_cs(tmp_path / "b.cs", fields)
    names = [f"{i + 1}@other.mrcs" for i in range(3)]
    first = read_list(str(tmp_path / "b.cs"))[0]
    both, _ = join([first, make_list(3, "c.star", rlnImageName=names)], match=True)
    write_tables(tmp_path / "both.cs", both.tables)
    found = read_cs(tmp_path / "both.cs")
    assert np.array_equal(found["uid"][:4], fields["uid"]) and len(np.unique(found["uid"])) == 7
    assert np.array_equal(found["other/poses"][:4], fields["other/poses"])
    assert not found["other/poses"][4:].any()


def test_an_image_in_two_files_is_told(make_list) -> None:
    both, told = join([make_list(10), make_list(7, "b.star")], match=True)
    assert codes(told) == ["images_joined_twice"] and told[0]["images"] == 7
    assert len(both) == 17


def test_names_are_told_apart() -> None:
    assert unique_names(["a", "b", "a", "a_2", "a"]) == ["a", "b", "a_3", "a_2", "a_4"]
