"""Two species are one component; what is made by faults of the images is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryotorch.data.star import read_star
from cryotorch.errors import InputError
from cryotorch.findings import codes
from cryotorch.jobs.components.inputs import load
from cryotorch.jobs.components.steps import MOST_BY_FAULTS, _verdict, analysed, resolution


def test_species_are_told_apart(made, species) -> None:
    assert made.real.tolist() == [True, False] and float(made.gain.errors[0]) > 10
    truth = read_star(species / "truth.star")["particles"].floats("cryotorchSpecies")
    assert abs(np.corrcoef(made.position[:, 0].numpy(), truth)[0, 1]) > 0.9
    assert float(made.components[0].norm()) ** 2 == pytest.approx(float(made.variance[0]), rel=1e-3)
    assert float(made.components[0][made.mask == 0].abs().max()) < 1e-6
    assert resolution(made, 0, 160.0) < 20 and not made.warnings
    assert float(made.by_faults[0]) < MOST_BY_FAULTS


def test_verdicts(made) -> None:
    none = replace(made, real=torch.tensor([False, False]))
    assert codes(_verdict(none, 160.0)) == ["no_component"]
    faulty = replace(made, by_faults=torch.tensor([0.8, 0.1]))
    assert codes(_verdict(faulty, 160.0)) == ["components_real", "component_by_faults"]
    assert codes(_verdict(made, 160.0)) == ["components_real"]
    faint = replace(made, sigma=0 * made.sigma + 0.95)
    assert codes(_verdict(faint, 160.0)) == ["components_real", "component_faint"]
    curve = made.curve.clone()
    curve[0, 4:] = 0  # 40 Å
    coarse = replace(made, curve=curve)
    assert codes(_verdict(coarse, 160.0)) == ["components_real", "component_coarse"]
    curve = made.curve.clone()
    curve[0, 1:3] = 0  # nothing there, by a high-pass
    high = replace(made, curve=curve, lowest=3.0)
    assert resolution(high, 0, 160.0) == resolution(made, 0, 160.0)


def test_finer_than_the_half_maps_agree_is_said(settings) -> None:
    noisy = load(settings(max_resolution=10.0, iterations=1))
    images = noisy.images
    draw = torch.Generator().manual_seed(0)

    class Louder:
        """The images with ten times their noise."""

        def __getattr__(self, name):
            return getattr(images, name)

        def __getitem__(self, rows):
            return images[rows] + 12 * torch.randn(
                len(rows), images.box, images.box, generator=draw
            )

    louder = Louder()
    found = analysed(replace(noisy, images=louder))
    assert "variability_too_fine" in codes(found.warnings)
    coarse = replace(noisy, images=louder, settings=replace(noisy.settings, max_resolution=None))
    images_of_noise = replace(
        coarse, poses=replace(coarse.poses, rotation=coarse.poses.rotation.flip(0))
    )
    with pytest.raises(InputError, match="which shows no parts: check poses and invert"):
        analysed(images_of_noise)
