"""Keep both half maps in one hand, and in one of the frames that their symmetry leaves open.

A coarse map can look like its own mirror image (icosahedral ones do at 30 Å), or like itself after a turn that its point group
does not hold (pseudo-symmetry). Then each half set decides on its own, and they can end apart, although the shells below the
split are shared. After each M-step half map B is compared with half map A as it is, mirrored and turned, in the shells that are
not shared; where another frame agrees better beyond doubt, one half set's poses and sums are carried over into it. Then both are
compared with the initial map as it was given, in the shells that were filtered off before the first iteration: where it shows a
frame there, the result shall lie in it. All that the half sets share by it is one choice among a few frames, which holds no
detail of a map: the half maps stay independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cryotorch.findings import Finding, remark
from cryotorch.ops.fourier.coarse import coarse_sums
from cryotorch.ops.fourier.reconstruct import Halves, Sums, solve_lightly
from cryotorch.ops.fourier.symmetrise import symmetrise
from cryotorch.ops.fourier.transforms import fft_volume, resize_volume, shell_count, shell_sum
from cryotorch.ops.geometry.placement import flip_hand
from cryotorch.ops.geometry.symmetry import rotate_volume
from cryotorch.ops.geometry.symmetry_frame import mates, z_fold
from cryotorch.ops.host import to_host
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.resolution.fsc import THRESHOLD
from cryotorch.ops.resolution.significance import antisymmetric_numbers
from cryotorch.refinement.em.expectation import EStepResult
from cryotorch.refinement.runtime.ranks import Ranks
from cryotorch.refinement.settings import EMSettings
from cryotorch.refinement.state import State

HAND_RESOLUTION = 8.0  # Å: maps that agree so far have the same hand
CLEAR_ERRORS = 4.0  # standard errors by which another frame must agree better; of noise it has an error of about 1
MOVE_ERRORS = 3.0  # by which one other frame must do so for a half set to move: apart for an iteration more, both lose the shells that tell it
CLEAR_CORRELATION = 0.5  # such a correlation beyond doubt, which must show a hand
MIN_SHELLS = 3
MAX_CORRELATION = 0.9999  # beyond it the maps' own interpolation counts
MAX_HAND_POWER = 0.01  # share of the power that shows the hand: simulated sets with twice as much followed their initial map


@dataclass(frozen=True)
class Frame:
    """Where another map with the same symmetry lies: turned by ``turn`` (3, 3) float64, then inverted if ``mirrored``."""

    turn: Tensor
    mirrored: bool

    def map(self, volume: Tensor) -> Tensor:
        """A map (d, d, d) brought there."""
        if not torch.equal(self.turn, torch.eye(3, dtype=torch.float64)):
            volume = rotate_volume(volume, self.turn)
        return flip_hand(volume) if self.mirrored else volume

    def poses(self, rotation: Tensor) -> Tensor:
        """The rotations (n, 3, 3) of the same images for the map that was brought there.

        v(T^-1 x) is seen at R T^T; the inverted map at diag(-1, -1, 1) R, as a mirror along the beam does not show.
        """
        rotation = rotation @ self.turn.mT.to(rotation)
        sign = -1.0 if self.mirrored else 1.0
        return rotation.new_tensor([sign, sign, 1.0])[:, None] * rotation

    def sums(self, sums: Sums) -> Sums:
        """The sums of the map that was brought there; the transform of an inverted map is the complex conjugate."""
        identity = torch.eye(3, dtype=torch.float64)
        if not torch.equal(self.turn, identity):
            both = symmetrise(sums, torch.stack([identity, self.turn]))
            weight = (both.weight - sums.weight).clamp_min(0)
            sums = replace(both, numerator=both.numerator - sums.numerator, weight=weight)
        return (
            replace(sums, numerator=sums.numerator.conj().resolve_conj()) if self.mirrored else sums
        )


def frames(group: Tensor) -> list[Frame]:
    """The frames other than the map's own in which a map of this point group (g, 3, 3) could lie."""
    identity = torch.eye(3, dtype=torch.float64)
    turned = list(mates(group))
    return [
        *(Frame(turn, mirrored=True) for turn in (identity, *turned)),
        *(Frame(turn, mirrored=False) for turn in turned),
    ]


