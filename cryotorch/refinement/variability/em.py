"""Components of both half sets by expectation maximisation, side by side; they share poses, mask, and how much is believed of each shell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.fourier.filters import filter_shells
from cryotorch.ops.fourier.image_model import predict
from cryotorch.ops.fourier.slices import projector
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.pose.scores import residual_power, sum_power
from cryotorch.refinement.spectra import Spectra
from cryotorch.refinement.variability.agreement import aligned, component_fsc, shell_power, turned
from cryotorch.refinement.variability.latent import posterior, products
from cryotorch.refinement.variability.settings import VariabilitySettings
from cryotorch.refinement.variability.sums import LatentSums

# Part of the mean map's power that components are taken to have in every shell until the half sets tell.
FIRST_POWER = 0.1
BLIND = 0.6  # of the iterations, in which that is believed
BELIEF = (0.02, 0.999)  # least and most that an FSC is taken for
FIRST_SPREAD, LEAST_SPREAD = 0.1, 0.02  # of the contrast
LEAST_NOISE = 1e-3  # of the noise before

Tell = Callable[[int], object]


@dataclass(frozen=True)
class Poses:
    """Of all images, with the magnification undone.

    Attributes:
        rotation: (n, 3, 3); shift_px: (n, 2); half: (n,) set.
    """

    rotation: Tensor
    shift_px: Tensor
    half: Tensor


@dataclass(frozen=True)
class Model:
    """What images are explained with.

    Attributes:
        maps: (q, d, d, d), the mean and then the components; spread: standard deviation of the contrast.
    """

    maps: Tensor
    spread: float


@dataclass(frozen=True)
class Components:
    """What EM ends with.

    Attributes:
        halves: the models of both half sets, one component like one of the other.
        merged: of all images; curve: (k, s) FSC of the components of the half sets.
    """

    halves: tuple[Model, Model]
    merged: Model
    curve: Tensor


def passes(settings: VariabilitySettings) -> int:
    """How often every image is looked at by ``half_means``, ``measure_noise_`` and ``find_components``."""
    return 3 + settings.iterations


def half_means(spectra: Spectra, poses: Poses, settings: VariabilitySettings, tell: Tell) -> Tensor:
    """The mean maps (2, d, d, d) of the half sets up to the limit, unfiltered."""
    made = []
    for half in (0, 1):
        sums = LatentSums(settings.grid.box, 1, settings.limit, spectra.device)
        for rows in batches(poses, settings, half):
            ones = torch.ones(len(rows), 1, device=spectra.device)
            _insert(sums, spectra, poses, rows, settings, ones, ones[:, None])
            tell(len(rows))
        made.append(sums.solve(torch.zeros(1, settings.grid.box // 2 + 1))[0][0])
    return torch.stack(made)


def measure_noise_(
    spectra: Spectra, poses: Poses, means: Tensor, settings: VariabilitySettings, tell: Tell
) -> None:
    """Give the images the noise that is left of them without the mean maps (2, d, d, d): variability is part of it, which is on the safe side."""
    shells, groups = settings.grid.box // 2 + 1, len(spectra.noise)
    shell = half_plane(settings.grid.box, spectra.device).shell
    power, count = torch.zeros(2, groups, shells, dtype=torch.float64, device=spectra.device)
    for half in (0, 1):
        table = projector(means[half], settings.limit)
        for rows in batches(poses, settings, half):
            images = spectra.of(rows, settings.limit)
            at = _on(rows, poses, spectra)
            left = residual_power(images.spectrum, predict(table, *at, images.gain))
            group = spectra.particles.optics_group[rows].to(spectra.device)
            numbers = shell[: left.shape[1]], shells, group, groups
            # images that are loud count for less
            trust = images.precision * spectra.noise[group][:, numbers[0]]
            power += sum_power(left * trust.square(), *numbers)
            count += sum_power(trust.square(), *numbers)
            tell(len(rows))
    level = (power / count.clamp_min(1e-300)).to(spectra.noise)
    level = torch.maximum(level, LEAST_NOISE * spectra.noise)
    spectra.noise = torch.where(count > 0, level, spectra.noise)


def find_components(
    spectra: Spectra, poses: Poses, means: Tensor, settings: VariabilitySettings, tell: Tell
) -> Components:
    """Components of both half sets from random coordinates on, about the mean maps (2, d, d, d) that they have at first."""
    k, draw = settings.n_components, torch.Generator().manual_seed(settings.seed)
    prior = _first_prior(means, settings)
    models: list[Model] | None = None
    curve = torch.zeros(k, settings.grid.box // 2 + 1)
    for number in range(settings.iterations):
        made, weights = [], []
        for half in (0, 1):
            sums = LatentSums(settings.grid.box, k + 1, settings.limit, spectra.device)
            if models is None:
                moments = _random_pass(sums, spectra, poses, half, settings, draw, tell)
            else:
                moments = _pass(sums, spectra, poses, half, models[half], settings, tell)
            model, weight = _maximised(sums, prior, moments, settings)
            made.append(model)
            weights.append(weight)
        models, curve = _agreed(made, settings)
        if number + 1 >= BLIND * settings.iterations:
            prior = _prior_of(curve, torch.stack(weights).mean(0))
    assert models is not None
    sums = LatentSums(settings.grid.box, k + 1, settings.limit, spectra.device)
    moments = [_pass(sums, spectra, poses, half, models[half], settings, tell) for half in (0, 1)]
    merged, _ = _maximised(sums, prior, _joined(moments), settings)
    return Components((models[0], models[1]), merged, curve)


@dataclass
class _Moments:
    """Sums over images of <z> (q,) and <z z^T> (q, q), and their number."""

    first: Tensor
    second: Tensor
    count: int = 0

    @classmethod
    def none(cls, q: int, device: torch.device) -> _Moments:
        zero = torch.zeros(q, q, dtype=torch.float64, device=device)
        return cls(zero[0].clone(), zero)

    def add(self, mean: Tensor, second: Tensor) -> None:
        self.first += mean.sum(0)
        self.second += second.sum(0)
        self.count += len(mean)


def _joined(moments: list[_Moments]) -> _Moments:
    return _Moments(
        moments[0].first + moments[1].first,
        moments[0].second + moments[1].second,
        moments[0].count + moments[1].count,
    )


def batches(poses: Poses, settings: VariabilitySettings, half: int) -> tuple[Tensor, ...]:
    """Rows (r,) of the images of a half set, so many at once."""
    return torch.nonzero(poses.half == half)[:, 0].split(settings.at_once)


def _on(rows: Tensor, poses: Poses, spectra: Spectra) -> tuple[Tensor, Tensor]:
    return poses.rotation[rows].to(spectra.device), poses.shift_px[rows].to(spectra.device)


def _insert(
    sums: LatentSums,
    spectra: Spectra,
    poses: Poses,
    rows: Tensor,
    settings: VariabilitySettings,
    mean: Tensor,
    second: Tensor,
) -> None:
    images = spectra.of(rows, settings.limit)
    sums.insert(images, *_on(rows, poses, spectra), mean, second)


def _random_pass(
    sums: LatentSums,
    spectra: Spectra,
    poses: Poses,
    half: int,
    settings: VariabilitySettings,
    draw: torch.Generator,
    tell: Tell,
) -> _Moments:
    """Images with random coordinates."""
    q = settings.n_components + 1
    moments = _Moments.none(q, spectra.device)
    for rows in batches(poses, settings, half):
        mean = torch.randn(len(rows), q, generator=draw).double().to(spectra.device)
        mean[:, 0] = 1
        second = mean[:, :, None] * mean[:, None]
        _insert(sums, spectra, poses, rows, settings, mean, second)
        moments.add(mean, second)
        tell(len(rows))
    moments.second[0, 0] += moments.count * FIRST_SPREAD**2
    return moments


def _pass(
    sums: LatentSums,
    spectra: Spectra,
    poses: Poses,
    half: int,
    model: Model,
    settings: VariabilitySettings,
    tell: Tell,
) -> _Moments:
    """E-step of a half set, whose images go into the sums with their posteriors."""
    moments = _Moments.none(len(model.maps), spectra.device)
    tables = [projector(volume, settings.limit) for volume in model.maps]
    for rows in batches(poses, settings, half):
        images = spectra.of(rows, settings.limit)
        at = _on(rows, poses, spectra)
        found = posterior(products(tables, images, *at), model.spread)
        sums.insert(images, *at, found.mean, found.second)
        moments.add(found.mean, found.second)
        tell(len(rows))
    return moments


def _maximised(
    sums: LatentSums, prior: Tensor, moments: _Moments, settings: VariabilitySettings
) -> tuple[Model, Tensor]:
    """The model that the sums say, and the mean weights (k, s) of its components.

    Coordinates keep mean 0 and covariance 1: what they have instead goes into the maps (Liu, Rubin & Wu 1998,
    doi:10.1093/biomet/85.4.755), with which EM takes fewer iterations.
    """
    maps, weight = sums.solve(torch.cat([torch.zeros_like(prior[:1]), prior]))
    first, second = moments.first / moments.count, moments.second / moments.count
    spread = float((second[0, 0] - 2 * first[0] + 1).clamp_min(LEAST_SPREAD**2).sqrt())
    middle = maps[0] + torch.einsum("k,kzyx->zyx", first[1:].to(maps), maps[1:])
    covariance = second[1:, 1:] - first[1:, None] * first[None, 1:]
    factor, bad = torch.linalg.cholesky_ex(covariance)
    components = turned(factor, maps[1:]) if not bad else maps[1:]
    components = _band(components * settings.mask.to(maps), settings)
    return Model(torch.cat([middle[None], components]), spread), weight[1:]


def _band(components: Tensor, settings: VariabilitySettings) -> Tensor:
    """Without what lies below the lowest shell."""
    if settings.lowest <= 0:
        return components
    shells = torch.arange(settings.grid.box // 2 + 1, device=components.device)
    gain = (shells >= settings.lowest).to(components)
    return torch.stack([filter_shells(one, gain) for one in components])


def _agreed(made: list[Model], settings: VariabilitySettings) -> tuple[list[Model], Tensor]:
    """The models with their components turned so that those of both half sets are alike, and the FSC (k, s) of these."""
    a, b = (model.maps[1:] for model in made)
    turns = aligned(a, b)
    a, b = (turned(turn, one) for turn, one in zip(turns, (a, b), strict=True))
    models = [
        Model(torch.cat([model.maps[:1], one]), model.spread)
        for model, one in zip(made, (a, b), strict=True)
    ]
    return models, component_fsc(a, b)


def _first_prior(means: Tensor, settings: VariabilitySettings) -> Tensor:
    """1 / tau^2 (k, s): components have a part of what the mean maps (2, d, d, d) share, at least a hundredth of its largest shell's share of that."""
    power = shell_power(means.mean(0) * settings.mask.to(means))
    tau2 = FIRST_POWER * power.clamp_min(1e-6 * float(power.max()))
    return (1 / tau2).expand(settings.n_components, -1)


def _prior_of(curve: Tensor, weight: Tensor) -> Tensor:
    """1 / tau^2 (k, s) with which a half set's components are multiplied by their FSC (k, s): weight (1 - F) / F."""
    believed = curve.clamp(*BELIEF)
    return weight * (1 - believed) / believed
