"""The E-step against the same posterior and evidence by dense covariance matrices of the images."""

from __future__ import annotations

import torch

from cryotorch.ops.fourier.image_model import predict
from cryotorch.ops.fourier.slices import projector
from cryotorch.ops.fourier.transforms import half_plane, pack, shift_phase
from cryotorch.ops.geometry.rotations import random_rotations
from cryotorch.ops.pose.scores import Observation
from cryotorch.refinement.variability.latent import Products, log_evidence, posterior, products

BOX, LIMIT, SPREAD = 12, 4.0, 0.3


def example(b: int = 3, q: int = 3):
    draw = torch.Generator().manual_seed(5)
    maps = torch.randn(q, BOX, BOX, BOX, generator=draw)
    tables = [projector(volume) for volume in maps]
    count = half_plane(BOX).count(LIMIT)
    spectrum = pack(torch.randn(b, BOX, BOX, generator=draw))[:, :count] * 5
    gain = torch.rand(b, count, generator=draw) - 0.3
    precision = 0.02 + torch.rand(b, count, generator=draw) / 30
    rotation, shift_px = random_rotations(b, draw).float(), torch.randn(b, 2, generator=draw)
    images = Observation(spectrum, gain, precision, BOX)
    return tables, images, rotation, shift_px


def dense(tables, images: Observation, rotation, shift_px):
    """F (b, 2m, q) and y (b, 2m) in units in which the noise has variance 1, float64, by slices one by one."""
    predicted = torch.stack(
        [predict(table, rotation, shift_px, images.gain) for table in tables], 2
    )
    # a complex coefficient of variance 1 / w has two numbers of variance 1 / 2w
    unit = (2 * images.precision).sqrt().double()
    f = torch.view_as_real(predicted).double() * unit[:, :, None, None]
    y = torch.view_as_real(images.spectrum).double() * unit[:, :, None]
    return f.transpose(2, 3).flatten(1, 2), y.flatten(1)


def test_posterior_and_evidence_are_those_of_the_dense_gaussian() -> None:
    given = example()
    found = products(*given)
    f, y = dense(*given)
    q = f.shape[2]
    prior = torch.ones(q).double()
    prior[0] = SPREAD**2
    middle = torch.eye(q).double()[0]
    told = posterior(found, SPREAD)
    evidence = log_evidence(found, SPREAD)
    white = []
    for image in range(len(y)):
        whole = f[image] @ prior.diag() @ f[image].T + torch.eye(len(y[image])).double()
        gain = prior.diag() @ f[image].T @ torch.linalg.inv(whole)
        mean = middle + gain @ (y[image] - f[image] @ middle)
        covariance = prior.diag() - gain @ f[image] @ prior.diag()
        assert torch.allclose(told.mean[image], mean, rtol=1e-4, atol=1e-4)
        assert torch.allclose(told.covariance[image], covariance, rtol=1e-4, atol=1e-5)
        second = covariance + mean[:, None] * mean
        assert torch.allclose(told.second[image], second, rtol=1e-4, atol=1e-4)
        values = []
        for n in range(1, q + 1):
            part = f[image][:, :n]
            whole = part @ prior[:n].diag() @ part.T + torch.eye(len(y[image])).double()
            normal = torch.distributions.MultivariateNormal(part @ middle[:n], whole)
            values.append(normal.log_prob(y[image]))
        white.append(torch.stack(values))
    # both leave out the same constant
    expected = torch.stack(white).diff(dim=1)
    assert expected.abs().max() > 0.5
    assert torch.allclose(evidence.diff(dim=1), expected, rtol=1e-3, atol=1e-3)


def test_without_signal_the_posterior_is_the_prior() -> None:
    nothing = Products(torch.zeros(2, 3, 3).double(), torch.zeros(2, 3).double())
    told = posterior(nothing, SPREAD)
    assert torch.allclose(told.mean, torch.tensor([1.0, 0, 0]).double().expand(2, 3))
    assert torch.allclose(told.covariance[0], torch.tensor([SPREAD**2, 1, 1]).double().diag())
    assert torch.allclose(log_evidence(nothing, SPREAD).diff(dim=1), torch.zeros(2, 2).double())


def test_shifts_are_those_of_the_image_model() -> None:
    tables, images, rotation, shift_px = example()
    one = Observation(
        images.spectrum * shift_phase(-shift_px, BOX, images.gain.shape[1]),
        images.gain,
        images.precision,
        BOX,
    )
    a = products(tables, images, rotation, shift_px)
    b = products(tables, one, rotation, torch.zeros_like(shift_px))
    assert torch.allclose(a.cross, b.cross, rtol=1e-4, atol=1e-3)
