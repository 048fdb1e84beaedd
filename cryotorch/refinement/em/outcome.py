"""What an iteration leaves behind for reports and files."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from cryotorch.findings import Finding
from cryotorch.ops.resolution.sharpening import Sharp
from cryotorch.refinement.em.evaluate import Evaluation
from cryotorch.refinement.em.expectation import EStepResult, Expectation
from cryotorch.refinement.em.regularise import Maps
from cryotorch.refinement.em.update import Learnt
from cryotorch.refinement.pose_search.pose_error import error_factors
from cryotorch.refinement.pose_search.pose_prior import PosePrior
from cryotorch.refinement.settings import EMSettings
from cryotorch.refinement.state import State
from cryotorch.results import Departures, IterationResult


class Made(NamedTuple):
    """The maps of an iteration: half maps (2, d, d, d) without a filter, those with one, what they are worth, and the one for the eye."""

    half_maps: Tensor
    maps: Maps
    value: Evaluation
    sharp: Sharp


def outcome(
    state: State,
    step: Expectation,
    found: EStepResult,
    learnt: Learnt,
    made: Made,
    aligned: float,
    messages: list[Finding],
) -> IterationResult:
    """Add the iteration to the history, and put together what it leaves; ``aligned``: its limit, Fourier pixels."""
    s, seconds, judged = step.settings, step.clock.seconds, made.value.judged
    change = learnt.change
    state.history.append(
        {
            "iteration": state.iteration,
            "resolution": judged.resolution,
            "limit": s.box * s.pixel_size / aligned,
            "particles": float(found.seen.sum()),
            "rotation_change": change[0],
            "shift_change": change[1],
            "seconds": sum(seconds.values()),
            **{f"seconds_{phase}": spent for phase, spent in seconds.items()},
        }
    )
    departures = _departures(state, s)
    told = departures.warnings() if departures is not None else []
    factors = error_factors(found.sigma[found.seen > 0], found.moved[found.seen > 0])
    known = state.known
    return IterationResult(
        iteration=state.iteration,
        pixel_size=s.pixel_size,
        half_maps=made.half_maps.cpu(),
        map=made.maps.full.cpu(),
        map_sharp=made.sharp.map.cpu(),
        mask_refine=None if state.mask is None else state.mask.cpu(),
        mask_fsc=made.value.mask.cpu(),
        curves={name: c.cpu() for name, c in judged.curves.items()},
        resolutions=judged.resolutions,
        resolution=judged.resolution,
        band=judged.band.cpu(),
        shared=s.in_common,
        inserted=step.insert_limit,
        noise=state.noise.cpu(),
        guinier=made.sharp.fit.cpu(),
        particles=state.particles.replace(pose_sigma=state.particles.pose_sigma * factors)[known],
        rotation_change=learnt.rotation_change[known],
        shift_change=learnt.shift_change[known],
        seconds=dict(seconds),
        history=[dict(h) for h in state.history],
        messages=[*messages, *told],
        final=bool(state.stopped),
        group=s.group.cpu(),
        departures=departures,
        cutoff=None if made.maps.cutoff is None else made.maps.cutoff.cpu(),
        loud=learnt.loud,
        noise_factor=learnt.noise_factor[known],
    )


def _departures(state: State, s: EMSettings) -> Departures | None:
    if s.local is None:
        return None
    reach = s.local.reach
    start = PosePrior(state.anchor_rotation, state.anchor_shift / s.pixel_size, reach)
    now = state.particles
    turn, offset = start.relative(now.rotation, now.shift / s.pixel_size)
    return Departures(
        state.anchor_rotation,
        torch.rad2deg(turn.norm(dim=1)),
        offset.norm(dim=1) * s.pixel_size,
        math.degrees(reach.rotation),
        reach.shift * s.pixel_size,
    )
