"""The job: two states of a second body, with and without a focus mask, expanded particles, and what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from cryotorch.data.particle_file import read_particles
from cryotorch.errors import InputError
from cryotorch.jobs import classify, simulate
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.refinement.class_shares import agreement

N, BOX, PIXEL = 300, 32, 6.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 particles, a second body absent in 0.4 of them."""
    out = tmp_path_factory.mktemp("absent") / "set"
    few = dict(box_size=BOX, pixel_size=PIXEL, n_particles=N, snr=0.5, seed=1)
    body = dict(second_body="phantom", second_body_states="absent")
    return simulate.run(make_settings("simulate", out=str(out), **few, **body))


def run(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = dict(particles=str(data / "consensus.star"), final_resolution=15)
    given |= dict(initial_resolution=30, n_starts=1, n_repeats=1, device="cpu")
    assert classify.run(make_settings("classify", out=str(out), **(given | changes))) == out
    return json.loads((out / "summary.json").read_text())


def accuracy(out: Path) -> float:
    table = read_particles(out / "particles.star").tables["particles"]
    true, found = (
        torch.as_tensor(table[name].astype(int)) - 1
        for name in ("cryotorchSpecies", "rlnClassNumber")
    )
    return agreement(true, found, 2).share


@pytest.mark.parametrize("focus", [False, True])
def test_the_second_body_is_there_or_not(data: Path, tmp_path: Path, focus: bool) -> None:
    out = tmp_path / "run"
    mask = dict(mask=str(data / "mask_body2.mrc")) if focus else {}
    summary = run(data, out, **mask)
    assert accuracy(out) > 0.93
    unseen = summary["unseen_images"]  # too few for 5 standard errors, see ``verdict``
    assert summary["lead_standard_errors"] > 0.5 * math.sqrt(unseen * 0.4 / 0.6)
    assert [c["share"] for c in summary["classes"]] == pytest.approx([0.6, 0.4], abs=0.06)
    assert summary["shared_resolution"] == 20 and summary["box"] == BOX
    assert {path.name for path in out.iterdir()} >= {"classes.png", "particles_class_2.star"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (dict(particles=None), "job=classify needs particles"),
        (dict(n_classes=1), "n_classes=1 cannot be used"),
        (dict(n_classes=10), "has 300 particles: at least 500 are needed for n_classes=10"),
        (dict(initial_resolution=10), "it must be finer than initial_resolution"),
        (dict(box_size=33), "box_size=33 cannot be used"),
    ],
)
def test_what_cannot_be_used_is_refused(
    data: Path, tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        run(data, tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_particles_without_poses_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no orientations"):
        run(data, tmp_path / "run", particles=str(data / "particles.star"))
