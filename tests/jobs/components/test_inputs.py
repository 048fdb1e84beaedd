"""What is refused before anything is computed, and lengths in pixels."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from cryotorch.errors import InputError
from cryotorch.jobs.components.inputs import _in_the_specimen, load
from cryotorch.particles import Optics, unposed


def test_lengths_become_pixels(settings) -> None:
    read = load(settings(max_resolution=20.0, high_pass=80.0))
    # 160 Å wide: the Nyquist frequency lies at 0.75 of 20 Å
    assert read.how.grid.box == 22 and read.edge == pytest.approx(160)
    assert read.how.limit == pytest.approx(8) and read.how.lowest == pytest.approx(2)
    assert read.poses.shift_px * read.how.grid.pixel_size == pytest.approx(read.particles.shift)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(symmetry="D2"), "symmetry=D2 cannot be used: .*job=particles expand_symmetry=D2"),
        (dict(max_resolution=9.0), "hold nothing finer than 10 Å"),
        (dict(max_resolution=60.0), "at most 40 Å, a quarter of the box"),
        (dict(high_pass=20.0), "coarser than twice max_resolution"),
        (dict(n_components=8), "half sets of 120 images tell 6 components at most"),
    ],
)
def test_what_cannot_be_used(settings, changes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load(settings(**changes))


def test_particles_without_poses(settings, species: Path) -> None:
    said = re.escape("no orientations, and variability is looked for at known poses")
    with pytest.raises(InputError, match=said):
        load(settings(particles=str(species / "particles.star")))


def test_shifts_where_the_magnification_is_undone() -> None:
    """k.s = k'.s' for k' = M k."""
    optics = Optics(*(torch.tensor([v]) for v in (300.0, 2.7, 0.1, 1.0)))
    m = torch.tensor([[[1.02, 0.01], [0.03, 0.97]]])
    particles = unposed(4, optics.replace(magnification=m))
    shift = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    k = torch.tensor([3.0, -2.0])
    made = _in_the_specimen(particles, shift)
    assert torch.allclose(made @ (m[0] @ k), shift @ k, atol=1e-5)
    assert torch.equal(_in_the_specimen(unposed(4, optics), shift), shift)
