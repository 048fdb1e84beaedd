"""What jobs make of a particle file before they look at an image: a class alone, and what half sets had in common."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from cryotorch.data.half_sets import SHARED_RESOLUTION
from cryotorch.data.mrc import write_stack
from cryotorch.data.particle_file import ParticleFile, read_particles
from cryotorch.errors import InputError
from cryotorch.findings import Finding
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.inputs.particles import load_particles, shared_before


def particles(folder: Path, column: str, values: list[str]) -> Path:
    write_stack(folder / "p.mrcs", [torch.zeros(4, 8, 8)], 4, 8, 2.5)
    rows = "\n".join(f"{i + 1}@p.mrcs 1 10000 10000 0 {value}" for i, value in enumerate(values))
    (folder / "in.star").write_text(
        "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnVoltage\n_rlnSphericalAberration\n"
        "_rlnAmplitudeContrast\n_rlnImagePixelSize\n_rlnImageSize\n1 300 2.7 0.1 2.5 8\n\n"
        "data_particles\n\nloop_\n_rlnImageName\n_rlnOpticsGroup\n_rlnDefocusU\n_rlnDefocusV\n"
        f"_rlnDefocusAngle\n_{column}\n{rows}\n"
    )
    return folder / "in.star"


def test_a_class_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = particles(tmp_path, "rlnClassNumber", ["1", "2", "2", "1"])
    with caplog.at_level(logging.INFO, "cryotorch"):
        file = load_particles(path, 2)
    assert file.particles.address[:, 1].tolist() == [1, 2]
    assert "only the 2 of class 2 are taken" in caplog.text
    assert len(load_particles(path, None).particles) == 4
    with pytest.raises(InputError, match="class=3 cannot be used"):
        load_particles(path, 3, need_half_sets=False)


@pytest.fixture
def stated(tmp_path: Path) -> ParticleFile:
    return read_particles(particles(tmp_path, SHARED_RESOLUTION, ["20", "20", "20", "20"]))


def test_what_the_file_states_and_what_the_user_says(stated: ParticleFile) -> None:
    """The finer one; the finding names where it comes from."""
    for told, shared, source in (
        (None, 20, SHARED_RESOLUTION),
        (12.0, 12, "=12"),
        (30.0, 20, SHARED_RESOLUTION),
    ):
        found, (note,) = shared_before(stated, told, resplit=False)
        assert found == shared and note.code == "shared_known" and not note.serious
        assert note["resolution"] == shared and source in note["source"]


def test_half_sets_drawn_anew_are_warned_about(stated: ParticleFile) -> None:
    _, (warning,) = shared_before(stated, None, resplit=True)
    assert warning == Finding("half_sets_mixed")
    found, (note,) = shared_before(stated, 8.0, resplit=True)
    assert found == note["resolution"] == 8 and not note.serious


def test_nothing_known_says_what_a_claim_presumes(tmp_path: Path) -> None:
    file = read_particles(particles(tmp_path, "rlnRandomSubset", ["1", "2", "1", "2"]))
    found, (note,) = shared_before(file, None, resplit=False)
    assert found is None and note.code == "shared_unknown" and not note.serious


@pytest.mark.parametrize(
    ("ending", "column", "value", "said"),
    [
        (
            "star",
            "rlnNote",
            "both \" and ' of them",
            "out/particles.star cannot hold .* in _rlnNote",
        ),
        ("star", "rlnNote", "two\nlines", "take out the line ends"),
        ("cs", "rlnNoté", "1", "cannot be the name of a field in .*out/particles.cs"),
    ],
)
def test_what_could_not_be_written_in_the_end_is_told_when_it_is_read(
    tmp_path: Path, ending: str, column: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = read_particles(
        particles(tmp_path, "rlnRandomSubset", ["1", "2"] * 2), need_half_sets=False
    )
    file.tables["particles"][column] = [value] * 4
    monkeypatch.setattr("cryotorch.jobs.inputs.particles.read_particles", lambda *_, **__: file)
    settings = make_settings("subtract", out=str(tmp_path / "out"), write=[ending])
    with pytest.raises(InputError, match=said):
        load_particles("any.star", None, settings)
    assert not (tmp_path / "out").exists()
    assert load_particles("any.star", None) is file  # a job that writes no list
