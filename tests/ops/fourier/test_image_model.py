"""The image model against RELION and closed forms."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryotorch.ops.ctf.transfer import contrast_transfer
from cryotorch.ops.fourier.image_model import backproject_terms, predict, project
from cryotorch.ops.fourier.slices import projector, sample
from cryotorch.ops.fourier.transforms import half_plane, pack, unpack
from cryotorch.ops.geometry.rotations import euler_to_matrix, random_rotations

POINTS = Path(__file__).parents[4] / "shared" / "data" / "relion_points"


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


@pytest.mark.skipif(not POINTS.exists(), reason="needs ../shared/data beside the repository")
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
        torch.stack(
            [column("rlnDefocusU"), column("rlnDefocusV"), column("rlnDefocusAngle").deg2rad()], 1
        ),
        torch.zeros(n),
        torch.full((n,), 200.0),
        torch.full((n,), 1.4),
        torch.full((n,), 0.1),
    )
    ours = project(volume, euler_to_matrix(*angles), shift, ctf)
    theirs = pack(images)
    inner = half_plane(64).count(
        30
    )  # RELION's interpolation treats the rim of the transform differently
    ours, theirs = ours[:, :inner], theirs[:, :inner]
    correlation = (ours.conj() * theirs).real.sum(1) / (ours.norm(dim=1) * theirs.norm(dim=1))
    assert correlation.min() > 0.999
    assert 0.95 < (ours.norm() / theirs.norm()) < 1.05  # the grey scale is RELION's too


def test_a_magnification_reads_the_reference_elsewhere():
    """Y(k) = V(R^T M k) for M of each image: by hand a slice through the plane that M stretches."""
    box, draw = 16, torch.Generator().manual_seed(3)
    table = projector(torch.randn(box, box, box, generator=draw))
    rotation, shift = random_rotations(3, draw), torch.randn(3, 2, generator=draw)
    magnification = torch.eye(2) + 0.05 * torch.randn(3, 2, 2, generator=draw)
    count = half_plane(box).count(6)
    k = half_plane(box).frequency[:count]
    ctf = torch.rand(3, count, generator=draw)
    found = predict(table, rotation, shift, ctf, magnification=magnification)
    for i in range(3):
        x, y = k.T
        m = magnification[i]
        plane = torch.stack([m[0, 0] * x + m[0, 1] * y, m[1, 0] * x + m[1, 1] * y, 0 * x])
        value = sample(table, (rotation[i].T @ plane)[None])[0]
        turn = 2 * torch.pi / box * (x * shift[i, 0] + y * shift[i, 1])
        expected = value * ctf[i] * torch.polar(torch.ones_like(turn), turn)
        assert torch.allclose(found[i], expected, atol=1e-4)


def test_backprojection_terms_are_the_adjoint_of_the_prediction():
    """<A x, w y> = <x, numerator> for every slice x, and weights = the diagonal of A^T w A."""
    box, generator = 12, torch.Generator().manual_seed(5)
    rotation = random_rotations(4, generator)
    shift = 3 * torch.randn(4, 2, generator=generator)
    m = len(half_plane(box).frequency)
    ctf, precision = (
        torch.rand(4, m, generator=generator) * 2 - 1,
        torch.rand(4, m, generator=generator),
    )
    scale = 0.5 + torch.rand(4, generator=generator)
    y = torch.randn(4, m, dtype=torch.complex64, generator=generator)
    table = projector(torch.randn(box, box, box, generator=generator))
    bare = predict(table, rotation, torch.zeros(4, 2), torch.ones(4, m))
    prediction = predict(table, rotation, shift, ctf, scale)
    numerator, weight = backproject_terms(y, shift, ctf, precision, scale, box)
    left = (prediction.conj() * precision * y).real.sum(1)
    assert torch.allclose(left, (bare.conj() * numerator).real.sum(1), rtol=1e-4)
    power = (prediction.abs().square() * precision).sum(1)
    assert torch.allclose(power, (bare.abs().square() * weight).sum(1), rtol=1e-4)
