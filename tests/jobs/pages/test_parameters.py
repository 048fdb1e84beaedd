"""Parameters as the help lists them, those that were changed marked."""

from __future__ import annotations

from pathlib import Path

from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.config.catalog import parameters as listed
from cryotorch.jobs.files.resume import write_config
from cryotorch.jobs.pages.parameters import flat, parameters
from cryotorch.report.page.run_files import read_run


def test_of_a_refinement(tmp_path: Path) -> None:
    settings = make_settings("homo_refine", out=str(tmp_path), symmetry="C4", mask_far="20A", search__candidates=9)  # fmt: skip
    write_config(tmp_path, settings)
    rows = {p.name: p for p in parameters(read_run(tmp_path))}
    assert list(rows) == [p.name for p in listed("homo_refine")]
    assert {name for name, p in rows.items() if p.changed} == {"symmetry", "mask_far", "search.candidates"}  # fmt: skip
    assert rows["symmetry"][:4] == ("symmetry", "C4", "C1", True) and rows["out"].value
    assert "Point symmetry" in rows["symmetry"].meaning


def test_of_every_default_none_is_changed(tmp_path: Path) -> None:
    write_config(tmp_path, make_settings("volume_tools"))
    assert not any(p.changed for p in parameters(read_run(tmp_path)))


def test_of_a_job_of_another_version(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("job: fly\nwings: [2, 3.5]\nto: {where: moon}\n")
    rows = parameters(read_run(tmp_path))
    assert [p[:4] for p in rows] == [("wings", "[2,3.5]", "", False), ("to.where", "moon", "", False)]  # fmt: skip


def test_flat() -> None:
    assert flat({"a": {"b": {"c": 1}}, "d": [2]}) == {"a.b.c": 1, "d": [2]}
