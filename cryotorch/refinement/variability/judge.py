"""Which components are real: those with which one half set's images are better explained by the other half set's components.

For every image of a half set, ln p(y) with the mean map of its own half set and the first j components of the other one, less the same with
j - 1; and less that gain of a control, the components with random phases in the same mask: noise, or what is loud everywhere in the
mask, gains as much with those. Under noise alone the gain is negative on average, as a component that is not there only widens what the
model expects.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.fourier.slices import projector
from cryotorch.ops.resolution.fsc import phase_randomise
from cryotorch.refinement.spectra import Spectra
from cryotorch.refinement.variability.em import Components, Poses, Tell, batches
from cryotorch.refinement.variability.latent import Products, log_evidence, posterior, products
from cryotorch.refinement.variability.settings import VariabilitySettings

LEAST_ERRORS = 5.0  # standard errors of the gain that make a component real


@dataclass(frozen=True)
class Gain:
    """Of every component: mean gain per image (k,) in nats, and that in standard errors (k,)."""

    mean: Tensor
    errors: Tensor

    @property
    def real(self) -> Tensor:
        """(k,) bool."""
        return self.errors >= LEAST_ERRORS


def gains(
    spectra: Spectra,
    poses: Poses,
    image: Tensor,
    found: Components,
    settings: VariabilitySettings,
    tell: Tell,
) -> Gain:
    """What the components of one half set tell of the images of the other; image (n,): which recorded image a row shows."""
    k, parts = settings.n_components, []
    draw = torch.Generator().manual_seed(settings.seed)
    for half in (0, 1):
        own, other = found.halves[half], found.halves[1 - half]
        made = [own.maps[:1], other.maps[1:], _control(other.maps[1:], settings, draw)]
        tables = [projector(volume, settings.limit) for volume in torch.cat(made)]
        first, last = [*range(k + 1)], [0, *range(k + 1, 2 * k + 1)]
        for rows in batches(poses, settings, half):
            images = spectra.of(rows, settings.limit)
            at = (v[rows].to(spectra.device) for v in (poses.rotation, poses.shift_px))
            against = products(tables, images, *at)
            real, control = (
                log_evidence(_of(against, some), own.spread).diff(dim=1) for some in (first, last)
            )
            parts.append((rows, (real - control).cpu()))
            tell(len(rows))
    gain = torch.zeros(len(poses.half), k, dtype=torch.float64)
    for rows, values in parts:
        gain[rows] = values
    return significance(gain, image)


def significance(gain: Tensor, image: Tensor) -> Gain:
    """Mean and standard errors of gains (n, k): rows of one image (n,) are one observation."""
    number = int(image.max()) + 1
    total = torch.zeros(number, gain.shape[1], dtype=gain.dtype).index_add_(0, image, gain)
    mean = total.mean(0)
    error = total.std(0) / number**0.5
    return Gain(gain.mean(0), torch.where(error > 0, mean / error.clamp_min(1e-300), 0.0))


def coordinates(
    spectra: Spectra,
    poses: Poses,
    models: tuple[Tensor, Tensor],
    spread: float,
    settings: VariabilitySettings,
    tell: Tell,
) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates (n, k), their standard deviations (n, k), and contrasts (n,) of all images, with the maps (k + 1, d, d, d) of their half set."""
    n, q = len(poses.half), len(models[0])
    mean, sigma = torch.zeros(2, n, q, dtype=torch.float64)
    for half in (0, 1):
        tables = [projector(volume, settings.limit) for volume in models[half]]
        for rows in batches(poses, settings, half):
            images = spectra.of(rows, settings.limit)
            at = (v[rows].to(spectra.device) for v in (poses.rotation, poses.shift_px))
            told = posterior(products(tables, images, *at), spread)
            mean[rows] = told.mean.cpu()
            sigma[rows] = told.covariance.diagonal(dim1=1, dim2=2).sqrt().cpu()
            tell(len(rows))
    return mean[:, 1:], sigma[:, 1:], mean[:, 0]


def _of(found: Products, some: list[int]) -> Products:
    return Products(found.gram[:, some][:, :, some], found.cross[:, some])


def _control(components: Tensor, settings: VariabilitySettings, draw: torch.Generator) -> Tensor:
    """Components (k, d, d, d) with random phases, in the mask, as strong as they were."""
    made = phase_randomise(components, 1, draw) * settings.mask.to(components)
    power, before = (v.square().sum((1, 2, 3), keepdim=True) for v in (made, components))
    return made * (before / power.clamp_min(1e-300)).sqrt()
