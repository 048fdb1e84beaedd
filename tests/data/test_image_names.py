from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from cryotorch.data.image_names import find_stacks, format_names, parse_names, refuse_duplicates
from cryotorch.errors import InputError

STAR = Path("p.star")


def test_numbers_with_and_without_zeros():
    names = np.array(
        [b"000001@a/b.mrcs", b"3@c.mrcs", b"12@a/b.mrcs", b"single.mrc", b"2@odd@name.mrcs"]
    )
    stacks, address = parse_names(names, STAR)
    assert stacks == ["a/b.mrcs", "c.mrcs", "single.mrc", "odd@name.mrcs"]
    assert address.tolist() == [[0, 0], [1, 2], [0, 11], [2, 0], [3, 1]]


@pytest.mark.parametrize(
    "name",
    [b"0@a.mrcs", b"-1@a.mrcs", b"x@a.mrcs", b"@a.mrcs", b"1@", b"1.5@a", b"", b"9" * 30 + b"@a"],
)
def test_other_numbers_are_refused_with_the_row(name):
    with pytest.raises(InputError, match=r"in row 2 of p\.star: write it as 000001@stack\.mrcs"):
        parse_names(np.array([b"1@a.mrcs", name]), STAR)


def test_duplicates_name_both_rows():
    address = np.array([[0, 4], [0, 5], [1, 4], [0, 4]])
    stacks = [Path("a.mrcs"), Path("b.mrcs")]
    refuse_duplicates(address[:3], stacks, STAR)
    with pytest.raises(
        InputError, match=r"1 duplicate particles, .* image 5 of a\.mrcs in rows 1 and 4"
    ):
        refuse_duplicates(address, stacks, STAR)


def test_where_stacks_are_looked_for(tmp_path, monkeypatch):
    job = tmp_path / "project" / "Refine3D" / "job001"
    other, here = tmp_path / "other", tmp_path / "here"
    for folder in (job, other, here):
        folder.mkdir(parents=True)
    star = job / "run_data.star"

    def touch(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    def find(project=None) -> Path:
        return find_stacks(["Extract/a.mrcs"], star, project)[0]

    monkeypatch.chdir(here)
    with pytest.raises(
        InputError, match=r"Image stack Extract/a\.mrcs of .* does not exist in .*job001"
    ):
        find()
    with pytest.raises(InputError, match=rf"above it or in {here}: correct"):
        find_stacks(["Extract/a.mrcs"], Path("../project/Refine3D/job001/run_data.star"), None)
    in_working_folder = touch(here / "Extract/a.mrcs")
    assert find() == in_working_folder
    in_relion_project = touch(tmp_path / "project/Extract/a.mrcs")
    assert find() == in_relion_project
    beside_star = touch(job / "Extract/a.mrcs")
    assert find() == beside_star
    in_given_project = touch(other / "Extract/a.mrcs")
    assert find(other) == in_given_project
    assert find_stacks([str(in_relion_project)], star, None) == [in_relion_project]
    with pytest.raises(InputError, match=r"/no/such\.mrcs of .* does not exist: correct"):
        find_stacks(["/no/such.mrcs"], star, None)


@pytest.mark.parametrize("link", ["file", "folder"])
def test_stacks_are_looked_for_where_a_symbolic_link_leads_to(tmp_path, link):
    job, away = tmp_path / "project" / "Refine3D" / "job001", tmp_path / "away"
    for folder in (job, away, tmp_path / "project" / "Extract"):
        folder.mkdir(parents=True)
    (job / "run_data.star").touch()
    stack = tmp_path / "project" / "Extract" / "a.mrcs"
    if link == "file":
        star = away / "mine.star"
        star.symlink_to(job / "run_data.star")
    else:
        (away / "job").symlink_to(job)
        star = away / "job" / "run_data.star"
    with pytest.raises(InputError, match=rf"above it .*, nor where {star.name} leads to: correct"):
        find_stacks(["Extract/a.mrcs"], star, None)
    stack.touch()
    assert find_stacks(["Extract/a.mrcs"], star, None) == [stack]
    beside = star.parent / "Extract" / "a.mrcs"  # comes first
    beside.parent.mkdir()
    beside.touch()
    assert find_stacks(["Extract/a.mrcs"], star, None) == [beside]


def test_a_format_behind_the_name_is_passed_over(tmp_path):
    (tmp_path / "a.mrcs").touch()
    assert find_stacks(["a.mrcs:mrcs"], tmp_path / "p.star", None) == [tmp_path / "a.mrcs"]


def test_names_that_climb_out_lead_to_regular_files_only(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    star = folder / "p.star"
    (tmp_path / "outside.mrcs").touch()
    (folder / "link.mrcs").symlink_to("../outside.mrcs")
    os.mkfifo(folder / "pipe.mrcs")
    assert find_stacks(["../outside.mrcs", "link.mrcs"], star, None) == [
        folder / "../outside.mrcs",
        folder / "link.mrcs",
    ]
    for name, message in {
        "..": r"\.\. of .* is a folder",
        "/": "is a folder",
        "pipe.mrcs": r"pipe\.mrcs of .* is no regular file",
        "/dev/zero": "/dev/zero of .* is no regular file",
        "../../../../../../../../../../dev/zero": "zero of .* is no regular file",
        "x" * 5000: "does not exist",
        "a\0b": "does not exist",
        "~/a.mrcs": "does not exist",
    }.items():
        with pytest.raises(InputError, match=message):
            find_stacks([name], star, None)


def test_names_are_relative_below_the_folder_and_else_absolute(tmp_path):
    stacks = [tmp_path / "run/in/a.mrcs", tmp_path / "b.mrcs"]
    names = format_names(np.array([[0, 0], [1, 41]]), stacks, tmp_path / "run")
    assert names == ["000001@in/a.mrcs", f"000042@{tmp_path}/b.mrcs"]
