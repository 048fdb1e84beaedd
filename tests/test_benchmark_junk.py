"""scripts/benchmark junk: areas and bins are counted right, and a run shows all columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(autouse=True)
def scripts_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setenv("PYTHONPATH", str(SCRIPTS.parent))


def test_area_under_the_curve() -> None:
    from benchmarks import junk

    good = np.array([True, True, False, False])
    assert junk.auc(np.array([3.0, 4, 1, 2]), good) == 1
    assert junk.auc(np.array([1.0, 4, 3, 2]), good) == 0.5
    assert junk.auc(np.array([2.0, 4, 2, 1]), good) == 0.875
    assert junk.auc(np.arange(4.0), np.ones(4, bool)) is None


def test_reliability() -> None:
    from benchmarks import junk

    rows = junk.reliability(np.array([0.02, 0.8, 0.82, 0.78, 0.8]), np.arange(5) % 4 > 0)
    assert [(row["from"], row["particles"]) for row in rows] == [(0.0, 1), (0.7, 4)]
    assert rows[1]["mean probability"] == pytest.approx(0.8)
    assert rows[1]["show a molecule"] == 0.75


@pytest.mark.slow
def test_a_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from benchmarks import junk
    from benchmarks.__main__ import main

    few = [f"--simulate={x}" for x in ("n_particles=300", "box_size=24", "pixel_size=6")]
    where = ["--snr", "0.5", "--junk", "0.3", "--out", str(tmp_path), *few]
    assert main(["junk", *where, "max_iterations=3"]) == 0
    said = capsys.readouterr().out
    assert "AUC cryotorchParticleProbability" in said and "show a molecule" in said
    row, ((probability, good),) = junk.judged(tmp_path / "set_1" / "refined" / "particles.star")
    assert len(probability) == 300 and good.sum() == 210
    assert isinstance(row["recall, %"], float) and row["recall, %"] > 80


def test_a_share_of_one_is_refused(capsys: pytest.CaptureFixture) -> None:
    from benchmarks.__main__ import main

    assert main(["junk", "--junk", "1"]) == 1
    assert "--junk is from 0 to below 1" in capsys.readouterr().err
