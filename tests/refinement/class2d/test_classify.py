"""Classes of patterns in noise: which, at which angle and shift; noise makes none."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch

from cryotorch.refinement.class2d.classify import (
    Classified,
    ClassPart,
    Course,
    classify,
)
from cryotorch.refinement.class2d.judge import judge
from cryotorch.refinement.class2d.work import work
from cryotorch.refinement.image_weight import unlimited
from cryotorch.refinement.runtime.kept import Kept
from cryotorch.refinement.spectra import Spectra

BOX = 32


def run(images: torch.Tensor, patterns, how, tell=lambda count: None) -> Classified:
    variance = float(images.var())
    noise = torch.full((1, BOX // 2 + 1), variance)
    spectra = Spectra(images, patterns.particles, how.grid, noise, unlimited(BOX), 9.0)
    with torch.no_grad():
        return classify(spectra, patterns.half, how, tell)


@pytest.fixture(scope="module")
def found(patterns, how) -> Classified:
    counted: list[float] = []
    made = run(patterns.images, patterns, how, counted.append)
    assert sum(counted) == pytest.approx(work(patterns.n, how))
    return made


def test_classes_hold_one_pattern_each(found: Classified, patterns) -> None:
    held = torch.zeros(4, 2).index_put_(
        (found.label, patterns.which), torch.ones(patterns.n), accumulate=True
    )
    assert float(held.amax(1).sum()) / patterns.n > 0.95
    assert float(found.share.sum()) == pytest.approx(1.0, abs=1e-4)
    assert bool((found.share.diff() <= 1e-6).all())


def test_angles_and_origins_have_the_senses_of_relion(found: Classified, patterns) -> None:
    """In a class the angles differ from the truth by one turn a, the origins by R c for one vector c of its average.

    x_image = R(psi) x - s holds for another frame x' = R(a) x + c with psi' = psi - a and s' = s + R(psi') c.
    """
    for number in range(4):
        mine = torch.nonzero(found.label == number)[:, 0]
        if len(mine) < 30:
            continue
        kind = patterns.which[mine].mode().values
        mine = mine[patterns.which[mine] == kind]
        turn = torch.polar(torch.ones(len(mine)), found.psi[mine] - patterns.psi[mine])
        middle = turn.sum().angle()
        off = (turn * torch.polar(torch.ones(()), -middle)).angle().abs()
        assert float(off.median()) < math.radians(9)
        c, s = found.psi[mine].cos(), found.psi[mine].sin()
        rotation = torch.stack([torch.stack([c, s], 1), torch.stack([-s, c], 1)], 1)
        offset = found.shift_px[mine] - patterns.shift[mine]
        frame = (rotation.mT @ offset[:, :, None])[..., 0].median(0).values
        left = offset - (rotation @ frame[:, None])[..., 0]
        assert float(left.norm(dim=1).median()) < 0.8


def test_resolution_of_patterns_but_not_of_noise(found: Classified, patterns, how) -> None:
    from dataclasses import replace

    assert bool((found.averages.curve[0, 1:7] > 0.7).all())
    noise = run(patterns.noise, patterns, how)
    assert not bool(judge(noise, replace(how, shared_limit=3.5)).suggested.any())
    assert float(found.evidence.median()) > float(noise.evidence.median()) + 10


def test_the_same_seed_gives_the_same_classes(found: Classified, patterns, how) -> None:
    assert torch.equal(run(patterns.images, patterns, how).label, found.label)


def spectra_of(patterns, how) -> Spectra:
    """Read anew."""
    noise = torch.full((1, BOX // 2 + 1), float(patterns.images.var()))
    return Spectra(patterns.images, patterns.particles, how.grid, noise, unlimited(BOX), 9.0)


def alike(one: Classified, other: Classified) -> bool:
    """Bit by bit."""
    names = ("mass", "label", "psi", "shift_px", "posterior", "evidence")
    same = all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)
    return same and torch.equal(one.averages.merged, other.averages.merged)


def test_a_run_that_is_stopped_again_and_again_ends_as_one_that_is_not(
    found: Classified, patterns, how
) -> None:
    """In the batches after some iterations, and between the passes over all images."""
    values: dict = {}
    for stop in (1, 4, 5, 1):

        def changed(name: str, value: Course, after=stop, heard=[]) -> None:  # noqa: B006
            heard.append(name)
            if len(heard) == after:
                raise KeyboardInterrupt

        kept = Kept(copy.deepcopy(values), changed=changed)
        with pytest.raises(KeyboardInterrupt), torch.no_grad():
            classify(spectra_of(patterns, how), patterns.half, how, kept=kept)
        values = kept.values
    assert (values["course"]["iterations"], values["course"]["passes"]) == (10, 1)
    counted: list[float] = []
    with torch.no_grad():
        spectra, kept = spectra_of(patterns, how), Kept(values)
        made = classify(spectra, patterns.half, how, counted.append, kept=kept)
    assert alike(made, found) and sum(counted) == pytest.approx(work(patterns.n, how))


def test_two_processes_find_the_classes_of_one(
    found: Classified, patterns, how, teams: Callable
) -> None:
    """But for the order of sums; each reads its own images."""
    pair = teams(2)
    other = spectra_of(patterns, how)
    ClassPart(other, patterns.half, how, pair[1])
    mine = spectra_of(patterns, how)
    with torch.no_grad():
        made = classify(mine, patterns.half, how, team=pair[0])
    assert float((made.label == found.label).float().mean()) > 0.99
    assert float((made.averages.merged - found.averages.merged).abs().max()) < 1e-3 * float(
        found.averages.merged.abs().max()
    )
    assert bool((mine.known | other.known).all())
