"""The M-step: sums to half maps, FSC, mask, noise, scales and the references of the next iteration."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.fourier.reconstruct import collect, shell_mean_weight, solve_lightly, symmetrise
from cryotorch.ops.fourier.slices import merge_
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.rotations import rotation_angle
from cryotorch.ops.masks.soft import density_mask, mask_reach, soft_sphere
from cryotorch.ops.resolution.fsc import crossing_shell
from cryotorch.refine import image_weight
from cryotorch.refine.em import finite, frame_drift, hands, symmetry_check
from cryotorch.refine.em.ctf_round import CtfRound
from cryotorch.refine.em.evaluate import evaluate, for_the_eye
from cryotorch.refine.em.expectation import Expectation, Found
from cryotorch.refine.em.regularise import regularise
from cryotorch.refine.em.schedule import Stop, advance
from cryotorch.refine.pose_search.branch_and_bound import Pruning
from cryotorch.refine.pose_search.pose_error import error_factors
from cryotorch.refine.pose_search.pose_prior import Tether
from cryotorch.refine.pose_search.stable_poses import calmer
from cryotorch.refine.settings import Settings
from cryotorch.refine.state import State
from cryotorch.results import Departures, Guinier, IterationResult

FIRST_LOW_PASS = 20.0  # Å: an initial map finer than that may be wrong in its details
SCALE_RANGE = (0.2, 3.0)


class MapSolve(torch.optim.Optimizer):
    """``step()`` is the M-step. As an optimizer it makes the trainer count, log and save one step per iteration."""

    def __init__(self, solve_step: Callable[[], None]) -> None:
        super().__init__([torch.nn.Parameter(torch.zeros(()))], {})
        self.solve_step = solve_step

    @torch.no_grad()
    def step(self, closure=None):
        """Turn the accumulated sums into new maps."""
        loss = None if closure is None else closure()
        self.solve_step()
        return loss


def maximize(
    state: State,
    expectation: Expectation,
    settings: Settings,
    reduce: Callable[[list[Tensor]], None],
    ctf: CtfRound | None = None,
    name: Callable[[int], str] = "image {}".format,
) -> IterationResult:
    """Solve for new maps, judge them, and set ``state`` up for the next iteration.

    Args:
        reduce: sums tensors over all ranks, in place; does nothing on one process.
        ctf: what the iteration learnt about the CTF, if it looked.
        name: of the image of a row, for messages.

    Raises:
        InputError: an image, a sum, a reference or a noise level is not finite.
    """
    s, seconds, aligned = settings, expectation.clock.seconds, state.limit
    started = time.perf_counter()
    sums = [merge_(a) for a in expectation.sums]
    reduce(sums + expectation.found.tensors())
    found = expectation.found.cpu()
    finite.check_images(found, name)
    finite.check_sums(sums)
    seconds["reduce"] = time.perf_counter() - started  # and waiting for the slowest rank

    started = time.perf_counter()
    limit = expectation.insert_limit
    halves = [collect(a, limit) for a in expectation.sums]
    notes = symmetry_check.shown(state, halves, s, limit)
    halves = [symmetrise(half, s.group) for half in halves]
    carried = hands.agree(state, found, halves, s, limit)
    if carried is not None:
        found, halves = carried.found, carried.halves
        notes.append(carried.note)
    mean_weight = [shell_mean_weight(h) for h in halves]
    unfiltered = mean_weight[0].new_empty(2, *(s.box,) * 3, dtype=torch.float32)
    for out, half, weight in zip(unfiltered, halves, mean_weight, strict=True):
        out.copy_(solve_lightly(half, weight))
    seconds["solve"] = time.perf_counter() - started

    started = time.perf_counter()
    value = evaluate(unfiltered, limit, s, lambda: sphere(s, unfiltered.device))
    curve, judged, messages = value.leading, value.judged, value.messages
    messages += notes
    crossing = crossing_shell(curve, interpolate=True)
    state.course.crossings.append(crossing)
    sphere_fsc = judged.curves["spherical"]
    state.course.areas.append(float((sphere_fsc * sphere_fsc.abs()).sum()))
    state.course.shares.append(state.share)
    seconds["fsc"] = time.perf_counter() - started

    started = time.perf_counter()
    maps = regularise(halves, mean_weight, unfiltered, curve, value.inside, s)
    del halves  # for the memory
    update_mask(state, maps.full, value.reached, s, smooth=12.0)
    state.references = maps.references.mul_(_reference_mask(state, s, maps.full.device))
    sharp = for_the_eye(unfiltered, value, s, maps.locally)
    guinier = sharp.fit
    seconds["solve"] += time.perf_counter() - started

    state.noise = noise_power(found, state.noise)
    blank = (found.blank > 0) | (found.seen == 0)
    factor = image_weight.factors(found.ratio, state.most.cpu(), blank)
    sound = factor.amin(1) >= image_weight.LOST
    loud = image_weight.faults(found.ratio, state.most.cpu(), found.blank > 0, s.box, s.pixel_size)
    noise_factor = image_weight.over_all(found.ratio, s.box)
    state.most = image_weight.coming_limits(found.ratio[~blank]).to(state.noise)
    if s.search.method == "branch_and_bound":
        messages.append(str(Pruning(*map(int, found.pruning.tolist()))))
    rotation_change, shift_change = _take_poses(state, found, s)
    change = float(rotation_change.nanmedian()), float(shift_change.nanmedian())
    state.course.limits.append(aligned)
    state.course.turns.append(math.radians(change[0] if math.isfinite(change[0]) else math.inf))
    state.course.motions.append(_motion(change, state.particles.pose_sigma[state.known]))
    if ctf is not None:
        messages.append(ctf.conclude(state, reduce))
    if s.per_particle_scale and state.iteration > s.scale_start_iteration:
        _update_scale(state, found, sound)
    if state.share < 1:
        messages.append(f"with {int(found.seen.sum())} of the {len(found.seen)} particles")
    step = advance(state.course, s.schedule)
    if isinstance(step, Stop):
        if s.bfactor is None and guinier.bfactor is None:
            messages.append(
                f"map_sharp.mrc is weighted and filtered but not sharpened: {guinier.reason}; job=sharpen makes others (fit_from=15, bfactor=<Å²>)."
            )
        messages += hands.closing(state, unfiltered, s, limit)
        state.stopped = step.reason
        messages.append(f"Finished: {step.reason}.")
    else:
        finite.check_state(state)
        state.limit, state.share = step.limit, step.share
        if step.refine_ctf:
            state.course.ctf_after.append(state.iteration)
        if step.note:
            messages.append(step.note)
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
    if departures is not None:
        messages += departures.warnings()
    factors = error_factors(found.sigma[found.seen > 0], found.moved[found.seen > 0])
    shown = state.particles.replace(pose_sigma=state.particles.pose_sigma * factors)
    if not state.known.all():
        shown = shown[state.known]
        rotation_change, shift_change = rotation_change[state.known], shift_change[state.known]
        noise_factor = noise_factor[state.known]
    return IterationResult(
        iteration=state.iteration,
        pixel_size=s.pixel_size,
        half_maps=unfiltered.cpu(),
        map=maps.full.cpu(),
        map_sharp=sharp.map.cpu(),
        mask_refine=None if state.mask is None else state.mask.cpu(),
        mask_fsc=value.mask.cpu(),
        curves={name: c.cpu() for name, c in judged.curves.items()},
        resolutions=judged.resolutions,
        resolution=judged.resolution,
        band=judged.band.cpu(),
        shared=s.in_common,
        inserted=limit,
        noise=state.noise.cpu(),
        guinier=Guinier(*(v.cpu() if isinstance(v, Tensor) else v for v in guinier)),
        particles=shown,
        rotation_change=rotation_change,
        shift_change=shift_change,
        seconds=dict(seconds),
        history=[dict(h) for h in state.history],
        messages=messages,
        final=bool(state.stopped),
        group=s.group.cpu(),
        departures=departures,
        cutoff=None if maps.cutoff is None else maps.cutoff.cpu(),
        loud=loud,
        noise_factor=noise_factor,
    )


def sphere(s: Settings, device: torch.device) -> Tensor:
    """The widest soft sphere for references: as far as the image window reaches, or the particle's radius."""
    edge = 0.04 * s.box
    widest = s.window[1] - edge
    return soft_sphere(s.box, min(s.particle_radius or widest, widest), edge, device)