@dataclass(frozen=True)
class Agreement:
    """How two maps agree as they are, compared with one of them in another frame.

    Attributes:
        even, odd: (s,) correlation of what a map and its copy in that frame have in common, and of what tells them apart.
        freedom: (s,) independent numbers that the latter is made of.
        power: (2, s) that the maps share: of what tells the frames apart, and in all.
        first: the shell from which on the half sets share nothing.
    """

    even: Tensor
    odd: Tensor
    freedom: Tensor
    power: Tensor
    first: int

    def agrees_to(self, level: float) -> int:
        """The first shell from ``first`` on in which the even parts agree to less than a level."""
        below = torch.nonzero(self.even[self.first :] < level)
        return self.first + int(below[0]) if len(below) else len(self.even)

    @property
    def doubt(self) -> float:
        """Standard errors by which the maps agree better as they are; negative where the other frame is better.

        Noise alone has a correlation r of v numbers with a probability of about (1 - r^2)^((v - 1) / 2), as if by
        sqrt(-(v - 1) log(1 - r^2)) standard errors: a few numbers tell the frame where they agree well. Over the shells in which the
        even parts agree, which say nothing of the frame, so that the choice is not biased, up to the one that tells most.
        """
        band = slice(self.first, max(self.agrees_to(THRESHOLD), self.first + MIN_SHELLS))
        numbers = self.freedom[band].cumsum(0)
        together = (self.freedom[band] * self.odd[band].clamp(-1, 1)).cumsum(0)
        r = (together / numbers.clamp_min(1e-12)).clamp(-MAX_CORRELATION, MAX_CORRELATION)
        errors = r.sign() * (-(numbers - 1).clamp_min(0) * (1 - r * r).log()).sqrt()
        return float(max(errors[MIN_SHELLS - 1 :].tolist(), key=abs, default=0.0))


def compare(
    a: Tensor, b: Tensor, frame: Frame, group: Tensor, radius: float, first: int
) -> Agreement:
    """Whether b agrees better with a as it is or in another frame, from maps (d, d, d) inside a soft sphere; group (g, 3, 3).

    With t the change of frame, <a, b> - <a, t b> is what the odd parts (a - t a) / 2 and (b - t b) / 2 share, as t is its own
    inverse, but for symmetry.

    Args:
        radius: of a sphere as large as the soft one, pixels.
    """
    box = len(a)
    fa, fb, ta, tb = (fft_volume(v) for v in (a, b, frame.map(a), frame.map(b)))

    def shared(x: Tensor, y: Tensor) -> Tensor:
        return shell_sum((x * y.conj()).real, box)

    ab, atb = shared(fa, fb), shared(fa, tb)
    own_a, own_b = shared(fa, fa), shared(fb, fb)
    copy_a, copy_b = shared(fa, ta), shared(fb, tb)

    def correlation(sign: float) -> Tensor:
        power = (own_a + sign * copy_a).clamp_min(0) * (own_b + sign * copy_b).clamp_min(0)
        return (ab + sign * atb) / power.sqrt().clamp_min(1e-30)

    numbers = antisymmetric_numbers(box, radius, group, frame.turn, frame.mirrored)
    power = torch.stack([(ab - atb) / 2, ab])
    return Agreement(*to_host([correlation(1), correlation(-1), numbers, power]), first)


@dataclass(frozen=True)
class Carried:
    """A half set after its frame was changed: rows of all particles, the sums of the halves that are here, and what was done."""

    e_step: EStepResult
    halves: Halves
    notes: tuple[Finding, ...] = ()


