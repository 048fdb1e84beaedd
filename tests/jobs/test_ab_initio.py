"""A first map: all that the job leaves, and whether maps, poses and images belong together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cryotorch as ct
from cryotorch.data.images import ParticleImages
from cryotorch.data.mrc import read_volume
from cryotorch.data.particle_file import read_particles
from cryotorch.data.star import read_star
from cryotorch.errors import InputError
from cryotorch.jobs.pages.write import PAGES
from cryotorch.ops.fourier.image_model import project
from cryotorch.ops.fourier.transforms import unpack
from cryotorch.ops.geometry.map_fit import fit_map
from cryotorch.ops.geometry.placement import flip_hand
from cryotorch.refinement.image_terms import transfer

PIXEL = 6.0
MADE = {
    *("config.yaml", "log.txt", "manifest.json", "summary.json", "map.mrc", "map_other_hand.mrc"),
    *PAGES,
    *("particles.star", "particles.cs", "maps.png", "starts.png", "orientations.png"),
}


def test_all_files_and_no_others(begun: Any) -> None:
    names = {p.name for p in begun.out.iterdir() if p.is_file()}
    assert names == MADE and list((begun.out / "tensorboard").iterdir())
    for number in ("particles", "particles_in_maps", "box", "pixel_size"):
        expected = dict(particles=200, particles_in_maps=150, box=24, pixel_size=PIXEL)
        assert begun.summary[number] == pytest.approx(expected[number])
    assert begun.summary["resolution"] is None and len(begun.summary["starts"]) == 1
    assert begun.summary["warnings"] == []


def test_the_map_is_the_molecule_in_one_of_its_hands(begun: Any) -> None:
    volume, pixel_size = read_volume(begun.out / "map.mrc")
    truth, _ = read_volume(begun.data / "truth.mrc")
    fit = fit_map(volume, truth, PIXEL, 15.0)
    assert pixel_size == pytest.approx(PIXEL) and fit.correlation > 0.97  # 0.995
    assert fit.other_hand is not None and fit.other_hand < 0.8
    other, _ = read_volume(begun.out / "map_other_hand.mrc")
    assert torch.equal(other, flip_hand(volume))


def agreement(folder: Path, name: str = "particles.star", volume: str = "map.mrc") -> torch.Tensor:
    """(n,) correlation of images with the projections of the map that was written, at the poses that were written."""
    file = read_particles(folder / name)
    assert file.particles.has_pose
    images = ParticleImages(file)[range(len(file.particles))]
    n, map_ = len(images), read_volume(folder / volume)[0]
    ctf = transfer(file.particles, torch.arange(n), 24, file.pixel_size, images.device).gain
    p = file.particles
    model = unpack(project(map_, p.rotation, p.shift / file.pixel_size, ctf), 24)
    both = torch.stack([images.flatten(1), model.flatten(1)])
    both = both - both.mean(2, keepdim=True)
    return (both[0] * both[1]).sum(1) / (both[0].norm(dim=1) * both[1].norm(dim=1))


@pytest.mark.parametrize("name", ["particles.star", "particles.cs"])
def test_images_look_like_the_map_at_their_poses(begun: Any, name: str) -> None:
    """Those that the map was not made of as well; at a signal-to-noise ratio of 4, 0.89 can be had."""
    found = agreement(begun.out, name)
    rest = begun.inputs.rest
    assert len(rest) == 50 and len(found) == 200
    assert float(found.median()) > 0.75 and float(found[rest].median()) > 0.75
    swapped = agreement(begun.out, name, "map_other_hand.mrc")
    assert float(swapped.median()) < float(found.median()) - 0.1


def test_columns_of_the_particles(begun: Any) -> None:
    table = read_star(begun.out / "particles.star")["particles"]
    given = read_star(begun.data / "particles.star")["particles"]
    assert set(given) <= set(table) and table.rows == 200
    assert set(table["rlnClassNumber"].astype(int)) == {1}
    assert np.allclose(table["rlnMaxValueProbDistribution"].astype(float), 1)
    correlation = table["cryotorchCorrelation"].astype(float)
    assert 0.5 < np.median(correlation) < 1
    # a reconstruction at these poses claims nothing finer
    shared = table["cryotorchSharedResolution"].astype(float)
    assert np.allclose(shared, shared[0]) and 8 < shared[0] < 40
    for label in ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst"):
        assert np.ptp(table[label].astype(float)) > 1


def test_two_classes_share_the_particles(begin: Callable, tmp_path: Path) -> None:
    found = begin(tmp_path / "two", n_classes=2, write=["star", "cs"])
    every = read_star(found.out / "particles.star")["particles"]
    number = every["rlnClassNumber"].astype(int)
    assert set(number) <= {1, 2}
    rows = 0
    for k in set(number):
        for ending in ("star", "cs"):
            part = read_particles(found.out / f"particles_class_{k}.{ending}")
            assert len(part.particles) == int((number == k).sum())
        names = read_star(found.out / f"particles_class_{k}.star")["particles"]["rlnImageName"]
        assert list(names) == list(every["rlnImageName"][number == k])
        rows += len(names)
    assert rows == 200 and [c["class"] for c in found.summary["classes"]] == [1, 2]
    assert sum(c["share"] for c in found.summary["classes"]) == pytest.approx(1)
    first, second, largest = (
        read_volume(found.out / f"{name}.mrc")[0] for name in ("map_class_1", "map_class_2", "map")
    )
    assert torch.equal(first, largest) and not torch.equal(first, second)


def test_a_run_is_replaced_when_that_is_asked_for_only(begin: Callable, tmp_path: Path) -> None:
    begin(tmp_path / "run", n_classes=2)
    with pytest.raises(InputError, match="overwrite=true"):
        begin(tmp_path / "run")
    begin(tmp_path / "run", overwrite=True, max_particles=100)
    assert not list((tmp_path / "run").glob("*class*"))
    with pytest.raises(InputError, match="out="):  # it holds the input
        begin(tmp_path / "run", particles=str(tmp_path / "run" / "particles.star"), overwrite=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(particles=None), "job=ab_initio needs particles: add particles=<file>"),
        (dict(particles="gone.star"), "gone.star does not exist"),
        (dict(like="gone.mrc"), "gone.mrc does not exist"),
        (dict(class_=3), "class=3 cannot be used"),
        (dict(symmetry="Q7"), "symmetry=Q7 cannot"),
        (dict(box_size=23), "box_size must be even, got 23|box_size=23"),
        (dict(box_size=26), "box_size must be even and at most 24, got 26"),
        (
            dict(box_size=16),
            "final_resolution=15 .*end at 18 Å, give a coarser one or a larger box_size",
        ),
        (dict(final_resolution=11), "final_resolution=11 .*end at 12 Å, give a coarser one$"),
        (dict(final_resolution=50), "finer than initial_resolution=40"),
        (dict(initial_resolution=900, final_resolution=60), "no 3 shells up to it"),
        (dict(particle_diameter=145), "particle_diameter=145 .*144 Å wide"),
        (dict(shift_extent=73), "shift_extent=73 .*ends 72 Å from its middle"),
        (dict(write=[]), "name a format"),
    ],
    ids=str,
)
def test_what_does_not_fit_ends_in_a_sentence(
    begin: Callable, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        begin(tmp_path / "out", **changes)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_a_refinement_starts_from_the_folder(begun: Any) -> None:
    """As from its map by name."""
    given = dict(max_iterations=1, split_resolution=25, trainer__accelerator="cpu")
    found = [
        ct.refine(begun.out / "particles.star", volume, search__candidates=3, **given)
        for volume in (begun.out, begun.out / "map.mrc")
    ]
    assert torch.equal(found[0].map, found[1].map)
    truth, _ = read_volume(begun.data / "truth.mrc")
    assert fit_map(found[0].map, truth, PIXEL, 15.0).correlation > 0.95
