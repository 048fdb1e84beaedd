"""What the state takes over from an iteration: noise, weights of images, poses, scales, and the plan of the next one."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from cryotorch.findings import Finding, remark
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.rotations import rotation_angle
from cryotorch.ops.host import to_device
from cryotorch.refinement import image_weight
from cryotorch.refinement.em import finite, frame_drift, hands
from cryotorch.refinement.em.expectation import EStepResult
from cryotorch.refinement.em.schedule import Stop, advance
from cryotorch.refinement.pose_search.branch_and_bound import Pruning
from cryotorch.refinement.pose_search.stable_poses import update_stability
from cryotorch.refinement.settings import EMSettings
from cryotorch.refinement.state import State
from cryotorch.results import Guinier

SCALE_RANGE = (0.2, 3.0)


class Learnt(NamedTuple):
    """What an iteration changed, of all particles.

    Attributes:
        rotation_change: (n,) degrees modulo symmetry; shift_change: (n,) Å; NaN where there was no pose before.
        loud: row -> what is wrong with an image that hardly counts; noise_factor: (n,) residual power over the noise estimate.
        messages: for the log.
    """

    rotation_change: Tensor
    shift_change: Tensor
    loud: dict[int, str]
    noise_factor: Tensor
    messages: list[Finding]

    @property
    def change(self) -> tuple[float, float]:
        """The median changes, degrees and Å."""
        return float(self.rotation_change.nanmedian()), float(self.shift_change.nanmedian())


def take_over(state: State, found: EStepResult, s: EMSettings) -> Learnt:
    """Noise, weights, poses and scales of the next iteration, from what all ranks ``found``."""
    state.noise = noise_power(found, state.noise)
    most, blank = state.most.cpu(), (found.blank > 0) | (found.seen == 0)
    factor = image_weight.factors(found.ratio, most, blank)
    loud = image_weight.faults(found.ratio, most, found.blank > 0, s.box, s.pixel_size)
    limits = image_weight.coming_limits(found.ratio[~blank])
    state.most = to_device(limits, state.noise.device, state.noise.dtype)
    messages = []
    if s.search.method == "branch_and_bound":
        pruning = Pruning(*map(int, found.pruning.tolist()))
        messages.append(remark("pruning", **pruning.fractions()))
    aligned = state.limit
    changes = _take_poses(state, found, s)
    learnt = Learnt(*changes, loud, image_weight.over_all(found.ratio, s.box), messages)
    turn, _ = learnt.change
    state.course.limits.append(aligned)
    state.course.turns.append(math.radians(turn if math.isfinite(turn) else math.inf))
    state.course.motions.append(_motion(learnt.change, state.particles.pose_sigma[state.known]))
    if s.per_particle_scale and state.iteration > s.scale_start_iteration:
        _update_scale(state, found, factor.amin(1) >= image_weight.LOST)
    return learnt


def plan_next(
    state: State, found: EStepResult, half_maps: Tensor, limit: float, fit: Guinier, s: EMSettings
) -> list[Finding]:
    """Set limit and share of the next iteration, or stop; what there is to say about it.

    Args:
        half_maps: (2, d, d, d); limit: the last shell that was inserted; fit: behind the sharpened map.
    """
    messages = []
    if state.share < 1:
        of = dict(seen=int(found.seen.sum()), particles=len(found.seen))
        messages.append(remark("some_particles", **of))
    step = advance(state.course, s.schedule)
    if isinstance(step, Stop):
        if s.bfactor is None and fit.bfactor is None:
            messages.append(remark("run_not_sharpened", reason=fit.reason))
        messages += hands.closing(state, half_maps, s, limit)
        state.stopped = step.reason.code
        return [*messages, remark("finished", reason=step.reason)]
    finite.check_state(state)
    state.limit, state.share = step.limit, step.share
    if step.refine_ctf:
        state.course.ctf_after.append(state.iteration)
    return messages if step.note is None else [*messages, step.note]


def noise_power(found: EStepResult, before: Tensor) -> Tensor:
    """sigma2 (2, g, s): residual power per coefficient; a group without images keeps its value.

    A shell between its neighbours of few coefficients is as good as they are: shell 0 copies shell 1.
    """
    shells = found.residual.shape[-1]
    per_image = coefficients_per_shell(2 * (shells - 1))
    count = found.count * per_image
    noise = found.residual / count.clamp_min(1e-30)
    noise[..., 0] = noise[..., 1]
    noise = torch.where(count > 0, noise, before.double().cpu())
    least = 1e-6 * noise.mean(-1, keepdim=True)
    return to_device(torch.maximum(noise, least), before.device, before.dtype)


def coefficients_per_shell(box: int) -> Tensor:
    """Number of packed coefficients per shell (d // 2 + 1,); shell 0, which has none, counts 1."""
    return torch.bincount(half_plane(box).shell, minlength=box // 2 + 1).clamp_min(1)


def _take_poses(state: State, found: EStepResult, s: EMSettings) -> tuple[Tensor, Tensor]:
    """Store the poses that all ranks found; returns the changes in degrees (modulo symmetry) and Å, NaN where there was none."""
    old, seen = state.particles, found.seen > 0
    comparable = seen if old.has_pose and state.iteration == 1 else seen & state.known
    angle = torch.full((len(old),), torch.pi)
    for g in s.group.float():
        angle = torch.minimum(angle, rotation_angle(found.rotation, old.rotation @ g))
    move = (found.shift - old.shift).norm(dim=1)
    angle[~comparable], move[~comparable] = torch.nan, torch.nan
    state.particles = old.replace(
        rotation=torch.where(seen[:, None, None], found.rotation, old.rotation),
        shift=torch.where(seen[:, None], found.shift, old.shift),
        pose_sigma=torch.where(seen[:, None], found.sigma, old.pose_sigma),
        has_pose=True,
    )
    if state.anchor_rotation is None:
        state.anchor_rotation, state.anchor_shift = found.rotation.clone(), found.shift.clone()
        state.anchor_rotation[~seen], state.anchor_shift[~seen] = torch.nan, torch.nan
    anchor = state.anchor_rotation[seen], state.anchor_shift[seen]
    drift = frame_drift.estimate_drift(found.rotation[seen], found.shift[seen], *anchor, s.group)
    state.drift_turn, state.drift_move = drift.turn, drift.move
    state.known = state.known | seen
    again = update_stability(state.calm, angle, move / s.pixel_size, found.certain > 0)
    state.calm = torch.where(seen, again, state.calm)
    if s.local is not None:
        _recentre(state, s)
    return torch.rad2deg(angle), move


def _motion(change: tuple[float, float], sigma: Tensor) -> float:
    """Median changes (degrees, Å) in units of the median standard errors (n, 2), the larger one; infinite where there is none."""
    turn, move = sigma.median(0).values.tolist()
    parts = math.radians(change[0]) / max(turn, 1e-12), change[1] / max(move, 1e-12)
    return max(parts) if all(map(math.isfinite, parts)) else math.inf


def _recentre(state: State, s: EMSettings) -> None:
    """Tie a local search to the poses of now, where that is asked for."""
    now, reach = state.particles, s.local.reach
    fulcrum = torch.tensor(reach.fulcrum) * s.pixel_size
    if s.local.recenter_rotation:
        # the image of the fulcrum stays where the old centre has it
        swing = (now.rotation - state.centre_rotation)[:, :2] @ fulcrum
        state.centre_rotation, state.centre_shift = now.rotation.clone(), state.centre_shift + swing
    if s.local.recenter_shift:
        swing = (now.rotation - state.centre_rotation)[:, :2] @ fulcrum
        state.centre_shift = now.shift - swing


def _update_scale(state: State, found: EStepResult, sound: Tensor) -> None:
    """Per-particle scale in closed form, cross / power, shrunk towards 1 by an empirical-Bayes prior.

    The least-squares scale has variance 1 / (2 power). What the scales scatter beyond that is their true spread, and sets
    the prior's width: where particles do not differ, noise does not make them differ. The mean of each half set is 1. Images (n,) that
    are not ``sound`` tell nothing about a scale: theirs is 1.
    """
    seen = (found.seen > 0) & sound
    scale = torch.where(found.seen > 0, 1.0, state.particles.scale)
    spreads = []
    for half in (0, 1):
        mine = seen & (state.particles.half == half)
        cross, power = found.cross[mine], found.power[mine].clamp_min(1e-12)
        mean = cross.sum() / power.sum()
        if not mean > 0:
            continue
        best, variance = cross / power / mean, 1 / (2 * power * mean**2)
        weight = power / power.sum()
        excess = float((weight * ((best - 1) ** 2 - variance)).sum())
        spread = max(excess, 0.0)
        shrunk = (best * spread + variance) / (spread + variance)
        shrunk = shrunk.clamp(*SCALE_RANGE)
        scale[mine] = shrunk / shrunk.mean()
        spreads.append(spread**0.5)
    state.scale_spread = sum(spreads) / max(1, len(spreads))
    state.particles = state.particles.replace(scale=scale)
