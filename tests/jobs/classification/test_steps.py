"""Noise makes no classes, and the run says so."""

from __future__ import annotations

from dataclasses import replace

import torch

from cryotorch.findings import codes
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
