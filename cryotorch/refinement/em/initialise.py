"""Before the first iteration: noise level, and grey scale of the initial map."""

from __future__ import annotations

import torch
from torch import Tensor

from cryotorch.errors import InputError
from cryotorch.findings import Finding, remark
from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.fourier.slices import extract_slices
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.pose.scores import Observation, grid_correlations, pose_terms, shift_scores
from cryotorch.particles import Batch, Particles
from cryotorch.refinement.em.hands import coarse_initial_map
from cryotorch.refinement.em.reference_mask import first_mask, sphere
from cryotorch.refinement.em.schedule import advance
from cryotorch.refinement.em.update import coefficients_per_shell
from cryotorch.refinement.image_terms import observe
from cryotorch.refinement.image_weight import DAMAGED_FACTOR, robust_mean
from cryotorch.refinement.pose_search.search import (
    Reference,
    coarse_candidates,
    polish,
    prepare_reference,
    shift_grid,
)
from cryotorch.refinement.runtime.distributed import Batches
from cryotorch.refinement.settings import EMSettings, ImageGrid
from cryotorch.refinement.state import ConvergenceHistory, State
from cryotorch.refinement.subtraction import without_noise

START_IMAGES = 200  # of each half set, that noise and contrast are estimated from
SCALE_IMAGES = 64  # of them that the grey-scale factor is refined with: each tells it to about 10 %
MIN_POSE_MATCH = 5.0  # standard errors by which images should correlate with their projections
MIN_CONTRAST_MATCH = -5.0  # standard errors by which the inverted map must win to be believed


def initialise_state(
    particles: Particles,
    volume: Tensor,
    batches: Batches,
    settings: EMSettings,
    resolution: float,
    device: torch.device,
    fresh: bool = True,
) -> tuple[State, list[Finding]]:
    """The state before the first iteration, and what there is to say about it.

    ``volume`` (d, d, d), or (2, d, d, d) with a map for each half set. ``fresh=False`` leaves out the estimates, for a state that a checkpoint is about to replace.

    Raises:
        InputError: the images correlate better with the inverted map.
    """
    particles = particles.replace(scale=torch.ones(len(particles)))
    references = (
        initial_reference(volume, settings, resolution, device).expand(2, -1, -1, -1).clone()
    )
    shells = settings.box // 2 + 1
    noise = torch.ones(2, len(particles.optics.voltage_kv), shells, device=device)
    first = advance(ConvergenceHistory(), settings.schedule)
    state = State(particles, references, noise, first.max_shell, first.share)
    if settings.local is not None:
        state.has_pose = torch.ones(len(particles), dtype=torch.bool)
        state.anchor_rotation = state.centre_rotation = particles.rotation.clone()
        state.anchor_shift = state.centre_shift = particles.shift.clone()
    else:
        state.initial_map = coarse_initial_map(volume, settings).to(device)
    first_mask(state, references.mean(0), resolution, settings)
    if not fresh:
        return state, []
    sample = _sample(batches)
    state.noise, state.max_power_ratio, sample = initial_noise(
        particles, sample, settings.grid, device
    )
    if settings.local is not None and settings.local.subtract:
        state.subtracted_reference = outside_mask(volume.to(device), settings, resolution)
    notes = []
    if settings.rescale_reference:
        notes.append(_rescale(state, sample, settings))
    if state.mask is not None:
        state.references = state.references * state.mask
    return state, notes


def _rescale(state: State, sample: list[Batch], settings: EMSettings) -> Finding:
    """Bring the references to the grey scale of the images; what was done."""
    if settings.local is None:
        factor, doubt = grey_scale(state, state.references.mean(0), sample, settings)
    else:
        factor, doubt = grey_scale_at_poses(state, sample, settings)
    if doubt < MIN_CONTRAST_MATCH:
        raise InputError(
            "the particles correlate better with the inverted initial map, their contrast is opposite: "
            "change invert (true is for particles that are dark on bright), or invert the map"
        )
    state.references = state.references * factor
    if state.subtracted_reference is not None:
        state.subtracted_reference = state.subtracted_reference * factor
    match = doubt if settings.local is not None and doubt < MIN_POSE_MATCH else None
    return remark("grey_scale", factor=factor, match=match)


