"""The image model against RELION and closed forms."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryotorch.ops.ctf import contrast_transfer
from cryotorch.ops.forward import project
from cryotorch.ops.fourier import half_plane, pack, unpack
from cryotorch.ops.rotations import euler_to_matrix, random_rotations
from cryotorch.ops.slices import (
    accumulator,
    dense,
    extract_slices,
    grid_to_volume,
    insert_slices_,
    projector,
    slices_with_gradient,
)

POINTS = Path(__file__).parents[3] / "shared" / "data" / "relion_points"


def gaussian_volume(box, centre, sigma):
    x = torch.arange(box) - box // 2
    r2 = (x[:, None, None] - centre[2]) ** 2 + (x[:, None] - centre[1]) ** 2 + (x - centre[0]) ** 2
    return torch.exp(-r2 / (2 * sigma**2))


def test_gaussian_projects_to_gaussian():
    """A Gaussian at r projects to a Gaussian at (R r)_xy - s of height sqrt(2 pi) sigma, also far off the centre."""
    box, sigma, centre = 48, 1.7, torch.tensor([9.0, -11.0, 8.0])
    rotation = random_rotations(20, torch.Generator().manual_seed(1))
    shift = 4 * torch.rand(20, 2, generator=torch.Generator().manual_seed(2)) - 2
    images = unpack(project(gaussian_volume(box, centre, sigma), rotation, shift), box)
    at = (rotation @ centre)[:, :2] - shift
    x = torch.arange(box) - box // 2
    r2 = (x - at[:, 0, None, None]) ** 2 + (x[:, None] - at[:, 1, None, None]) ** 2
    expected = (2 * torch.pi) ** 0.5 * sigma * torch.exp(-r2 / (2 * sigma**2))
    expected = expected - expected.mean((1, 2), keepdim=True)
    assert (images - expected).abs().max() < 0.03 * expected.max()


@pytest.mark.skipif(not POINTS.exists(), reason="shared test data are absent")
def test_agrees_with_relion_project():
    text = (POINTS / "relion_proj_batch_pfac2.star").read_text()
    labels = [m.group(1) for m in re.finditer(r"^_(\w+)", text, re.M)]
    body = [line.split() for line in text.splitlines() if "@" in line]
    names = labels[-len(body[0]) :]
    column = lambda name: torch.tensor([float(row[names.index(name)]) for row in body])  # noqa: E731
    with gzip.open(POINTS / "pointmass.mrc.gz") as f:
        raw = f.read()
    volume = torch.from_numpy(np.frombuffer(raw[1024:], "<f4").reshape(64, 64, 64).copy())
    images = torch.from_numpy(mrcfile.read(POINTS / "relion_proj_batch_pfac2.mrcs").copy())
    angles = [column(f"rlnAngle{n}").deg2rad() for n in ("Rot", "Tilt", "Psi")]
    shift = torch.stack([column("rlnOriginXAngst"), column("rlnOriginYAngst")], 1) / 3.54
    n = len(body)
    ctf = contrast_transfer(
        half_plane(64).frequency / (64 * 3.54),
        torch.stack([column("rlnDefocusU"), column("rlnDefocusV"), column("rlnDefocusAngle").deg2rad()], 1),
        torch.zeros(n),
        torch.full((n,), 200.0),
        torch.full((n,), 1.4),
        torch.full((n,), 0.1),
    )
    ours = project(volume, euler_to_matrix(*angles), shift, ctf)
    theirs = pack(images)
    inner = half_plane(64).count(30)  # RELION's interpolation treats the rim of the transform differently
    ours, theirs = ours[:, :inner], theirs[:, :inner]
    correlation = (ours.conj() * theirs).real.sum(1) / (ours.norm(dim=1) * theirs.norm(dim=1))
    assert correlation.min() > 0.999
    assert 0.95 < (ours.norm() / theirs.norm()) < 1.05  # the grey scale is RELION's too


def test_insertion_is_the_adjoint_of_extraction():
    """<extract(V), y> = <V, insert(y)> over the padded half transform, x = 0 plane included."""
    box, generator = 16, torch.Generator().manual_seed(3)
    volume = torch.randn(box, box, box, generator=generator)
    rotation = random_rotations(7, generator)
    frequency = half_plane(box).frequency[: half_plane(box).count(box / 2 - 1)]
    table = projector(volume, padding=1, correct=False)
    y = torch.randn(7, len(frequency), dtype=torch.complex64, generator=generator)
    sums = accumulator(box, padding=1)
    insert_slices_(sums, y, torch.ones_like(y.real), rotation, frequency)
    numerator, weight = dense(sums)
    left = 2 * (extract_slices(table, rotation, frequency).conj() * y).real.sum()
    right = (volume * grid_to_volume(numerator, box, box, correct=False) * box).sum()
    assert left == pytest.approx(float(right), rel=1e-4)
    whole = 2 * weight[:, :, 1:-1].sum() + weight[:, :, 0].sum()
    assert float(whole) == pytest.approx(2 * y.numel(), rel=1e-5)


def test_slice_gradient_against_finite_differences():
    from cryotorch.ops.rotations import from_rotation_vector

    box = 24
    volume = gaussian_volume(box, (2.0, -3.0, 1.0), 2.0) - 0.5 * gaussian_volume(box, (-4.0, 1.0, 3.0), 1.5)
    table = projector(volume)
    rotation = random_rotations(5, torch.Generator().manual_seed(4))
    frequency = half_plane(box).frequency
    value, gradient = slices_with_gradient(table, rotation, frequency)
    assert torch.allclose(torch.view_as_complex(value), extract_slices(table, rotation, frequency), atol=1e-5)
    h = 0.02
    for axis in range(3):
        w = torch.zeros(3)
        w[axis] = h
        plus = extract_slices(table, from_rotation_vector(w) @ rotation, frequency)
        minus = extract_slices(table, from_rotation_vector(-w) @ rotation, frequency)
        numeric = (plus - minus) / (2 * h)
        error = (torch.view_as_complex(gradient[:, axis].contiguous()) - numeric).norm() / numeric.norm()
        assert error < 0.12  # a trilinear function has kinks; the mean over its cells is what counts
