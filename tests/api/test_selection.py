"""Chosen particles from Python are those of the job."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cryotorch as ct


def test_chosen_particles(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = ct.read_particles(folder / "truth.star")
    u = source.particles.defocus[:, 0].numpy()
    found = ct.select_particles(source, where="rlnDefocusU > 15000", expand_symmetry="C2")
    assert not list(tmp_path.iterdir())  # no files unless asked
    assert np.array_equal(found.rows, np.flatnonzero(u > 15000))
    assert found.counts == {
        "particles": 120,
        "where": len(found.rows),
        "expand_symmetry": len(found),
    }
    assert np.allclose(found.column("rlnDefocusU")[::2], u[found.rows], atol=0.01)
    assert found.warnings == []
    again = ct.read_particles(found.save("out") / "particles.star")
    assert len(again.particles) == len(found) == 2 * len(found.rows)
    twice = ct.select_particles([source, folder / "truth.star"])
    assert len(twice) == 240 and "another file has too" in twice.warnings[0]
    with pytest.raises(ct.InputError, match="none of 120 particles"):
        ct.select_particles(source, where="rlnDefocusU < 0")
    with pytest.raises(ct.InputError, match="out cannot be used here"):
        ct.select_particles(source, out="here")
