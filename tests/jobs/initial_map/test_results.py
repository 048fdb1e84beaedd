"""What is written of a first map besides the maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cryotorch.data.particle_file import read_particles
from cryotorch.data.star import read_star
from cryotorch.jobs.initial_map.results import draw, posed, summary, write_lists


def shared(begun: Any, best: list[int]) -> Any:
    """As found, with the classes given."""
    share = torch.nn.functional.one_hot(torch.tensor(best), 3).float() * 0.7 + 0.1
    maps = begun.made.maps.expand(3, -1, -1, -1)
    return replace(begun.made, maps=maps, found=replace(begun.made.found, share=share))


def test_lists_of_classes_add_up_and_an_empty_class_has_none(begun: Any, tmp_path: Path) -> None:
    best = [0] * 120 + [2] * 80
    made = shared(begun, best)
    write_lists(tmp_path, begun.inputs, made)
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {
        f"particles{which}.{ending}"
        for which in ("", "_class_1", "_class_3")
        for ending in ("star", "cs")
    }
    for which, rows, number in (("_class_1", 120, "1"), ("_class_3", 80, "3")):
        for ending in ("star", "cs"):
            assert len(read_particles(tmp_path / f"particles{which}.{ending}").particles) == rows
        table = read_star(tmp_path / f"particles{which}.star")["particles"]
        assert set(table["rlnClassNumber"].astype(str)) == {number}
        assert np.allclose(table["rlnMaxValueProbDistribution"].astype(float), 0.8)
    whole = read_particles(tmp_path / "particles.star", of_class=3)
    assert len(whole.particles) == 80
    found = summary(begun.inputs, made, {})
    told = found["classes"]
    assert [entry["share"] for entry in told] == [0.6, 0.0, 0.4]
    # (sum w)^2 / sum w^2 of 120 or 80 particles with 0.8 and the others with 0.1
    sizes = [104**2 / 77.6, 200, 76**2 / 52.4]
    assert [entry["effective_particles"] for entry in told] == pytest.approx(sizes, rel=1e-4)
    assert found["classes_per_particle"] == pytest.approx(1 / 0.66, rel=1e-4)


def test_shifts_are_written_in_angstrom(begun: Any) -> None:
    particles = posed(begun.inputs, begun.made)
    assert torch.allclose(particles.shift, begun.made.found.shift_px * 6.0)
    written = read_particles(begun.out / "particles.star").particles
    assert torch.allclose(written.shift, particles.shift.to(written.shift), atol=1e-3)
    truth = read_particles(begun.data / "truth.star").particles
    shifts = [(s - s.mean(0)).double() for s in (written.shift, truth.shift)]
    # of 3 Å in each direction; what a map off its middle adds depends on the view
    assert float((shifts[0] - shifts[1]).square().mean().sqrt()) < 2.5


@pytest.mark.drawn
def test_figures_of_several_classes(begun: Any) -> None:
    one, three = draw(begun.inputs, begun.made), draw(begun.inputs, shared(begun, [0, 1] * 100))
    assert one.keys() == three.keys() == {"maps", "starts", "orientations"}
    assert three["maps"].png != one["maps"].png