def _sample(batches: Batches) -> list[Batch]:
    """Up to ``START_IMAGES`` images of each half set, evenly spread over the file."""
    sample = []
    for half in (0, 1):
        rows = torch.nonzero(batches.half == half)[:, 0]
        rows = rows[torch.linspace(0, len(rows) - 1, min(START_IMAGES, len(rows))).long()]
        sample.append(Batch(rows, batches.images[rows.tolist()], half))
    return sample


def initial_noise(
    particles: Particles, batches: list[Batch], grid: ImageGrid, device: torch.device
) -> tuple[Tensor, Tensor, list[Batch]]:
    """sigma2 (2, g, s) from the mean power of images, signal included: too large at first, corrected by residuals.

    A group without a sample takes the mean of the others. Both half sets start from the same curve. Images far out are left out of
    the mean, and of the batches that are returned with it and with the limits (bands,) of ``image_weight``.
    """
    groups = len(particles.optics.voltage_kv)
    shells = grid.box // 2 + 1
    flat = torch.ones(groups, shells, device=device)
    shell, per_image = half_plane(grid.box).shell, coefficients_per_shell(grid.box)
    powers = []
    for batch in batches:
        images = observe(particles, batch.index.cpu(), batch.images.to(device), flat, grid)
        power = (images.spectrum.real**2 + images.spectrum.imag**2).double().cpu()
        powers.append(power.new_zeros(len(power), shells).index_add_(1, shell, power) / per_image)
    group = torch.cat([particles.optics_group[batch.index.cpu()] for batch in batches])
    noise, max_ratio, factor = robust_mean(torch.cat(powers), group, groups, grid.box)
    known = torch.bincount(group, minlength=groups).double()
    noise[known == 0] = (known / known.sum()) @ noise
    noise[:, 0] = noise[:, 1]
    noise = torch.maximum(noise, 1e-6 * noise.mean(1, keepdim=True)).clamp_min(1e-30)
    sound = [
        _some(batch, torch.nonzero(which)[:, 0])
        for batch, which in zip(
            batches, (factor >= DAMAGED_FACTOR).split([*map(len, powers)]), strict=True
        )
    ]
    return noise.float().expand(2, -1, -1).clone().to(device), max_ratio.to(device), sound


def initial_reference(
    volume: Tensor, settings: EMSettings, resolution: float, device: torch.device
) -> Tensor:
    """The initial map, (d, d, d) or (2, d, d, d), low-passed and inside the widest soft sphere."""
    return low_pass(volume.to(device), settings.pixel_size, resolution) * sphere(settings, device)


def outside_mask(volume: Tensor, settings: EMSettings, resolution: float) -> Tensor:
    """What maps (2, d, d, d) show outside the mask, ``without_noise``; ``resolution``: Å, of one map for both half sets."""
    clean = without_noise(volume, settings.pixel_size, resolution)
    return clean * sphere(settings, volume.device) * (1 - settings.mask.fsc_mask.to(volume.device))