def align_frames(
    state: State,
    e_step: EStepResult,
    halves: Halves,
    settings: EMSettings,
    insertion_limit: float,
    ranks: Ranks,
) -> Carried | None:
    """Bring both half sets into one frame; None where they are, or nothing tells, or the search is a local one.

    Args:
        halves: symmetrised sums of the half sets that are here; insertion_limit: the last shell that was inserted.
    """
    crossings, box = state.convergence.crossings, coarse_box(settings, insertion_limit)
    enough = min(box / 2, settings.box * settings.pixel_size / HAND_RESOLUTION) - 1
    decided = len(crossings) > 0 and crossings[-1] >= enough
    if settings.local is not None or decided or box / 2 <= settings.split + MIN_SHELLS:
        return None
    small = coarse_maps(halves, box, ranks)
    sphere, radius = _sphere(state, settings, box, small.device)
    inside, place, every = small * sphere, (settings.group, radius), frames(settings.group)
    carried = Carried(e_step, halves)

    def worst(pair: Tensor | tuple[Tensor, Tensor], first: int) -> tuple[float, Frame | None]:
        doubts = ranks.each([lambda f=f: compare(*pair, f, *place, first).doubt for f in every])
        found = zip(doubts, every, strict=True)
        return min(found, key=lambda pair: pair[0], default=(0.0, None))

    doubt, frame = worst(inside, math.ceil(settings.split))
    if doubt <= -errors_to_move(len(every)):
        before = resize_volume(state.references.mean(0), box) * sphere
        half = int(_closer(inside[0], before, frame) >= _closer(inside[1], before, frame))
        which = dict(half="AB"[half], other="AB"[1 - half], mirrored=frame.mirrored)
        note = remark("half_set_moved", **which, errors=-doubt)
        carried = _carry(state, carried, frame, (half,), note)
        inside[half] = frame.map(inside[half])
    if state.initial_map is not None:
        doubt, frame = worst((_initial_map(state, box) * sphere, inside.mean(0)), unseen(settings))
        if doubt <= -CLEAR_ERRORS:
            how = dict(mirrored=frame.mirrored, errors=-doubt)
            note = remark("both_half_sets_moved", **how)
            carried = _carry(state, carried, frame, (0, 1), note)
    return carried if carried.notes else None


def judge_hands(
    state: State, half_maps: Tensor, settings: EMSettings, insertion_limit: float
) -> list[Finding]:
    """At the end: the hands of both half maps, and what decides which of the two mirror images they show.

    Nothing where the frame is open by more than a few turns (C1, Cn), and for a local search.

    Args:
        half_maps: (2, d, d, d); insertion_limit: the last shell that was inserted.
    """
    box = coarse_box(settings, insertion_limit)
    open_frame = z_fold(settings.group) == len(settings.group)
    if settings.local is not None or open_frame or box / 2 <= settings.split + MIN_SHELLS:
        return []
    small = resize_volume(half_maps, box)
    sphere, radius = _sphere(state, settings, box, small.device)
    mirrored = [f for f in frames(settings.group) if f.mirrored]
    place = settings.group, radius, math.ceil(settings.split)
    agreements = [compare(*(small * sphere), f, *place) for f in mirrored]
    doubt = min(a.doubt for a in agreements)
    if doubt < -CLEAR_ERRORS:
        return [Finding("hands_differ", errors=-doubt)]
    if doubt < CLEAR_ERRORS:
        shell = min(a.agrees_to(CLEAR_CORRELATION) for a in agreements)
        if shell < math.ceil(settings.split) + MIN_SHELLS:
            return [remark("too_coarse_for_hand")]
        resolution = settings.box * settings.pixel_size / shell
        return [Finding("no_hand", resolution=resolution, symmetry=settings.symmetry)]
    errors, first = 0.0, unseen(settings)
    if state.initial_map is not None:
        pair = _initial_map(state, box) * sphere, (small * sphere).mean(0)
        errors = min(compare(*pair, f, settings.group, radius, first).doubt for f in mirrored)
    if errors >= CLEAR_ERRORS:
        return [remark("hand_of_initial_map", errors=doubt, shown=errors)]
    put_in = slice(1, first)
    power = min(float(a.power[0, put_in].sum() / a.power[1, put_in].sum()) for a in agreements)
    start = settings.box * settings.pixel_size / settings.schedule.first_limit
    if power > MAX_HAND_POWER:
        return [remark("hand_put_in", errors=doubt, resolution=start, power=power)]
    return [remark("hand_unknown", errors=doubt)]


