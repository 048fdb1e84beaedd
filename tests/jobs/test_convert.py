"""job=convert on files: names, formats, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cryotorch.data.cryosparc.file import read_cs, write_cs
from cryotorch.data.particle_file import read_particles
from cryotorch.data.star import Table, read_star, write_star
from cryotorch.errors import InputError
from cryotorch.jobs import convert
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.pages.write import PAGE


def run(**changes) -> dict:
    given = {name: str(x) if isinstance(x, Path) else x for name, x in changes.items()}
    out = convert.run(make_settings("convert", **given))
    return json.loads((out / "summary.json").read_text())


@pytest.fixture
def star(tmp_path: Path) -> Path:
    """Particles of a RELION project, without images."""
    optics = {
        "rlnOpticsGroup": ["1"],
        "rlnVoltage": ["300.0"],
        "rlnSphericalAberration": ["2.7"],
        "rlnAmplitudeContrast": ["0.1"],
        "rlnImagePixelSize": ["1.5"],
        "rlnImageSize": ["64"],
        "rlnOddZernike": ["[1,0,0,0,0,0]"],
    }
    rows = {
        "rlnImageName": ["1@Extract/a.mrcs", "2@Extract/a.mrcs"],
        "rlnDefocusU": ["9000.5", "8000"],
        "rlnDefocusV": ["9000", "8000"],
        "rlnDefocusAngle": ["12", "0"],
        "rlnOpticsGroup": ["1", "1"],
        "rlnAngleRot": ["1", "2"],
        "rlnAngleTilt": ["3", "4"],
        "rlnAnglePsi": ["5", "6"],
        "rlnRandomSubset": ["1", "2"],
        "rlnNovelty": ["a b", "c"],
    }
    path = tmp_path / "project" / "Refine3D" / "job003" / "run_data.star"
    path.parent.mkdir(parents=True)
    write_star(
        path, {"optics": Table(optics), "particles": Table(rows), "extra": Table({"x": ["1"]})}
    )
    return path


def test_there_and_back(star: Path, tmp_path: Path) -> None:
    summary = run(particles=star, out=tmp_path / "cs")
    assert sorted(p.name for p in (tmp_path / "cs").iterdir()) == [
        *("config.yaml", "log.txt", "manifest.json", "particles.cs", PAGE, "summary.json"),
    ]
    assert summary["particles"] == 2 and summary["half_sets"] == [1, 1]
    assert summary["files"] == ["particles.cs"] and summary["has_pose"]
    assert any("data_extra" in text for text in summary["warnings"])
    assert any("_rlnOddZernike" in text for text in summary["warnings"])
    assert "WARNING: CryoSPARC will not see" in (tmp_path / "cs" / "log.txt").read_text()
    fields = read_cs(tmp_path / "cs" / "particles.cs")
    assert fields["blob/path"].tolist() == [b"Extract/a.mrcs"] * 2
    assert fields["alignments3D/split"].tolist() == [0, 1]
    summary = run(particles=tmp_path / "cs" / "particles.cs", out=tmp_path / "star")
    (said,) = summary["warnings"]
    assert "such as Extract/a.mrcs are not found" in said and "project=<folder>" in said
    before, after = read_star(star), read_star(tmp_path / "star" / "particles.star")
    assert after["optics"] == before["optics"] and after["particles"] == before["particles"]


def test_names_relative_to_a_project(star: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    with pytest.raises(InputError, match=r"Extract/a.mrcs .* does not exist"):
        run(particles=star, out=tmp_path / "out", project=tmp_path)
    assert not (tmp_path / "out").exists()
    (project / "Extract").mkdir()
    (project / "Extract" / "a.mrcs").write_bytes(b"not read")
    run(particles=star, out=tmp_path / "out", project=tmp_path, write=["star", "cs"])
    names = read_star(tmp_path / "out" / "particles.star")["particles"]["rlnImageName"]
    assert names.tolist() == [f"00000{i}@project/Extract/a.mrcs" for i in (1, 2)]
    fields = read_cs(tmp_path / "out" / "particles.cs")
    assert fields["blob/path"].tolist() == [b"project/Extract/a.mrcs"] * 2
    run(particles=star, out=tmp_path / "out2", project=star.parent)
    fields = read_cs(tmp_path / "out2" / "particles.cs")
    assert fields["blob/path"][0].decode() == str(project / "Extract" / "a.mrcs")


@pytest.mark.parametrize("ending", ["star", "cs"])
def test_the_new_file_leads_to_the_same_images(star: Path, ending: str) -> None:
    """Names stay where they do so already, and become absolute elsewhere, also where another file goes by the name."""
    project = star.parents[2]
    stack, other = project / "Extract" / "a.mrcs", project.parent / "Extract" / "a.mrcs"
    for path in (stack, other):
        path.parent.mkdir()
        path.write_bytes(b"not read")

    def names(out: Path) -> list[str]:
        said = run(particles=star, out=out, write=[ending])["warnings"]
        assert sum("named by their whole path" in text for text in said) == (out.parent != project)
        file = read_particles(out / f"particles.{ending}", need_images=False)
        assert [image for _, image in file.particles.address.tolist()] == [0, 1]
        return [str(path) for path in file.stacks]

    assert names(project / "new") == ["Extract/a.mrcs"]
    assert names(project.parent / "other") == [str(stack)]
    other.unlink()
    assert names(project.parent / "none") == [str(stack)]


def test_a_passthrough_file_is_joined(star: Path, tmp_path: Path) -> None:
    run(particles=star, out=tmp_path / "cs")
    fields = read_cs(tmp_path / "cs" / "particles.cs")
    rest = {name: x[::-1].copy() for name, x in fields.items() if not name.startswith("blob")}
    write_cs(tmp_path / "main.cs", {x: fields[x] for x in fields if x == "uid" or "blob" in x})
    write_cs(tmp_path / "rest.cs", rest)
    settings = dict(particles=tmp_path / "main.cs", passthrough=tmp_path / "rest.cs")
    run(**settings, out=tmp_path / "star")
    after = read_star(tmp_path / "star" / "particles.star")
    before = read_star(star)
    assert after["particles"] == before["particles"]
    assert after["optics"] == before["optics"]


def test_the_turn_of_y_and_a_missing_box_are_told_once(star: Path, tmp_path: Path) -> None:
    blocks = read_star(star)
    del blocks["optics"]["rlnImageSize"]
    write_star(star, blocks)
    said = run(particles=star, out=tmp_path / "cs")["warnings"]
    assert sum("has no blob/shape" in text for text in said) == 1
    fields = read_cs(tmp_path / "cs" / "particles.cs")
    fields["location/micrograph_shape"] = np.full((2, 2), 1000, np.uint32)
    for x in "xy":
        fields[f"location/center_{x}_frac"] = np.full(2, 0.2, np.float32)
    write_cs(tmp_path / "a.cs", fields)
    said = run(particles=tmp_path / "a.cs", out=tmp_path / "star")["warnings"]
    assert sum("location/center_y_frac" in text for text in said) == 1
    table = read_star(tmp_path / "star" / "particles.star")["particles"]
    assert table.floats("rlnCoordinateY").tolist() == [800, 800]
    said = run(particles=tmp_path / "star" / "particles.star", out=tmp_path / "again")["warnings"]
    assert not any("from below" in text for text in said)


def test_dark_images_are_told(star: Path, tmp_path: Path) -> None:
    run(particles=star, out=tmp_path / "cs")
    fields = read_cs(tmp_path / "cs" / "particles.cs")
    fields["blob/sign"] = -fields["blob/sign"]
    write_cs(tmp_path / "dark.cs", fields)
    summary = run(particles=tmp_path / "dark.cs", out=tmp_path / "star")
    assert any("dark on bright" in text and "_cs/blob/sign" in text for text in summary["warnings"])
    table = read_star(tmp_path / "star" / "particles.star")["particles"]
    assert np.allclose(table.floats("cs/blob/sign"), -1)


def test_nothing_is_overwritten_and_mistakes_leave_nothing(star: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(particles=star, out=out)
    before = (out / "particles.cs").read_bytes()
    with pytest.raises(InputError, match="already holds"):
        run(particles=star, out=out)
    with pytest.raises(InputError, match="is an input of this job"):
        run(particles=out / "particles.cs", out=out, overwrite=True)
    assert (out / "particles.cs").read_bytes() == before
    (tmp_path / "bad.cs").write_bytes(before[:-1])
    for changes, says in (
        (dict(particles=None), "particles=null"),
        (dict(particles=star, write=[]), r"write=\[\]"),
        (dict(particles=star, write=["mrc"]), "write"),
        (dict(particles=tmp_path / "bad.cs"), "is truncated"),
        (dict(particles=tmp_path / "no.star"), "does not exist"),
    ):
        with pytest.raises(InputError, match=says):
            run(**changes, out=tmp_path / "bad")
        assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize("lens", [True, False])
@pytest.mark.parametrize("old", [True, False])
def test_particles_without_a_ctf_are_converted_and_come_back(
    star: Path, tmp_path: Path, lens: bool, old: bool
) -> None:
    """What refinements refuse."""
    blocks = read_star(star)
    optics, table = blocks["optics"], blocks["particles"]
    del blocks["extra"], optics["rlnOddZernike"]
    for label in ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"):
        del table[label]
    if not lens:
        for label in ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast"):
            del optics[label]
    if old:  # RELION 3.0: optics in the columns of the particles
        del table["rlnOpticsGroup"]
        table.update({x: [optics[x][0]] * 2 for x in optics if x != "rlnOpticsGroup"})
        del blocks["optics"]
    write_star(star, blocks)
    summary = run(particles=star, out=tmp_path / "cs")
    assert any("has no CTF: column _rlnDefocusU" in text for text in summary["warnings"])
    fields = read_cs(tmp_path / "cs" / "particles.cs")
    assert fields["alignments3D/split"].tolist() == [0, 1]
    assert ("ctf/accel_kv" in fields) == lens and "ctf/df1_A" not in fields
    with pytest.raises(InputError, match=r"has no .*ctf/df1_A"):
        read_particles(tmp_path / "cs" / "particles.cs")
    run(particles=tmp_path / "cs" / "particles.cs", out=tmp_path / "star")
    after = read_star(tmp_path / "star" / "particles.star")
    assert all(after["particles"][x].tolist() == table[x].tolist() for x in table)
    assert "rlnDefocusU" not in after["particles"]
    assert old or after["optics"] == optics
