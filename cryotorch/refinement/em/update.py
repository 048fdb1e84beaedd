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
from cryotorch.refinement.em.expectation import EStepResult, Expectation
from cryotorch.refinement.em.schedule import Stop, advance
from cryotorch.refinement.pose_search.branch_and_bound import Pruning
from cryotorch.refinement.pose_search.stable_poses import update_stability
from cryotorch.refinement.settings import EMSettings
from cryotorch.refinement.state import State
from cryotorch.results import Guinier

SCALE_RANGE = (0.2, 3.0)


class PoseChanges(NamedTuple):
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
    def median(self) -> tuple[float, float]:
        """The median changes, degrees and Å."""
        return float(self.rotation_change.nanmedian()), float(self.shift_change.nanmedian())


def take_over(state: State, e_step: EStepResult, settings: EMSettings) -> PoseChanges:
    """Noise, weights, poses and scales of the next iteration, from what the E-steps of all ranks estimated."""
    state.noise = noise_power(e_step, state.noise)
    max_ratio, blank = state.max_power_ratio.cpu(), e_step.blank > 0
    left_out = blank | (e_step.updated == 0)
    factor = image_weight.factors(e_step.ratio, max_ratio, left_out)
    loud = image_weight.faults(e_step.ratio, max_ratio, blank, settings.box, settings.pixel_size)
    coming = image_weight.coming_max_ratio(e_step.ratio[~left_out])
    state.max_power_ratio = to_device(coming, state.noise.device, state.noise.dtype)
    messages = []
    if settings.search.method == "branch_and_bound":
        pruning = Pruning(*map(int, e_step.pruning.tolist()))
        messages.append(remark("pruning", **pruning.fractions()))
    noise_factor = image_weight.over_all(e_step.ratio, settings.box)
    changes = PoseChanges(*_take_poses(state, e_step, settings), loud, noise_factor, messages)
    turn, _ = changes.median
    state.convergence.max_shells.append(state.max_shell)
    state.convergence.turns.append(math.radians(turn if math.isfinite(turn) else math.inf))
    sigma = state.particles.pose_sigma[state.has_pose]
    state.convergence.motions.append(_motion(changes.median, sigma))
    if settings.per_particle_scale and state.iteration > settings.scale_start_iteration:
        _update_scale(state, e_step, factor.amin(1) >= image_weight.DAMAGED_FACTOR)
    return changes


def plan_next(
    expectation: Expectation, e_step: EStepResult, half_maps: Tensor, fit: Guinier
) -> list[Finding]:
    """Set ``max_shell`` and share of the next iteration, or stop; what there is to say about it.

    Args:
        half_maps: (2, d, d, d); fit: behind the sharpened map.
    """
    state, settings = expectation.state, expectation.settings
    messages = []
    if state.share < 1:
        numbers = dict(seen=int(e_step.updated.sum()), particles=len(e_step.updated))
        messages.append(remark("some_particles", **numbers))
    decision = advance(state.convergence, settings.schedule)
    if isinstance(decision, Stop):
        if settings.bfactor is None and fit.bfactor is None:
            messages.append(remark("run_not_sharpened", reason=fit.reason))
        messages += hands.judge_hands(state, half_maps, settings, expectation.insertion_limit)
        state.stopped = decision.reason.code
        return [*messages, remark("finished", reason=decision.reason)]
    finite.check_state(state)
    state.max_shell, state.share = decision.max_shell, decision.share
    if decision.refine_ctf:
        state.convergence.ctf_after.append(state.iteration)
    return messages if decision.note is None else [*messages, decision.note]


def noise_power(e_step: EStepResult, before: Tensor) -> Tensor:
    """sigma2 (2, g, s): residual power per coefficient; a group without images keeps its value.

    A shell between its neighbours of few coefficients is as good as they are: shell 0 copies shell 1.
    """
    shells = e_step.residual.shape[-1]
    per_image = coefficients_per_shell(2 * (shells - 1))
    count = e_step.count * per_image
    noise = e_step.residual / count.clamp_min(1e-30)
    noise[..., 0] = noise[..., 1]
    noise = torch.where(count > 0, noise, before.double().cpu())
    least = 1e-6 * noise.mean(-1, keepdim=True)
    return to_device(torch.maximum(noise, least), before.device, before.dtype)


