"""From images to maps: starts, axes, poses, and what is said of noise."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from cryotorch.findings import codes
from cryotorch.ops.geometry.map_fit import fit_map
from cryotorch.ops.geometry.rotations import rotation_angle
from cryotorch.ops.geometry.symmetry import point_group, rotate_volume, symmetry_correlation
from cryotorch.refinement.ab_initio.class_maps import ClassMaps
from cryotorch.refinement.ab_initio.judge import Judgement
from cryotorch.refinement.ab_initio.pipeline import (
    Start,
    Symmetric,
    judge_starts,
    onto_axes,
    reconstruct,
    search_others,
    take_part,
)
from cryotorch.refinement.ab_initio.soft_stage import SoftResult
from cryotorch.refinement.runtime.kept import Kept


def test_a_molecule_is_found_and_told_from_chance(begin: Callable) -> None:
    world = begin(400, snr=0.5, soft_steps=20, passes=2)
    told = []
    made = reconstruct(
        world.images, world.group, world.settings, 1, lambda stage, done: told.append((stage, done))
    )
    assert fit_map(made.maps[0], world.volume, 6.0, 20.0).correlation > 0.8
    assert codes(made.findings) == ["starts"]
    assert told[-1] == ("poses", 1.0)
    few = torch.arange(30)
    search = search_others(made.maps, made.share, made.noise, world.settings)
    others = search(world.images.of(few), world.group[few])
    turned = (others.rotation @ made.found.rotation[:30].mT).diagonal(dim1=1, dim2=2).sum(1)
    assert float((turned > 2.9).float().mean()) > 0.8  # within 18 degrees, searched anew


def test_noise_is_told(begin: Callable) -> None:
    world = begin(200, noise_only=True, soft_steps=8, passes=1)
    made = reconstruct(world.images, world.group, world.settings, 2)
    assert "no_structure" in codes(made.findings)


def test_noise_with_a_polyhedral_symmetry_is_told_with_both_series_of_starts(
    begin: Callable,
) -> None:
    world = begin(200, noise_only=True, group=point_group("O"), soft_steps=8, passes=1)
    made = reconstruct(world.images, world.group, world.settings, 2)
    assert codes(made.findings)[:2] == ["starts", "no_structure"]
    assert "starts_disagree" not in codes(made.findings)
    assert made.findings[0]["imposed"] and len(made.starts) == 2
    assert [start.number for start in made.symmetric] == [0, 1, 2]
    best = max(made.symmetric, key=lambda start: start.judgement.score)
    assert best.agreement == 1 and sum(s.agreement == 1 for s in made.symmetric) == 1
    (about,) = [f for f in made.findings if f.code == "symmetric_starts"]
    assert about["lead"] == best.judgement.lead < 5 and about["best"] == best.number + 1


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (9.1, 4.4, ["starts"]),  # few images judge: what C1 shows is there
        (-1.4, 6.2, ["starts"]),  # a ball without symmetry
        (0.9, 0.6, ["starts", "no_structure"]),
        (9.1, 0.3, ["starts", "structure_lost"]),
    ],
)
def test_structure_is_what_either_series_of_starts_shows(
    before: float, after: float, said: list[str]
) -> None:
    leads = [Judgement(*_evidence(lead), torch.zeros(1)) for lead in (before, after)]
    assert [one.lead for one in leads] == pytest.approx([before, after], abs=1e-3)
    start = Start(0, soft(torch.zeros(4, 4, 4)), leads[0], 1.0)
    found = judge_starts([start], start, Symmetric(start.soft, leads[1], starts=[start]))
    assert codes(found) == said


def _evidence(lead: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Of 100 images and one class (100, 1), so that maps lead by so many standard errors."""
    spread = torch.linspace(-1, 1, 100)
    return (spread / spread.std() + lead / 10)[:, None], torch.zeros(100, 1)


def test_maps_are_turned_onto_the_axes(begin: Callable) -> None:
    world = begin(20, symmetry="D3")
    group = point_group("D3")
    settings = begin(20, symmetry="D3", group=group).settings
    turn = torch.tensor([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]]).double()
    maps, axes, finding = onto_axes(soft(rotate_volume(world.volume, turn)), settings, Kept())
    assert finding.code == "axes_found" and axes.lowest > 0.8
    assert float(symmetry_correlation(maps.maps.volumes[0], group).min()) > 0.95
    _, _, finding = onto_axes(soft(begin(20).volume), settings, Kept())
    assert finding.code == "axes_not_shown"


def soft(volume: torch.Tensor) -> SoftResult:
    """A start that ended with a map (d, d, d)."""
    return SoftResult(ClassMaps(volume[None], torch.ones(1, 13)), torch.ones(1), 1.0)


class Interrupted(KeyboardInterrupt):
    """A run that was stopped once so many results were kept."""


def stops_after(kept: Kept, count: int) -> Kept:
    """What goes on from what was kept, and stops when ``count`` more results are."""
    heard: list[str] = []

    def changed(name: str, value: object) -> None:
        heard.append(name)
        if len(heard) == count:
            raise Interrupted

    return Kept(copy.deepcopy(kept.values), changed=changed)


def test_a_run_that_is_stopped_after_every_stage_ends_as_one_that_is_not(begin: Callable) -> None:
    """Two starts, three with the symmetry imposed, two passes, and what is found of all images: bit by bit."""
    settings = dict(soft_steps=2, passes=2, group=point_group("T"), batch=60)
    world = begin(120, snr=1.0, symmetry="T", **settings)
    given = world.images, world.group, world.settings, 2
    heard: list[str] = []
    whole = reconstruct(*given, kept=Kept(changed=lambda name, value: heard.append(name)))
    starts, imposed = ["starts/0", "starts/1"], [f"symmetry/{n}" for n in range(3)]
    assert heard == [*starts, *imposed, "narrow", "narrow", "found"]
    kept, stops, made = Kept(), 0, None
    while made is None:
        kept = stops_after(kept, 1)
        try:
            made = reconstruct(*given, kept=kept)
        except Interrupted:
            stops += 1
    assert stops == len(heard)
    assert torch.equal(made.maps, whole.maps) and made.findings == whole.findings
    assert all(
        torch.equal(a, b)
        for a, b in zip(vars(made.found).values(), vars(whole.found).values(), strict=True)
    )
    assert torch.equal(made.noise, whole.noise) and torch.equal(made.share, whole.share)


def test_two_processes_find_what_one_finds(begin: Callable, teams: Callable) -> None:
    """The same starts, of which the same one goes on; maps and poses but for the order of sums."""
    world = begin(151, snr=1.0, soft_steps=4, passes=2, batch=80)
    alone = reconstruct(world.images, world.group, world.settings, 2)
    pair = teams(2)
    take_part(world.images, world.group, world.settings, lambda stage, done: None, pair[1])
    made = reconstruct(world.images, world.group, world.settings, 2, team=pair[0])
    assert len(made.starts) == len(alone.starts) and made.best == alone.best
    for one, other in zip(made.starts, alone.starts, strict=True):
        assert torch.equal(one.soft.maps.volumes, other.soft.maps.volumes)
    assert float((made.maps - alone.maps).abs().max() / alone.maps.std()) < 0.02
    turned = rotation_angle(made.found.rotation, alone.found.rotation).rad2deg()
    assert float(turned.median()) < 0.05 and float((turned < 1).float().mean()) > 0.9
    torch.testing.assert_close(made.noise, alone.noise, rtol=1e-3, atol=0)
