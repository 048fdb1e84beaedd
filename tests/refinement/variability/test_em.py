"""Two states: the component is their difference."""

from __future__ import annotations

from dataclasses import replace

import torch

from cryotorch.ops.fourier.filters import filter_shells
from cryotorch.refinement.variability.em import find_components

BOX, LIMIT = 24, 8.0


def band(volume: torch.Tensor) -> torch.Tensor:
    """What images tell: no mean, nothing beyond the limit."""
    gain = (torch.arange(BOX // 2 + 1) <= LIMIT).float()
    gain[0] = 0
    return filter_shells(volume, gain)


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a * b).sum() / (a.norm() * b.norm()))


def test_the_component_of_two_states_is_their_difference(two_states, blobs) -> None:
    """Its size too: shares p and 1 - p of states that differ by D make the standard deviation sqrt(p (1 - p)) |D|."""
    d = two_states
    with torch.no_grad():
        found = find_components(d.spectra, d.poses, d.means, d.how, blobs.quiet)
    truth = band(blobs.molecule(4.0) - blobs.molecule(0.0)) * d.how.mask
    assert abs(correlation(found.merged.maps[1], truth)) > 0.9
    for model in found.halves:
        assert abs(correlation(model.maps[1], truth)) > 0.85
    size = float(found.merged.maps[1].norm() / truth.norm())
    share = 150 / 400
    assert 0.75 < size / (share * (1 - share)) ** 0.5 < 1.15
    assert float(found.curve[0, 2:5].min()) > 0.75
    mean = band(blobs.molecule(0.0) * (1 - share) + blobs.molecule(4.0) * share)
    assert correlation(band(found.merged.maps[0]) * d.how.mask, mean * d.how.mask) > 0.97


def test_the_noise_is_found(one_state) -> None:
    """It began twice too high."""
    assert abs(float(one_state.spectra.noise[0, 2:8].mean()) / one_state.sigma**2 - 1) < 0.08


def test_nothing_below_the_lowest_shell(two_states, blobs) -> None:
    d = two_states
    how = replace(d.how, lowest=3.0, iterations=2)
    with torch.no_grad():
        found = find_components(d.spectra, d.poses, d.means, how, blobs.quiet)
    transform = torch.fft.rfftn(found.halves[0].maps[1]).abs()
    assert float(transform[:2, :2, :2].max()) < 1e-3 * float(transform.max())
