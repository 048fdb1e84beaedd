"""Which particles look like junk: calibrated where it can be told, silent where there is none, and said where it cannot be told."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cryotorch.findings import codes
from cryotorch.refinement.particle_quality import CUT, Quality, noise_match, particle_quality
from cryotorch.report.sentences import say

NOISE = 6.0  # what a search makes of noise, standard errors
N = 2000


def particles(
    junk: float, match: float, spread: float = 0.0, seed: int = 0, n: int = N
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Cross, power, misfit and half set of n particles with a mean ``match`` in standard errors, contrast of a log-normal ``spread``; and which are none.

    A third of the junk is noise, two thirds match half as well as particles and leave power.
    """
    draw = torch.Generator().manual_seed(seed)

    def normal() -> Tensor:
        return torch.randn(n, generator=draw)

    none = torch.rand(n, generator=draw) < junk
    noise = none & (torch.rand(n, generator=draw) < 1 / 3)
    power = 0.5 * match**2 * (1 + 0.1 * normal()) ** 2
    amplitude = (spread * normal() - spread**2 / 2).exp() + normal() / match
    amplitude = torch.where(none, 0.5 + 0.1 * normal() + normal() / match, amplitude)
    amplitude = torch.where(noise, (NOISE - 0.5 + 0.7 * normal()) / match, amplitude)
    misfit = (0.1 * normal()).exp() * torch.where(none & ~noise, (0.4 + 0.2 * normal()).exp(), 1.0)
    half = torch.arange(n) % 2
    return (amplitude * power, power, misfit, half), none


def judged(seen: tuple[Tensor, ...]) -> Quality:
    return particle_quality(*seen, noise_match=NOISE)


@pytest.mark.parametrize("junk", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_junk_is_found_whatever_its_share(junk: float, spread: float) -> None:
    seen, none = particles(junk, 20, spread)
    quality = judged(seen)
    assert quality.probability is not None and quality.found is not None
    called = quality.probability < CUT
    assert float(none[called].double().mean()) > 0.9
    assert float(called[none].double().mean()) > 0.9
    assert quality.junk == pytest.approx(float(none.double().mean()), abs=0.02)
    said = say(quality.found)
    assert "a particle whose pose was not found" in said
    assert f"{quality.junk:.1%}" in said and "where='cryotorchParticleProbability > 0.5'" in said


@pytest.mark.parametrize("lost", [1, 3, 6])
def test_a_few_poses_that_were_not_found_are_no_junk(lost: int) -> None:
    for seed in range(3):
        (cross, power, misfit, half), _ = particles(0, 20, 0.1, seed, 500)
        cross[:lost] *= 0.2
        misfit[:lost] *= 1.6
        quality = judged((cross, power, misfit, half))
        assert quality.probability is None and not quality.junk
        assert quality.found is not None and not quality.found.serious
    assert "too few to tell junk from particles whose pose" in say(quality.found)


def test_of_particles_with_0_8_four_fifths_are_good() -> None:
    """Probabilities of many sets whose groups overlap, held against what the particles are."""
    each = []
    for seed in range(8):
        seen, none = particles(0.3, 13, 0.15, seed)
        quality = judged(seen)
        assert quality.probability is not None
        each.append((quality.probability, ~none))
    probability, good = (torch.cat(x) for x in zip(*each, strict=True))
    for low, high in ((0, 0.1), (0.1, 0.4), (0.4, 0.7), (0.7, 0.9), (0.9, 1.01)):
        some = (probability >= low) & (probability < high)
        assert int(some.sum()) > 50
        meant = float(probability[some].mean())
        assert float(good[some].double().mean()) == pytest.approx(meant, abs=0.1)


@pytest.mark.parametrize("spread", [0.0, 0.4])
def test_no_junk_is_seen_where_there_is_none(spread: float) -> None:
    for seed in range(5):
        quality = judged(particles(0, 20, spread, seed)[0])
        assert quality.probability is None and quality.junk == 0
        assert quality.found is not None and codes([quality.found]) == ["no_junk_apart"]


def test_a_tenth_less_contrast_is_no_junk_where_noise_is_low() -> None:
    """Groups that are narrow stand apart by next to nothing."""
    (cross, power, misfit, half), _ = particles(0, 200)
    cross = torch.where(torch.arange(N) % 3 == 0, 0.9 * cross, cross)
    assert judged((cross, power, misfit, half)).junk == 0


def test_it_is_said_where_particles_match_no_better_than_noise() -> None:
    for junk in (0.0, 0.2):
        quality = judged(particles(junk, 7)[0])
        assert quality.probability is None and quality.junk is None
        assert quality.found is not None
        assert codes([quality.found]) == ["junk_not_told"] and not quality.found.serious
        assert "cannot be told" in say(quality.found)


def test_what_matches_best_is_no_junk() -> None:
    """However wide the group of junk is: probability rises with the amplitude, and falls with what is left."""
    seen, _ = particles(0.2, 20, 0.2)
    quality = judged(seen)
    amplitude, misfit = seen[0] / seen[1], seen[2]
    assert quality.probability is not None
    best = (amplitude > amplitude.quantile(0.99)) & (misfit < misfit.median())
    assert float(quality.probability[best].min()) > 0.99


def test_a_blank_image_shows_nothing_and_few_particles_tell_nothing() -> None:
    seen, none = particles(0.2, 20)
    whole, row = judged(seen), int(none.logical_not().nonzero()[0])
    for values in seen[:3]:
        values[row] = 0
    quality = judged(seen)
    assert quality.probability is not None and whole.probability is not None
    assert float(quality.probability[row]) == 0 and float(whole.probability[row]) > 0.9
    assert quality.junk is not None and whole.junk is not None
    assert quality.junk - whole.junk == pytest.approx(1 / N, rel=0.2)
    assert judged(particles(0.2, 20, n=100)[0]) == Quality(None, None, None)


def test_optics_groups_and_half_sets_may_differ_in_contrast() -> None:
    """Half of the contrast is no junk, where it is that of a whole group."""
    for junk in (0.0, 0.2):
        (cross, power, misfit, half), none = particles(junk, 30)
        cross = torch.where(half == 0, 0.5 * cross, cross)
        quality = judged((cross, power, misfit, half))
        if junk:
            assert quality.probability is not None
            assert float(((quality.probability < CUT) == none).double().mean()) > 0.97
        else:
            assert quality.junk == 0 and quality.probability is None


def test_the_match_of_noise_is_that_of_the_best_of_many() -> None:
    """The mean maximum of n standard normal numbers lies a little below sqrt(2 ln n)."""
    n = 8 * torch.pi**2 * 2**3 * torch.pi * (2 * 2 * 1 / 8) ** 2
    best = torch.randn(4000, round(n), generator=torch.Generator().manual_seed(1)).amax(1).mean()
    assert 0 < noise_match(2, 1, 8, 1) - float(best) < 0.6
    assert noise_match(20, 5, 64, 24) < noise_match(20, 5, 64, 1) < noise_match(30, 5, 64, 1)