def grey_scale(
    state: State, volume: Tensor, batches: list[Batch], settings: EMSettings
) -> tuple[float, float]:
    """The factor that brings an external map (d, d, d) to the grey scale of the images, and a doubt about its contrast.

    The first search ranks poses by normalised correlation, which knows no scale; then the factor is the least-squares
    one, sum cross / sum power, over poses of fewer images found with the factor so far, twice. Returns (factor, doubt): how many standard
    errors the images correlate better with the map than with its inverse, negative where the inverse wins.
    """
    device = volume.device
    unit = volume / volume.std().clamp_min(1e-30)
    factor, margins = 1.0, []
    for attempt in range(3):
        reference = prepare_reference(
            unit * factor, state.max_shell, settings.search, settings.group, torch.float32
        )
        plane = half_plane(settings.box, device)
        count = plane.count(reference.coarse_limit)
        cross = power = 0.0
        if attempt == 1:
            batches = [_thinned(batch) for batch in batches]
        for batch in batches:
            rows = batch.index.cpu()
            images = observe(
                state.particles,
                rows,
                batch.images.to(device),
                state.noise[batch.half],
                settings.grid,
            ).limited(count)
            centre = (state.particles.shift[rows] / settings.pixel_size).to(device)
            if attempt == 0:
                candidates, upright, inverted = _correlate(images, reference, centre, settings)
                margins.append(upright - inverted)
                terms = pose_terms(reference.slices, images, *candidates)
            else:
                candidates = coarse_candidates(
                    reference, images, None, centre, settings.search.shift_extent, settings.search
                )
                terms = polish(reference, images, *candidates, settings.search).terms
            cross += float(terms.cross.sum())
            power += float(terms.power.sum())
        factor *= max(cross / max(power, 1e-30), 1e-6)
    margin = torch.cat(margins)
    doubt = float(margin.mean() / margin.std().clamp_min(1e-30)) * len(margin) ** 0.5
    return factor / float(volume.std().clamp_min(1e-30)), doubt


def _thinned(batch: Batch) -> Batch:
    n = len(batch.index)
    return _some(batch, torch.linspace(0, n - 1, min(SCALE_IMAGES, n)).long())


def _some(batch: Batch, rows: Tensor) -> Batch:
    return Batch(batch.index[rows], batch.images[rows], batch.half)


def grey_scale_at_poses(
    state: State, batches: list[Batch], settings: EMSettings
) -> tuple[float, float]:
    """The factor from known poses, sum cross / sum power, and the images' mean correlation in standard errors."""
    cross, power = [], []
    for half in (0, 1):
        reference = prepare_reference(
            state.references[half], state.max_shell, settings.search, None, torch.float32
        )
        for batch in (b for b in batches if b.half == half):
            rows, device = batch.index.cpu(), state.references.device
            images = observe(
                state.particles, rows, batch.images.to(device), state.noise[half], settings.grid
            )
            images = images.limited(half_plane(settings.box).count(state.max_shell))
            rotation = state.particles.rotation[rows].to(device)
            shift_px = (state.particles.shift[rows] / settings.pixel_size).to(device)
            terms = pose_terms(
                reference.slices, images, torch.arange(len(rows), device=device), rotation, shift_px
            )
            cross.append(terms.cross)
            power.append(terms.power)
    cross, power = torch.cat(cross), torch.cat(power)
    match = cross / power.clamp_min(1e-30).sqrt()
    doubt = float(match.mean() / match.std().clamp_min(1e-30)) * len(match) ** 0.5
    return max(float(cross.sum() / power.sum().clamp_min(1e-30)), 1e-6), doubt


def _correlate(images: Observation, reference: Reference, centre: Tensor, settings: EMSettings):
    """Best pose (image, rotation, shift) by normalised correlation; best values for the map and for its inverse."""
    step = max(1.0, images.box / (4 * reference.coarse_limit))
    shifts = centre[:, None] + shift_grid(
        max(settings.search.shift_extent, step), step, centre.device
    )
    upright, inverted = grid_correlations(images, shifts, reference.grid)
    best, which = upright.max(1)
    rotation = reference.grid.rotation[which]
    frequency = half_plane(images.box, centre.device).frequency[: images.spectrum.shape[1]]
    slices = extract_slices(reference.slices, rotation, frequency)
    at = shift_scores(images, shifts, slices[:, None])[:, 0].argmax(1)
    shift = torch.take_along_dim(shifts, at[:, None, None], 1)[:, 0]
    return (torch.arange(len(best), device=centre.device), rotation, shift), best, inverted.amax(1)
