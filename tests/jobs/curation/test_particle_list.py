"""A list as it is read: columns of particles and groups, images that are known again, names that lead to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cryotorch.data.cryosparc.carried_columns import FIELD, LIST
from cryotorch.data.cryosparc.file import read_cs, write_cs
from cryotorch.data.particle_file import write_tables
from cryotorch.errors import InputError
from cryotorch.jobs.curation.particle_list import UID, read_list
from cryotorch.ops.geometry.rotations import euler_to_matrix


def test_columns_of_groups_are_columns_of_particles(make_list) -> None:
    two = {"rlnOpticsGroup": ["7", "2"], "rlnVoltage": ["300", "200"], "rlnNote": ["a", "b"]}
    some = make_list(6, optics=two)
    assert some.numbers("rlnVoltage").tolist() == [300, 200] * 3
    assert some.texts("rlnNote").tolist() == [b"a", b"b"] * 3
    assert some.taken(np.array([1, 3])).pruned().optics["rlnOpticsGroup"].tolist() == ["2"]
    with pytest.raises(InputError, match=r"has no column rlnVoltag.*did you mean rlnVoltage"):
        some.numbers("rlnVoltag")


def test_rows_carry_their_images(make_list) -> None:
    some = make_list()
    assert some.image[:3].tolist() == [[0, 0], [0, 1], [0, 2]] and len(some.stacks) == 3
    part = some.taken(np.arange(30) % 7 == 0)
    assert np.array_equal(part.image_code(), some.image_code()[::7])
    assert part.table["rlnImageName"].tolist() == some.table["rlnImageName"][::7].tolist()


def test_only_changed_angles_are_written_anew(make_list) -> None:
    some = make_list(4)
    turned = euler_to_matrix(*torch.rand(3, 4, dtype=torch.float64))
    changed = np.array([False, True, False, True])
    new = some.with_rotation(turned, changed)
    assert torch.allclose(new.rotation()[1::2], turned[1::2], atol=1e-7)
    for label in ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"):
        assert new.table[label][::2].tolist() == some.table[label][::2].tolist()


def test_one_image_under_two_names_is_one(make_list, tmp_path: Path) -> None:
    (tmp_path / "Extract").mkdir()
    (tmp_path / "Extract" / "m0.mrcs").write_bytes(b"not read")
    names = ["1@Extract/m0.mrcs", f"1@{tmp_path}/Extract/m0.mrcs", "2@Extract/m0.mrcs"]
    some = make_list(3, rlnImageName=names)
    assert some.image.tolist() == [[0, 0], [0, 0], [0, 1]]
    assert some.stacks == [str((tmp_path / "Extract" / "m0.mrcs").resolve())]


def test_images_that_have_moved(make_list, tmp_path: Path) -> None:
    make_list(3)
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "m0.mrcs").write_bytes(b"not read")
    moved, told, count = read_list(
        str(tmp_path / "a.star"), moved=["Extract", "disk"], out=tmp_path / "out"
    )
    assert count == 3 and told == []
    assert moved.table["rlnImageName"].tolist() == [f"00000{i}@disk/m0.mrcs" for i in (1, 2, 3)]
    assert moved.stacks == [str((tmp_path / "disk" / "m0.mrcs").resolve())]


def test_the_uid_of_a_cs_file_outlives_other_names(make_list, tmp_path: Path) -> None:
    write_tables(tmp_path / "a.cs", make_list(4).tables)
    first = read_list(str(tmp_path / "a.cs"))[0]
    second = read_list(str(tmp_path / "a.cs"), moved=["Extract", "other"])[0]
    uid = first.table.column(UID)
    assert len(np.unique(uid)) == 4 and np.array_equal(uid, second.table.column(UID))


def test_a_column_goes_from_the_list_of_fields_too(make_list, tmp_path: Path) -> None:
    write_tables(tmp_path / "a.cs", make_list(4).tables)
    fields = read_cs(tmp_path / "a.cs")
    write_cs(tmp_path / "b.cs", fields | {"uid": np.arange(4, dtype=np.uint64)})
    some = read_list(str(tmp_path / "b.cs"))[0]
    assert LIST in some.tables and "uid" in some.tables[LIST][FIELD].tolist()
    gone = some.without([UID, "rlnNotThere"])
    assert UID not in gone.table and "uid" not in gone.tables[LIST][FIELD].tolist()
    assert UID in some.table
