"""The steps: mean maps of the half sets, mask and limit, components of each half set, the judgement, and coordinates."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from cryotorch.findings import Finding, remark
from cryotorch.jobs.components.inputs import MIN_LIMIT, ComponentInput
from cryotorch.jobs.config.parse import require
from cryotorch.jobs.inputs import damage
from cryotorch.jobs.inputs.map_grid import Grid
from cryotorch.jobs.inputs.masks import load_mask
from cryotorch.jobs.stages.pace import Pace
from cryotorch.ops.masks.soft import density_mask, soft_sphere
from cryotorch.ops.resolution.fsc import crossing_shell, masked_correlation
from cryotorch.refinement.backproject import noise_sample
from cryotorch.refinement.em.initialise import initial_noise
from cryotorch.refinement.spectra import Spectra
from cryotorch.refinement.variability.agreement import explained, faults_of_images, principal
from cryotorch.refinement.variability.em import (
    Components,
    Tell,
    find_components,
    half_means,
    measure_noise_,
    passes,
)
from cryotorch.refinement.variability.judge import LEAST_ERRORS, Gain, coordinates, gains
from cryotorch.refinement.variability.settings import VariabilitySettings
from cryotorch.report.sentences import line

log = logging.getLogger("cryotorch")
# The mask that is made: density above this part of the 99.99th percentile at 15 Å, wide enough for parts that move.
MASK_THRESHOLD, MASK_NEAR, MASK_FAR, MASK_LOW_PASS = 0.2, 10.0, 25.0, 15.0
SPHERE = (0.7, 0.9)  # of half the box, where there is no density to make a mask of
MOST_BY_FAULTS = 0.5  # of a component's power: what faults of the images explain
COARSE = 20.0  # Å: what half sets agree on no further may be background, ice or neighbours
MOST_SIGMA = 0.9  # error of a coordinate whose spread is 1, for a particle to be sorted by it


@dataclass(frozen=True)
class Made:
    """Components as they are reported, those that are real first.

    Attributes:
        mean: (d, d, d); components: (k, d, d, d), one standard deviation each; variance: (k,) their squared norms.
        real: (k,) bool; gain: of each; curve: (k, s) FSC of the half sets' components before those that are real were turned into orthogonal ones.
        by_faults: (k,) part of the power that faults of the images explain.
        position, sigma: (n, k) coordinates of the particles and their standard deviations.
        contrast: standard deviation of the contrast that is left in the images.
        mask: (d, d, d); lowest, limit: Fourier pixels that were compared; warnings, damaged: what to look at.
    """

    mean: Tensor
    components: Tensor
    variance: Tensor
    real: Tensor
    gain: Gain
    curve: Tensor
    by_faults: Tensor
    position: Tensor
    sigma: Tensor
    contrast: float
    mask: Tensor
    lowest: float
    limit: float
    warnings: list[Finding]
    damaged: dict[str, str]

    @property
    def columns(self) -> list[str]:
        """Of the coordinates in the list of particles."""
        return [f"cryotorchComponent{number + 1}" for number in range(len(self.components))]


def analysed(read: ComponentInput) -> Made:
    """The components of all particles, judged."""
    how, n = read.how, len(read.particles)
    with torch.no_grad(), tqdm(unit=" particles", disable=None) as bar:
        bar.total = n * (passes(how) + 2)
        first = 2.2 * n  # means and noise, which are quick, and the first of the components
        tell = Pace(bar.update, bar.total, first, read.settings.dry_run)
        noise, most, _ = initial_noise(
            read.particles, noise_sample(read.images, read.particles), how.grid, read.device
        )
        spectra = Spectra(read.images, read.particles, how.grid, noise[0], most, how.limit)
        means = half_means(spectra, read.poses, how, tell)
        how, warnings = _arranged(read, means)
        warnings = [*read.earlier, *warnings]
        measure_noise_(spectra, read.poses, means, how, tell)
        found = find_components(spectra, read.poses, means, how, tell)
        gain = gains(spectra, read.poses, read.image, found, how, tell)
        made = _reported(read, spectra, found, gain, how, tell)
    loud = spectra.watch.faults(how.grid.box, how.grid.pixel_size)
    damaged = damage.damaged_images(read.images, loud)
    if damaged:
        warnings.append(damage.finding(damaged, n))
    warnings += _verdict(made, read.edge)
    for warning in warnings:
        log.log(logging.WARNING if warning.serious else logging.INFO, line(warning))
    serious = [warning for warning in warnings if warning.serious]
    return replace(made, warnings=serious, damaged=damaged)


def _arranged(read: ComponentInput, means: Tensor) -> tuple[VariabilitySettings, list[Finding]]:
    """The settings with mask and limit, and what is to be said of these; means (2, d, d, d)."""
    how, settings, found = read.how, read.settings, list[Finding]()
    box, pixel_size = how.grid.box, how.grid.pixel_size
    if settings.mask is not None:
        mask, found = load_mask(settings.mask, Grid(box, pixel_size))
    else:
        mask = soft_sphere(box, SPHERE[0] * box / 2, (SPHERE[1] - SPHERE[0]) * box / 2)
        try:
            at = MASK_THRESHOLD, MASK_NEAR, MASK_FAR, MASK_LOW_PASS
            mask = density_mask(means.mean(0), pixel_size, *at)
        except ValueError as error:
            found.append(Finding("variability_mask_sphere", reason=str(error)))
    mask = mask.to(means)
    agree = float(crossing_shell(masked_correlation(means, mask)))
    limit = how.limit
    if settings.max_resolution is None:
        limit = min(limit, agree)
        requirement = (
            f"the half maps agree to {read.edge / max(agree, 1e-9):.3g} Å only, which shows no parts: check poses and invert, or "
            "name the detail that shall be compared"
        )
        require(limit >= MIN_LIMIT, "max_resolution", None, requirement)
    elif agree < limit - 1:
        told = dict(asked=read.edge / limit, agree=read.edge / max(agree, 1.0))
        found.append(Finding("variability_too_fine", **told))
    finest = read.edge / limit
    log.info("Components are looked for in detail down to %.3g Å, in %.3g %% of the box",
             *(finest, 100 * float(mask.mean())))  # fmt: skip
    return replace(how, mask=mask, limit=limit), found


def _reported(
    read: ComponentInput,
    spectra: Spectra,
    found: Components,
    gain: Gain,
    how: VariabilitySettings,
    tell: Tell,
) -> Made:
    """Components in the order of the report, and the coordinates."""
    order = torch.cat([torch.nonzero(gain.real)[:, 0], torch.nonzero(~gain.real)[:, 0]])
    count = int(gain.real.sum())
    mean, components = (
        found.merged.maps[0],
        found.merged.maps[1:][order.to(found.merged.maps.device)],
    )
    shared, rest = principal(components[:count]), principal(components[count:])
    components = torch.cat([shared[0], rest[0]])
    maps = torch.cat([mean[None], components])
    at = spectra, read.poses, (maps, maps), found.merged.spread, how, tell
    position, sigma, contrast = coordinates(*at)
    modes = faults_of_images(mean, how.mask)
    return Made(
        mean=mean.cpu(),
        components=components.cpu(),
        variance=torch.cat([shared[1], rest[1]]).cpu(),
        real=gain.real[order],
        gain=Gain(gain.mean[order], gain.errors[order]),
        curve=found.curve[order.to(found.curve.device)].cpu(),
        by_faults=explained(components, modes).cpu(),
        position=position,
        sigma=sigma,
        contrast=float(contrast.std()),
        mask=how.mask.cpu(),
        lowest=how.lowest,
        limit=how.limit,
        warnings=[],
        damaged={},
    )


def resolution(made: Made, number: int, edge: float) -> float:
    """Å up to which the half sets agree on a component; infinite where they do not."""
    curve = made.curve[number].clone()
    curve[: math.ceil(made.lowest) + 1] = 1  # where components have nothing
    shell = min(float(crossing_shell(curve)), made.limit)
    return edge / shell if shell > 0 else math.inf


def _verdict(made: Made, edge: float) -> list[Finding]:
    """Which components are real, and those that need be no motion; ``edge``: Å, of the box."""
    k, count = len(made.real), int(made.real.sum())
    errors = [float(value) for value in made.gain.errors]
    if not count:
        return [Finding("no_component", looked=k, best=max(errors), needed=LEAST_ERRORS)]
    found = [remark("components_real", real=count, looked=k, needed=LEAST_ERRORS)]
    for number in range(count):
        part = float(made.by_faults[number])
        if part > MOST_BY_FAULTS:
            found.append(Finding("component_by_faults", number=number + 1, part=part))
        sigma = float(made.sigma[:, number].mean())
        if sigma > MOST_SIGMA:
            found.append(Finding("component_faint", number=number + 1, sigma=sigma))
        reached = resolution(made, number, edge)
        if reached > COARSE:
            found.append(Finding("component_coarse", number=number + 1, reached=reached))
    return found
