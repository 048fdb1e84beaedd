"""What a first map is made of: the box, the part of the particles, and settings in pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import torch

from cryotorch.data.mrc import read_volume, write_stack
from cryotorch.data.particle_file import read_particles
from cryotorch.data.star import read_star, write_star
from cryotorch.errors import InputError
from cryotorch.jobs import simulate
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.initial_map.inputs import choose_box, read_inputs
from cryotorch.ops.geometry.map_fit import fit_map

N = 200


def settings(begun: Any, **changes: Any) -> Any:
    return replace(begun.inputs.settings, **changes)


@pytest.mark.parametrize(
    ("box", "pixel_size", "final", "expected"),
    [(400, 1.0, 12, 100), (401, 1.0, 12, 102), (64, 1.0, 12, 24), (24, 6.0, 12, 24)],
)
def test_three_pixels_per_detail_in_an_even_box(
    begun: Any, box: int, pixel_size: float, final: float, expected: int
) -> None:
    class File:
        pass

    File.box, File.pixel_size = box, pixel_size
    chosen = choose_box(make_settings("ab_initio", final_resolution=final), File)
    assert (chosen == expected and chosen * final >= 3 * box * pixel_size) or chosen == box
    assert choose_box(make_settings("ab_initio", box_size=30), File) == 30


def test_settings_in_pixels(begun: Any) -> None:
    made = begun.inputs.algorithm
    assert made.first_limit == pytest.approx(144 / 40) and made.last_limit == pytest.approx(9.6)
    assert made.shift_extent == pytest.approx(2.4) and made.diameter == pytest.approx(0.85 * 24)
    given = read_inputs(settings(begun, particle_diameter=96, shift_extent=12)).algorithm
    assert given.diameter == pytest.approx(16) and given.shift_extent == pytest.approx(2)
    # the circle that images are cut by lets particles lie off their middle
    assert given.grid.window[0] == pytest.approx(10) and given.grid.window[1] <= 12


def test_particles_are_a_random_part_the_same_each_time(begun: Any) -> None:
    rows = begun.inputs.rows
    assert len(rows) == 150 and torch.equal(rows, rows.unique())
    again = read_inputs(begun.inputs.settings)
    assert torch.equal(again.rows, rows)
    assert torch.equal(again.seen.spectrum, begun.inputs.seen.spectrum)
    assert not torch.equal(read_inputs(settings(begun, seed=1)).rows, rows)
    assert torch.equal(torch.cat([rows, again.rest]).sort().values, torch.arange(N))
    seen = again.spectra.read(rows[:3])
    assert torch.allclose(seen.spectrum, again.seen.spectrum[:3], atol=1e-5)


def test_poses_of_the_file_are_not_used(begun: Any) -> None:
    posed = read_inputs(settings(begun, particles=str(begun.data / "truth.star")))
    assert torch.equal(posed.seen.spectrum, begun.inputs.seen.spectrum)
    assert not posed.particles.has_pose and not posed.particles.shift.any()


def changed(folder: Path, source: Path, change: Callable) -> str:
    tables = read_star(source / "particles.star")
    change(tables)
    images = mrcfile.read(source / "particles.mrcs")
    write_stack(folder / "particles.mrcs", [images], N, 24, 6.0)
    write_star(folder / "particles.star", tables)
    return str(folder / "particles.star")


def test_too_few_or_doubled_particles(begun: Any, tmp_path: Path) -> None:
    few = changed(tmp_path, begun.data, lambda t: _take(t, range(99)))
    with pytest.raises(InputError, match="has 99 particles: at least 100"):
        read_inputs(settings(begun, particles=few))
    with pytest.raises(InputError, match=r"has 200 particles: at least 300 .* make 3 maps"):
        read_inputs(settings(begun, n_classes=3, max_particles="auto"))
    changed(tmp_path, begun.data, lambda t: _take(t, [*range(150), *range(3)]))
    with pytest.raises(InputError, match="holds 3 duplicate particles"):
        read_inputs(settings(begun, particles=few))
    classes = dict(rlnClassNumber=np.arange(N) // 150)
    changed(tmp_path, begun.data, lambda t: t["particles"].update(classes))
    with pytest.raises(InputError, match="has 50 particles of class=1: at least 100"):
        read_inputs(settings(begun, particles=few, class_=1))
    assert len(read_inputs(settings(begun, particles=few, class_=0)).particles) == 150


def _take(tables: dict, rows: Any) -> None:
    tables["particles"] = tables["particles"].taken(np.array(list(rows)))


def test_optics_groups_of_two_pixel_sizes(begin: Callable, begun: Any, tmp_path: Path) -> None:
    """A second set of larger pixels: one map, and poses of both."""
    one, other = begun.data, tmp_path / "other"
    more = dict(box_size=20, pixel_size=7.2, n_particles=120, snr=4.0, shift_sigma=3, seed=1)
    simulate.run(make_settings("simulate", out=str(other), **more))
    tables = [read_star(folder / "particles.star") for folder in (one, other)]
    both = {}
    for name in ("optics", "particles"):
        rows = sum(table[name].rows for table in tables)
        both[name] = tables[0][name].taken(np.zeros(rows, int))
        for label in both[name]:
            values = [np.asarray(table[name][label], object) for table in tables]
            if label == "rlnOpticsGroup":
                values = [np.full(len(v), k) for k, v in enumerate(values, 1)]
            if label == "rlnImageName":
                values = [
                    [f"{str(v).split('@')[0]}@{folder}/particles.mrcs" for v in found]
                    for folder, found in zip((one, other), values, strict=True)
                ]
            both[name][label] = [str(v) for found in values for v in found]
    write_star(tmp_path / "both.star", both)
    out = begin(tmp_path / "run", 12, 2, particles=str(tmp_path / "both.star")).out
    volume, size = read_volume(out / "map.mrc")
    truth, _ = read_volume(one / "truth.mrc")
    assert fit_map(volume, truth, 6.0, 15.0, moving_pixel_size=size).correlation > 0.9
    assert len(read_particles(out / "particles.star").particles) == N + 120
