"""Names that lead to the same images from elsewhere; ``tests/jobs/test_convert.py`` has what users see of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryotorch.data.particle_file import ParticleFile, read_particles
from cryotorch.data.star import Table, write_star
from cryotorch.errors import InputError
from cryotorch.findings import codes
from cryotorch.jobs.inputs.image_names import lead_from, moved_to, named_as_originals


@pytest.fixture
def file(tmp_path: Path) -> ParticleFile:
    """One particle of a stack that is there, two of one that is not."""
    project = tmp_path / "project"
    (project / "Extract").mkdir(parents=True)
    (project / "Extract" / "a.mrcs").write_bytes(b"not read")
    names = ["1@Extract/a.mrcs", "2@Lost/b.mrcs", "3@Lost/b.mrcs"]
    optics = {"rlnOpticsGroup": ["1"], "rlnImagePixelSize": ["1.5"], "rlnImageSize": ["64"]}
    rows = {"rlnImageName": names, "rlnOpticsGroup": ["1"] * 3}
    write_star(project / "a.star", {"optics": Table(optics), "particles": Table(rows)})
    return read_particles(project / "a.star", need_images=False)


def names(file: ParticleFile) -> list[str]:
    return file.tables["particles"]["rlnImageName"].tolist()


def test_names_stay_inside_of_the_project(file: ParticleFile, tmp_path: Path) -> None:
    named = lead_from(file, None, tmp_path / "project" / "job" / "out")
    assert named.file is file and codes(named.told) == ["names_lost"]
    assert named.found == [tmp_path / "project" / "Extract" / "a.mrcs", None]


def test_names_become_absolute_outside(file: ParticleFile, tmp_path: Path) -> None:
    named = lead_from(file, None, tmp_path / "out")
    assert codes(named.told) == ["names_absolute", "names_lost"]
    assert names(named.file) == [
        f"000001@{tmp_path}/project/Extract/a.mrcs",
        *("2@Lost/b.mrcs", "3@Lost/b.mrcs"),
    ]
    with pytest.raises(InputError, match=r"Lost/b\.mrcs"):
        lead_from(file, str(tmp_path / "project"), tmp_path / "out")


def test_another_beginning(file: ParticleFile) -> None:
    moved, count = moved_to(file, "Lost/", "/disk/Found/")
    assert count == 2 and [str(stack) for stack in moved.stacks][1] == "/disk/Found/b.mrcs"
    assert names(moved)[1:] == ["000002@/disk/Found/b.mrcs", "000003@/disk/Found/b.mrcs"]
    assert moved_to(file, "Nowhere", "x") == (file, 0)


def test_the_images_that_others_were_made_of(file: ParticleFile) -> None:
    table = file.tables["particles"]
    with pytest.raises(InputError, match="does not name the images that its own were made of"):
        named_as_originals(file)
    table["rlnImageOriginalName"] = ["7@old/x.mrcs", "9@old/y.mrcs", "7@old/x.mrcs"]
    first = named_as_originals(file)
    assert names(first) == ["7@old/x.mrcs", "9@old/y.mrcs", "7@old/x.mrcs"]
    assert [str(stack) for stack in first.stacks] == ["old/x.mrcs", "old/y.mrcs"]
    assert first.particles.address.tolist() == [[0, 6], [1, 8], [0, 6]]
    assert "rlnImageOriginalName" not in first.tables["particles"]
    assert names(file)[0] == "1@Extract/a.mrcs"
