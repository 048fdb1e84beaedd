"""The E-step: what an image says about its coordinates, and how well a model with components explains it.

    y = C P (z_0 V_0 + sum_j z_j V_j) + noise,    z_0 ~ N(1, s^2),  z_j ~ N(0, 1)

V_0 is the mean map and z_0 the contrast of the image. With the weight w = 1 / sigma2 of a complex coefficient the log-likelihood is
-sum w |y - f z|^2, f_j = C P V_j; so the posterior of z is Gaussian with

    precision A = L + 2 G,    mean = A^-1 h,    h = L e_0 + 2 b,    G = sum w Re(f* f),  b = sum w Re(f* y),

L = diag(1 / s^2, 1, .. 1). Tipping & Bishop 1999, doi:10.1111/1467-9868.00196.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.fourier.slices import Projector, extract_slices
from cryotorch.ops.fourier.transforms import half_plane, shift_phase
from cryotorch.ops.pose.scores import Observation


@dataclass(frozen=True)
class Products:
    """Images against the slices of mean and components.

    Attributes:
        gram: (b, q, q) G; cross: (b, q) b; both float64.
    """

    gram: Tensor
    cross: Tensor


@dataclass(frozen=True)
class Posterior:
    """Of the coordinates of images.

    Attributes:
        mean: (b, q); covariance: (b, q, q).
    """

    mean: Tensor
    covariance: Tensor

    @property
    def second(self) -> Tensor:
        """<z z^T> (b, q, q)."""
        return self.covariance + self.mean[:, :, None] * self.mean[:, None]


def products(
    tables: Sequence[Projector], images: Observation, rotation: Tensor, shift_px: Tensor
) -> Products:
    """G and b of images at their poses, rotation (b, 3, 3) and shift_px (b, 2), against q maps."""
    count = images.spectrum.shape[1]
    frequency = half_plane(images.box, rotation.device).frequency[:count]
    root = images.precision.sqrt()
    y = images.spectrum * root * shift_phase(-shift_px, images.box, count)
    slices = torch.stack([extract_slices(table, rotation, frequency) for table in tables], 1)
    f = torch.view_as_real(slices * (root * images.gain)[:, None]).flatten(2)
    cross = f @ torch.view_as_real(y).flatten(1)[:, :, None]
    return Products((f @ f.mT).double(), cross[:, :, 0].double())


def posterior(found: Products, spread: float) -> Posterior:
    """Of the coordinates z, with s = ``spread`` of the contrast."""
    prior, h = _with_prior(found, spread)
    covariance = torch.linalg.inv(prior.diag() + 2 * found.gram)
    return Posterior((covariance @ h[:, :, None])[:, :, 0], covariance)


def log_evidence(found: Products, spread: float) -> Tensor:
    """ln p(y) (b, q) of models with the mean and the first 0, 1, .. q - 1 components, but for what does not depend on the model.

    (h^T A^-1 h - e_0^T L e_0 - ln det A + ln det L) / 2
    """
    prior, h = _with_prior(found, spread)
    precision, told = prior.diag() + 2 * found.gram, []
    for n in range(1, len(prior) + 1):
        factor = torch.linalg.cholesky(precision[:, :n, :n])
        root = torch.linalg.solve_triangular(factor, h[:, :n, None], upper=False)[:, :, 0]
        log_det = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1)
        told.append(root.square().sum(1) - prior[0] - log_det + prior[:n].log().sum())
    return torch.stack(told, 1) / 2


def _with_prior(found: Products, spread: float) -> tuple[Tensor, Tensor]:
    """The diagonal of L (q,), and h (b, q)."""
    prior = torch.ones_like(found.cross[0])
    prior[0] = spread**-2
    h = 2 * found.cross
    return prior, torch.cat([h[:, :1] + prior[0], h[:, 1:]], 1)