def coefficients_per_shell(box: int) -> Tensor:
    """Number of packed coefficients per shell (d // 2 + 1,); shell 0, which has none, counts 1."""
    return torch.bincount(half_plane(box).shell, minlength=box // 2 + 1).clamp_min(1)


def _take_poses(state: State, e_step: EStepResult, settings: EMSettings) -> tuple[Tensor, Tensor]:
    """Store the poses that all ranks found; returns the changes in degrees (modulo symmetry) and Å, NaN where there was none."""
    old, updated = state.particles, e_step.updated > 0
    comparable = updated if old.has_pose and state.iteration == 1 else updated & state.has_pose
    angle = torch.full((len(old),), torch.pi)
    for g in settings.group.float():
        angle = torch.minimum(angle, rotation_angle(e_step.rotation, old.rotation @ g))
    move = (e_step.shift - old.shift).norm(dim=1)
    angle[~comparable], move[~comparable] = torch.nan, torch.nan
    state.particles = old.replace(
        rotation=torch.where(updated[:, None, None], e_step.rotation, old.rotation),
        shift=torch.where(updated[:, None], e_step.shift, old.shift),
        pose_sigma=torch.where(updated[:, None], e_step.sigma, old.pose_sigma),
        has_pose=True,
    )
    if state.anchor_rotation is None:
        state.anchor_rotation, state.anchor_shift = e_step.rotation.clone(), e_step.shift.clone()
        state.anchor_rotation[~updated], state.anchor_shift[~updated] = torch.nan, torch.nan
    anchor = state.anchor_rotation[updated], state.anchor_shift[updated]
    poses = e_step.rotation[updated], e_step.shift[updated]
    drift = frame_drift.estimate_drift(*poses, *anchor, settings.group)
    state.drift_turn, state.drift_move = drift.turn, drift.move
    state.has_pose = state.has_pose | updated
    before, certain = state.stable_iterations, e_step.certain > 0
    now = update_stability(before, angle, move / settings.pixel_size, certain)
    state.stable_iterations = torch.where(updated, now, before)
    if settings.local is not None:
        _recentre(state, settings)
    return torch.rad2deg(angle), move


def _motion(change: tuple[float, float], sigma: Tensor) -> float:
    """Median changes (degrees, Å) in units of the median standard errors (n, 2), the larger one; infinite where there is none."""
    turn, move = sigma.median(0).values.tolist()
    parts = math.radians(change[0]) / max(turn, 1e-12), change[1] / max(move, 1e-12)
    return max(parts) if all(map(math.isfinite, parts)) else math.inf


def _recentre(state: State, settings: EMSettings) -> None:
    """Tie a local search to the poses of now, where that is asked for."""
    now, extent = state.particles, settings.local.extent
    fulcrum = torch.tensor(extent.fulcrum) * settings.pixel_size
    if settings.local.recenter_rotation:
        # the image of the fulcrum stays where the old centre has it
        swing = (now.rotation - state.centre_rotation)[:, :2] @ fulcrum
        state.centre_rotation, state.centre_shift = now.rotation.clone(), state.centre_shift + swing
    if settings.local.recenter_shift:
        swing = (now.rotation - state.centre_rotation)[:, :2] @ fulcrum
        state.centre_shift = now.shift - swing


def _update_scale(state: State, e_step: EStepResult, sound: Tensor) -> None:
    """Per-particle scale in closed form, cross / power, shrunk towards 1 by an empirical-Bayes prior.

    The least-squares scale has variance 1 / (2 power). What the scales scatter beyond that is their true spread, and sets
    the prior's width: where particles do not differ, noise does not make them differ. The mean of each half set is 1. Images (n,) that
    are not ``sound`` tell nothing about a scale: theirs is 1.
    """
    updated = (e_step.updated > 0) & sound
    scale = torch.where(e_step.updated > 0, 1.0, state.particles.scale)
    spreads = []
    for half in (0, 1):
        mine = updated & (state.particles.half == half)
        cross, power = e_step.cross[mine], e_step.power[mine].clamp_min(1e-12)
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
