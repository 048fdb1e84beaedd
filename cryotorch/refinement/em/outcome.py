"""What an iteration leaves behind for reports and files."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from cryotorch.findings import Finding
from cryotorch.ops.resolution.sharpening import Sharp
from cryotorch.refinement.em.evaluate import Evaluation
from cryotorch.refinement.em.expectation import EStepResult, Expectation
from cryotorch.refinement.em.update import PoseChanges
from cryotorch.refinement.particle_quality import noise_match, particle_quality
from cryotorch.refinement.pose_search.pose_error import error_factors
from cryotorch.refinement.pose_search.pose_prior import PosePrior
from cryotorch.refinement.settings import EMSettings
from cryotorch.refinement.state import State
from cryotorch.results import Departures, IterationResult


class Made(NamedTuple):
    """What an iteration makes.

    Attributes:
        half_maps: (2, d, d, d) without a filter; full: (d, d, d) of all particles, with one; cutoff: (d, d, d) of that, or None.
        evaluation: what the half maps are worth; sharp: the map for the eye.
    """

    half_maps: Tensor
    full: Tensor
    cutoff: Tensor | None
    evaluation: Evaluation
    sharp: Sharp


def outcome(
    expectation: Expectation,
    e_step: EStepResult,
    changes: PoseChanges,
    made: Made,
    messages: list[Finding],
) -> IterationResult:
    """Add the iteration to the history, and put together what it leaves."""
    state, settings = expectation.state, expectation.settings
    seconds, judged = expectation.clock.seconds, made.evaluation.judged
    change, has_pose = changes.median, state.has_pose
    state.history.append(
        {
            "iteration": state.iteration,
            "resolution": judged.resolution,
            "limit": settings.box * settings.pixel_size / state.convergence.max_shells[-1],
            "particles": float(e_step.updated.sum()),
            "rotation_change": change[0],
            "shift_change": change[1],
            "seconds": sum(seconds.values()),
            **{f"seconds_{phase}": spent for phase, spent in seconds.items()},
        }
    )
    departures = _departures(state, settings)
    warnings = departures.warnings() if departures is not None else []
    updated = e_step.updated > 0
    factors = error_factors(e_step.sigma[updated], e_step.pose_difference[updated])
    sigma = state.particles.pose_sigma * factors
    result = IterationResult(
        iteration=state.iteration,
        pixel_size=settings.pixel_size,
        half_maps=made.half_maps.cpu(),
        map=made.full.cpu(),
        map_sharp=made.sharp.map.cpu(),
        mask_refine=None if state.mask is None else state.mask.cpu(),
        mask_fsc=made.evaluation.mask.cpu(),
        curves={name: c.cpu() for name, c in judged.curves.items()},
        resolutions=judged.resolutions,
        resolution=judged.resolution,
        band=judged.band.cpu(),
        shared=settings.in_common,
        inserted=expectation.insertion_limit,
        noise=state.noise.cpu(),
        guinier=made.sharp.fit.cpu(),
        particles=state.particles.replace(pose_sigma=sigma)[has_pose],
        rotation_change=changes.rotation_change[has_pose],
        shift_change=changes.shift_change[has_pose],
        seconds=dict(seconds),
        history=[dict(h) for h in state.history],
        messages=[*messages, *warnings],
        final=bool(state.stopped),
        group=settings.group.cpu(),
        departures=departures,
        cutoff=None if made.cutoff is None else made.cutoff.cpu(),
        loud=changes.loud,
        noise_factor=changes.noise_factor[has_pose],
    )
    return _with_quality(result, state, settings, e_step)


def _with_quality(
    result: IterationResult, state: State, settings: EMSettings, e_step: EStepResult
) -> IterationResult:
    """The result with what its particles are worth, of a run that ends."""
    if not result.final or not bool((e_step.updated > 0).all()):
        return result
    extent = settings.search.shift_extent
    limit, symmetries = state.convergence.max_shells[-1], len(settings.group)
    noise = noise_match(limit, extent, settings.box, symmetries)
    part = 2 * state.particles.optics_group + state.particles.half
    quality = particle_quality(e_step.cross, e_step.power, e_step.misfit, part, noise)
    messages = [*result.messages, *([quality.found] if quality.found else [])]
    return replace(result, probability=quality.probability, junk=quality.junk, messages=messages)


def _departures(state: State, settings: EMSettings) -> Departures | None:
    if settings.local is None:
        return None
    extent = settings.local.extent
    start = PosePrior(state.anchor_rotation, state.anchor_shift / settings.pixel_size, extent)
    now = state.particles
    turn, offset = start.relative(now.rotation, now.shift / settings.pixel_size)
    return Departures(
        state.anchor_rotation,
        torch.rad2deg(turn.norm(dim=1)),
        offset.norm(dim=1) * settings.pixel_size,
        math.degrees(extent.rotation),
        extent.shift * settings.pixel_size,
    )
