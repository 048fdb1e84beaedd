from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryotorch.report import poses
from cryotorch.report.sphere import smooth_density
from cryotorch.results import IterationResult


def test_orientation_scales_start_at_zero(result: IterationResult) -> None:
    figure = poses.orientations(result)
    meshes = [axes.collections[0] for axes in figure.axes if axes.name == "mollweide"]
    assert len(meshes) == 2
    assert [mesh.get_clim()[0] for mesh in meshes] == [0, 0]
    errors = meshes[1].get_array()
    sigma = np.degrees(result.particles.pose_sigma[:, 0].numpy())
    assert float(np.nanmean(errors)) == pytest.approx(float(sigma.mean()), rel=0.05)


def test_density_peaks_where_the_particles_look(make) -> None:
    """All particles seen from rot = 90, tilt = 60 degrees: longitude 90, latitude 30."""
    result = make(n=500)
    rot, tilt = np.radians([90, 60])
    direction = [np.sin(tilt) * np.cos(rot), np.sin(tilt) * np.sin(rot), np.cos(tilt)]
    rotation = torch.zeros(500, 3, 3)
    rotation[:, 2] = torch.tensor(direction, dtype=torch.float32)
    figure = poses.orientations(
        make(
            n=500,
            particles=result.particles.replace(rotation=rotation, pose_sigma=torch.zeros(500, 2)),
        )
    )
    meshes = [axes.collections[0] for axes in figure.axes if axes.name == "mollweide"]
    assert len(meshes) == 1  # no uncertainties, no second panel
    density = np.asarray(meshes[0].get_array()).reshape(90, 180)
    row, column = np.unravel_index(density.argmax(), density.shape)
    assert abs(-90 + 2 * (row + 0.5) - 30) <= 2
    assert abs(-180 + 2 * (column + 0.5) - 90) <= 2


def test_scale_histogram_counts_every_particle_once(result: IterationResult) -> None:
    axes = poses.scales(result).axes[0]
    outlines = axes.patches[::2]
    assert [int(p.get_data().values.sum()) for p in outlines] == [200, 200]
    first = result.particles.scale[::2].numpy()
    names = [t.get_text() for t in axes.get_legend().get_texts()]
    assert names[0] == f"Half set A: {first.mean():.3f} ± {first.std():.3f}"


def test_change_histograms_state_the_median(result: IterationResult) -> None:
    rotation, shift, sigma, _ = poses.pose_changes(result).axes
    assert rotation.get_title("right") == "median 1.25"
    assert shift.get_title("right") == "median 0.4"
    median = np.degrees(float(np.median(result.particles.pose_sigma[:, 0])))
    assert sigma.get_title("right") == f"median {median:.3g}"
    assert int(sigma.patches[0].get_data().values.sum()) == 400


def test_empty_panels_say_why(result: IterationResult) -> None:
    zero, nan = torch.zeros(400), torch.full((400,), torch.nan)
    unknown = result.particles.replace(pose_sigma=torch.zeros(400, 2))
    bare = replace(result, rotation_change=zero, shift_change=nan, particles=unknown)
    notes = [axes.texts[0].get_text() for axes in poses.pose_changes(bare).axes]
    assert notes == ["nothing moved", "not known", "not known", "not known"]


def test_departures_stand_over_the_initial_view_and_as_histograms(make) -> None:
    """The made-up poses moved by 3 + 2 z degrees and 1 + z / 2 Å, z the height of the view."""
    result = make(n=4000)
    figure = poses.departures(result)
    spheres = [axes for axes in figure.axes if axes.name == "mollweide"]
    mean = np.asarray(spheres[0].collections[0].get_array()).reshape(90, 180)
    rows = np.nanmean(mean[48:85], 1)  # where the made-up views are
    height = np.sin(np.radians(np.arange(-89, 90, 2)))
    np.testing.assert_allclose(rows, 3 + 2 * height[48:85], atol=0.3)
    counts = [axes for axes in figure.axes if axes.patches]
    assert [int(axes.patches[0].get_data().values.sum()) for axes in counts] == [4000, 4000]
    median = float(np.median(result.departures.rotation))
    assert counts[0].get_title("right") == f"median {median:.3g}, extent 20"


def test_equal_peaks_are_equally_high(make) -> None:
    """Views along many directions, a particle each: where a voxel of the binning ends must not matter."""
    n = 60
    direction = torch.nn.functional.normalize(
        torch.randn(n, 3, generator=torch.Generator().manual_seed(5)), dim=1
    )
    at = direction.numpy().astype(float)
    peaks = [float(smooth_density(d[None], None, d[None], 0.1)[0]) for d in at]
    assert max(peaks) / min(peaks) < 1.1