def coarse_initial_map(volume: Tensor, settings: EMSettings) -> Tensor:
    """An initial map (d, d, d), or the mean of two, in the box that frames are compared in at most."""
    mean = volume if volume.dim() == 3 else volume.mean(0)
    return resize_volume(mean, coarse_box(settings, settings.box / 2))


def finest_initial_shell(settings: EMSettings) -> float:
    """The last shell of an initial map that is looked at: for its frame, or beyond the slope of its low-pass, 0.04 at 1.5 times the limit."""
    return max(coarse_box(settings, settings.box / 2) / 2, 1.5 * settings.schedule.first_limit)


def unseen(settings: EMSettings) -> int:
    """The first shell of the initial map that the first iteration did not see: what is found there is not what was put in."""
    return math.floor(settings.schedule.first_limit) + 1


def errors_to_move(n_frames: int) -> float:
    """Standard errors that the best of several frames exceeds in noise as rarely as one exceeds ``MOVE_ERRORS``."""
    return math.sqrt(MOVE_ERRORS**2 + 2 * math.log(n_frames))


def _initial_map(state: State, box: int) -> Tensor:
    return resize_volume(state.initial_map, box)


def coarse_box(settings: EMSettings, insertion_limit: float) -> int:
    """An even box that holds the shells up to 8 Å, or as far as images were inserted, with room to interpolate."""
    edge = settings.box * settings.pixel_size
    finest = min(settings.box / 2, insertion_limit, edge / HAND_RESOLUTION)
    return min(settings.box, 2 * (math.ceil(finest) + 1))


def coarse_maps(halves: Halves, box: int, ranks: Ranks) -> Tensor:
    """Half maps (2, d, d, d) of a small box from the sums."""
    pieces = [lambda h=h: solve_lightly(coarse_sums(halves[h], box)) for h in (0, 1)]
    return torch.stack(ranks.each(pieces, ranks.owners))


def _sphere(
    state: State, settings: EMSettings, box: int, device: torch.device
) -> tuple[Tensor, float]:
    """A soft sphere that holds the particle, in the small box, and the radius in pixels of a hard one that holds as much noise."""
    edge = 0.04 * settings.box
    radius = min(settings.particle_radius or math.inf, state.mask_radius or math.inf)
    radius = min(radius, settings.window[1] - edge)
    scale = box / settings.box
    sphere = soft_sphere(box, radius * scale, edge * scale, device)
    square, fourth = torch.stack([sphere.square().mean(), sphere.pow(4).mean()]).tolist()
    part = square**2 / fourth
    return sphere, box * (0.75 / math.pi * part) ** (1 / 3)


def _closer(half: Tensor, before: Tensor, frame: Frame) -> float:
    """By how much a half map agrees better with the last reference as it is than in the other frame, over all shells."""
    box = len(half)
    reference, as_is, changed = (fft_volume(v) for v in (before, half, frame.map(half)))
    power = shell_sum(reference.abs().square(), box) * shell_sum(as_is.abs().square(), box)
    gain = shell_sum(((as_is - changed) * reference.conj()).real, box)
    known = power > 1e-12 * power.max()
    weight = shell_count(box, half.device)
    return float((weight * gain / power.sqrt())[known].sum())


def _carry(
    state: State, carried: Carried, frame: Frame, half_sets: tuple[int, ...], note: Finding
) -> Carried:
    """Change the frame of one half set or both, in the state too, so that nothing seems to have moved."""
    e_step, halves = carried.e_step, carried.halves
    mine = torch.isin(state.particles.half, torch.tensor(half_sets))

    def turned(rotation: Tensor) -> Tensor:
        return torch.where(mine[:, None, None], frame.poses(rotation), rotation)

    state.particles = state.particles.replace(rotation=turned(state.particles.rotation))
    if state.anchor_rotation is not None:
        state.anchor_rotation = turned(state.anchor_rotation)
    certain = torch.where(mine, torch.zeros_like(e_step.certain), e_step.certain)  # search anew
    e_step = replace(e_step, rotation=turned(e_step.rotation), certain=certain)
    halves = {h: frame.sums(half) if h in half_sets else half for h, half in halves.items()}
    return Carried(e_step, halves, (*carried.notes, note))
