"""Noise makes no classes, and the run says so; one that was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cryotorch.errors import InputError
from cryotorch.findings import codes
from cryotorch.jobs import class2d
from cryotorch.jobs.classification.inputs import load
from cryotorch.jobs.classification.steps import classified
from cryotorch.report.sentences import line


class Noise:
    """Images of noise alone, whatever the rows."""

    def __init__(self, images) -> None:
        self.box, self.faults, self.name = images.box, {}, images.name

    def __getitem__(self, rows: list[int]) -> torch.Tensor:
        seeds = (torch.Generator().manual_seed(row) for row in rows)
        return torch.stack([torch.randn(self.box, self.box, generator=seed) for seed in seeds])


def test_noise_is_told(settings) -> None:
    read = load(settings(max_resolution=8.6))
    made = classified(replace(read, images=Noise(read.images)))
    assert codes(made.warnings) == ["classes_unresolved"]
    assert not made.judged.resolution.isfinite().any() and not made.judged.suggested.any()
    said = line(made.warnings[0])
    assert said.startswith("WARNING: None of the 3 classes") and "images of noise" in said


def test_too_little_detail_is_told(settings) -> None:
    """128 Å in 8 Fourier pixels, five of them shared, leave none that is clear."""
    made = classified(load(settings(iterations=1, epochs=1, max_resolution=16.0)))
    assert codes(made.warnings) == ["classes_not_judged"]
    assert "max_resolution=14.2 or finer" in line(made.warnings[0])


def test_columns(settings) -> None:
    made = classified(load(settings(iterations=2, epochs=1)))
    columns = made.columns
    assert {len(values) for values in columns.values()} == {240}
    assert columns["rlnClassNumber"].min() >= 1 and columns["rlnClassNumber"].max() <= 3
    psi = torch.from_numpy(columns["rlnAnglePsi"]).deg2rad()
    assert torch.allclose(psi.cos(), made.found.psi.double().cos(), atol=1e-5)
    assert torch.allclose(psi.sin(), made.found.psi.double().sin(), atol=1e-5)


def test_a_run_that_was_stopped_goes_on(
    settings: Callable, tmp_path: Path, stopped: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the batches and from the passes; the selection may be another one then."""
    monkeypatch.setattr(class2d, "SAVED_EVERY", 0.0)

    def same(one: Path, other: Path) -> bool:
        names = ("classes.mrcs", "classes.star", "particles.star")
        return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)

    whole, out = tmp_path / "whole", tmp_path / "out"
    class2d.run(settings(out=str(whole)))
    with stopped(3):
        class2d.run(settings(out=str(out)))
    with stopped(7):
        class2d.run(settings(out=str(out), resume=True))
    with pytest.raises(InputError, match="n_classes is 4, was 3"):
        class2d.run(settings(out=str(out), resume=True, n_classes=4))
    class2d.run(settings(out=str(out), resume=True))
    assert same(out, whole) and not (out / "selected.star").exists()
    class2d.run(settings(out=str(out), resume=True, select=[1]))
    assert same(out, whole) and (out / "selected.star").exists()
    assert json.loads((out / "summary.json").read_text())["classes"] == 3
