"""What is real: a component that one half set's images share with the other's, and nothing else."""

from __future__ import annotations

import pytest
import torch

from cryotorch.refinement.variability.em import find_components
from cryotorch.refinement.variability.judge import coordinates, gains, significance


def judged(d, quiet):
    with torch.no_grad():
        found = find_components(d.spectra, d.poses, d.means, d.how, quiet)
        gain = gains(d.spectra, d.poses, torch.arange(d.n), found, d.how, quiet)
    return found, gain


def test_the_component_of_two_states_is_real_and_no_other(two_states, blobs) -> None:
    found, gain = judged(two_states, blobs.quiet)
    assert gain.real.tolist() == [True, False]
    assert float(gain.errors[0]) > 10
    d = two_states
    with torch.no_grad():
        at = d.spectra, d.poses, (found.merged.maps,) * 2, found.merged.spread, d.how, blobs.quiet
        position, sigma, contrast = coordinates(*at)
    first, second = (position[d.moved == state, 0] for state in (0.0, 4.0))
    assert abs(float(first.mean() - second.mean())) > 1.5
    # errors are as large as they are said to be
    within = torch.cat([first - first.mean(), second - second.mean()])
    assert 0.8 < float(within.std() / sigma[:, 0].mean()) < 1.3
    assert abs(float(contrast.mean()) - 1) < 0.05


@pytest.mark.parametrize("seed", [1, 2])
def test_one_state_has_no_component(seed: int, blobs) -> None:
    _, gain = judged(blobs.dataset(300, torch.zeros(300), 2.0, seed), blobs.quiet)
    assert not gain.real.any()
    assert float(gain.errors.max()) < 3


def test_copies_of_an_image_are_one_observation() -> None:
    draw = torch.Generator().manual_seed(0)
    gain = 0.3 + torch.randn(200, 1, generator=draw).double()
    alone = significance(gain, torch.arange(200))
    copies = significance(gain.repeat(6, 1), torch.arange(200).repeat(6))
    assert torch.allclose(alone.errors, copies.errors)
    assert torch.allclose(alone.errors, gain.mean(0) / gain.std(0) * 200**0.5)
    assert torch.allclose(alone.mean, copies.mean)