def first_mask(state: State, volume: Tensor, resolution: float, s: Settings) -> None:
    """The mask of the first references: the given one, else around the density of the initial map, low-passed at ``resolution`` Å.

    Without it the references carry the neighbours of crowded particles, which poses then follow, and never become fine enough
    for a mask of their own. Where an initial map has no positive density there is only the sphere.
    """
    update_mask(state, volume, resolution=math.inf, s=s)
    if state.mask is None and s.mask.mode == "dynamic":
        blur = max(FIRST_LOW_PASS, resolution)
        try:
            _set_mask(state, _around(volume, blur, s))
        except ValueError:
            return


def update_mask(
    state: State, volume: Tensor, resolution: float, s: Settings, smooth: float | None = None
) -> None:
    """Dynamic masks follow the map, low-passed at ``smooth`` Å, once it is better than the start resolution; otherwise the given one stays."""
    if s.mask.mode == "none":
        return
    given = s.mask.given
    if s.mask.mode == "dynamic" and resolution < s.mask.start:
        volume = volume if smooth is None else low_pass(volume, s.pixel_size, smooth)
        mask = _around(volume, 12.0, s)
        if s.local is not None and given is not None:
            mask = mask * given.to(volume)  # of the region, what is there
        _set_mask(state, mask)
    elif given is not None:
        _set_mask(state, given.to(volume))


