"""From images to maps: starts, axes, poses, and what is said of noise."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cryotorch.findings import codes
from cryotorch.ops.geometry.map_fit import fit_map
from cryotorch.ops.geometry.symmetry import point_group, rotate_volume, symmetry_correlation
from cryotorch.refinement.ab_initio.class_maps import ClassMaps
from cryotorch.refinement.ab_initio.pipeline import onto_axes, reconstruct, search_others
from cryotorch.refinement.ab_initio.soft_stage import SoftResult


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


def test_maps_are_turned_onto_the_axes(begin: Callable) -> None:
    world = begin(20, symmetry="D3")
    group = point_group("D3")
    settings = begin(20, symmetry="D3", group=group).settings
    turn = torch.tensor([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]]).double()
    maps, axes, finding = onto_axes(soft(rotate_volume(world.volume, turn)), settings)
    assert finding.code == "axes_found" and axes.lowest > 0.8
    assert float(symmetry_correlation(maps.maps.volumes[0], group).min()) > 0.95
    _, _, finding = onto_axes(soft(begin(20).volume), settings)
    assert finding.code == "axes_not_shown"


def soft(volume: torch.Tensor) -> SoftResult:
    """A start that ended with a map (d, d, d)."""
    return SoftResult(ClassMaps(volume[None], torch.ones(1, 13)), torch.ones(1), 1.0)
