"""Particles of chosen classes, of the run itself and of an earlier one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cryotorch.data.particle_file import read_particles
from cryotorch.data.star import read_star, write_star
from cryotorch.errors import InputError
from cryotorch.jobs import class2d


def labels(path: Path) -> np.ndarray:
    return read_star(path)["particles"].integers("rlnClassNumber")


def test_classes_by_number(done: Path) -> None:
    every, chosen = (labels(done / f"{name}.star") for name in ("particles", "selected"))
    assert np.array_equal(chosen, every[np.isin(every, (1, 3))])
    file = read_particles(done / "selected.star")
    names = read_star(done / "particles.star")["particles"]["rlnImageName"][np.isin(every, (1, 3))]
    assert file.tables["particles"]["rlnImageName"].tolist() == names.tolist()
    assert len(read_particles(done / "selected.cs").particles) == len(chosen)


def test_of_an_earlier_run(done: Path, settings, tmp_path: Path) -> None:
    out = class2d.run(settings(particles=str(done), select=[2], out=str(tmp_path / "two")))
    every = labels(done / "particles.star")
    assert len(labels(out / "selected.star")) == (every == 2).sum() > 0
    assert not (out / "particles.star").exists()
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["particles"], summary["of"]) == ((every == 2).sum(), 240)
    assert read_particles(out / "selected.star").stacks[0].exists()


def test_suggested(done: Path, settings, tmp_path: Path) -> None:
    folder = tmp_path / "classes"
    folder.mkdir()
    tables = read_star(done / "classes.star")
    tables["model_classes"]["cryotorchSuggested"] = [0, 1, 0]
    write_star(folder / "classes.star", tables)
    (folder / "particles.star").write_bytes((done / "particles.star").read_bytes())
    given = dict(particles=str(folder), select="suggested")
    text = (folder / "particles.star").read_text().replace("@../", f"@{done.parent}/")
    (folder / "particles.star").write_text(text)
    out = class2d.run(settings(**given, out=str(tmp_path / "out")))
    assert set(labels(out / "selected.star")) == {2}
    tables["model_classes"]["cryotorchSuggested"] = [0, 0, 0]
    write_star(folder / "classes.star", tables)
    with pytest.raises(InputError, match="no class looks like particles"):
        class2d.run(settings(**given, out=str(tmp_path / "none")))


@pytest.mark.parametrize(
    ("select", "said"),
    [
        ([4], "the classes have the numbers 1 to 3"),
        (None, r"it is a folder: add select=\[1,4,7\]"),
    ],
)
def test_refused(done: Path, settings, tmp_path: Path, select, said) -> None:
    with pytest.raises(InputError, match=said):
        class2d.run(settings(particles=str(done), select=select, out=str(tmp_path / "out")))


def test_a_folder_of_something_else(simulated: Path, settings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no classes"):
        class2d.run(settings(particles=str(simulated), select=[1], out=str(tmp_path / "out")))