def _around(volume: Tensor, blur: float, s: Settings) -> Tensor:
    near, far = s.mask.near, s.mask.far
    return density_mask(volume, s.pixel_size, s.mask.threshold, near, far, low_pass=blur)


def _set_mask(state: State, mask: Tensor) -> None:
    state.mask, state.mask_radius = mask, mask_reach(mask, 0.01)


def _reference_mask(state: State, s: Settings, device: torch.device) -> Tensor:
    around = sphere(s, device)
    return around if state.mask is None else around * state.mask


def noise_power(found: Found, before: Tensor) -> Tensor:
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
    return torch.maximum(noise, least).to(before)


def coefficients_per_shell(box: int) -> Tensor:
    """Number of packed coefficients per shell (d // 2 + 1,); shell 0, which has none, counts 1."""
    return torch.bincount(half_plane(box).shell, minlength=box // 2 + 1).clamp_min(1)


def _take_poses(state: State, found: Found, s: Settings) -> tuple[Tensor, Tensor]:
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
    drift = frame_drift.measure(found.rotation[seen], found.shift[seen], *anchor, s.group)
    state.drift_turn, state.drift_move = drift.turn, drift.move
    state.known = state.known | seen
    again = calmer(state.calm, angle, move / s.pixel_size, found.certain > 0)
    state.calm = torch.where(seen, again, state.calm)
    if s.local is not None:
        _recentre(state, s)
    return torch.rad2deg(angle), move


def _motion(change: tuple[float, float], sigma: Tensor) -> float:
    """Median changes (degrees, Å) in units of the median standard errors (n, 2), the larger one; infinite where there is none."""
    turn, move = sigma.median(0).values.tolist()
    parts = math.radians(change[0]) / max(turn, 1e-12), change[1] / max(move, 1e-12)
    return max(parts) if all(map(math.isfinite, parts)) else math.inf


def _departures(state: State, s: Settings) -> Departures | None:
    if s.local is None:
        return None
    reach = s.local.reach
    start = Tether(state.anchor_rotation, state.anchor_shift / s.pixel_size, reach)
    now = state.particles
    turn, offset = start.relative(now.rotation, now.shift / s.pixel_size)
    return Departures(
        state.anchor_rotation,
        torch.rad2deg(turn.norm(dim=1)),
        offset.norm(dim=1) * s.pixel_size,
        math.degrees(reach.rotation),
        reach.shift * s.pixel_size,
    )


def _recentre(state: State, s: Settings) -> None:
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


def _update_scale(state: State, found: Found, sound: Tensor) -> None:
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
