"""Values of a column as a mixture of Gaussians, and which of these each value comes from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FITTED = 200_000  # values that the Gaussians are fitted to at most
STEPS, CALM = 500, 1e-7  # of the fit, and the change of the mean log-likelihood that ends it


class Mixture(NamedTuple):
    """Gaussians in the order of their means.

    Attributes:
        weight, mean, sigma: (k,) of each; gain: by how much the Bayesian information criterion prefers them to one Gaussian, per value in nats.
    """

    weight: np.ndarray
    mean: np.ndarray
    sigma: np.ndarray
    gain: float

    def component(self, values: np.ndarray) -> np.ndarray:
        """The most probable Gaussian (n,) of each value (n,), from 0."""
        return np.argmax(_log_joint(values, self.weight, self.mean, self.sigma), axis=0)


def fit_mixture(values: np.ndarray, components: int, seed: int = 0) -> Mixture:
    """Gaussians fitted to values (n,) by expectation maximisation (Dempster 1977, doi:10.1111/j.2517-6161.1977.tb01600.x), from quantiles.

    No Gaussian becomes narrower than a thousandth of the values' standard deviation. Raises ValueError for fewer different values than twice the
    Gaussians.
    """
    if len(np.unique(values)) < 2 * components:
        raise ValueError(f"{len(np.unique(values))} different values for {components} Gaussians.")
    if len(values) > FITTED:
        values = np.random.default_rng(seed).choice(values, FITTED, replace=False)
    n, spread = len(values), values.std()
    parts = np.array_split(np.sort(values), components)
    mean = np.array([part.mean() for part in parts])
    sigma = np.maximum([part.std() for part in parts], 0.1 * spread)
    weight = np.full(components, 1 / components)
    last = -np.inf
    for _ in range(STEPS):
        joint = _log_joint(values, weight, mean, sigma)
        total = np.logaddexp.reduce(joint, axis=0)
        likelihood = float(total.mean())
        if likelihood - last < CALM:
            break
        last = likelihood
        share = np.exp(joint - total)
        count = share.sum(1) + 1e-12
        weight, mean = count / n, share @ values / count
        square = (share * (values - mean[:, None]) ** 2).sum(1) / count
        sigma = np.maximum(np.sqrt(square), 1e-3 * spread)
    one = float(_log_joint(values, np.ones(1), values.mean(keepdims=True), spread[None]).mean())
    gain = last - one - 3 * (components - 1) * np.log(n) / (2 * n)
    order = np.argsort(mean)
    return Mixture(weight[order], mean[order], sigma[order], float(gain))


def _log_joint(
    values: np.ndarray, weight: np.ndarray, mean: np.ndarray, sigma: np.ndarray
) -> np.ndarray:
    """log(weight N(value; mean, sigma)), (k, n)."""
    z = (values - mean[:, None]) / sigma[:, None]
    return np.log(weight / sigma)[:, None] - 0.5 * z**2 - 0.5 * np.log(2 * np.pi)
