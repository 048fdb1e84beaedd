"""Pose search by branch and bound: poses in cells that are halved level by level, under a growing Fourier limit.

1. First level: all cells of a coarse grid at a low limit; over SO(3) by the matrix products of ``search``, in a local search
   over the ball and disc of a ``PosePrior``.
2. Scouts: the best cells are climbed to the full limit. Their best score is what the others have to beat.
3. Bound: a cell whose score plus ``ops.pose.bounds.headroom`` (what the shells beyond the limit and a better place in the cell can
   add; less what the priors take anywhere in the cell) stays below it is discarded.
4. Cap: of the rest at most ``width`` per image go on. What is dropped here has not been shown to be worse: it is counted.
5. Branch: 8 rotations x 4 shifts per cell at half the step and a limit 1.6 times as high, then again 2 to 5.
6. Finish: Gauss-Newton from the peaks among the cells that are left. The answer is the best pose met, the previous included.

While the cap drops nothing the truth's cell survives each level with probability 1 - 3e-5, see ``ops.pose.bounds``.

This method is patented. Image alignment by branch and bound with a bound on the high-frequency part is claimed in US 9,830,732
B2 (granted 2017-11-28; priority 62/336,831 of 2016-05-16; continuation application US 2018/0018808; CA 3023614; PCT WO
2017/197514; owner: Governing Council of the University of Toronto). Whoever uses it decides for themselves whether they may.
``search.method=newton``, the default, computes no bound and uses nothing of this module.

Sources: Punjani et al. 2017, doi:10.1038/nmeth.4169; the bound with the cell's part is derived in ``ops.pose.bounds``.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from cryotorch.ops.fourier.slices import extract_slices, of_each
from cryotorch.ops.fourier.transforms import half_plane, shift_phase
from cryotorch.ops.geometry.rotations import from_rotation_vector
from cryotorch.ops.pose.bounds import cell_change, headroom, ring_weight, view_power
from cryotorch.ops.pose.scores import Observation, grid_scores, shift_scores
from cryotorch.refinement.pose_search.cells import (
    Cells,
    Families,
    Level,
    corners,
    filled,
    levels,
    peaks,
)
from cryotorch.refinement.pose_search.local import ball_grid
from cryotorch.refinement.pose_search.pose_prior import PosePrior
from cryotorch.refinement.pose_search.search import (
    WINNER_STEPS,
    Poses,
    Reference,
    ascend,
    covariance,
    ladder,
    shift_grid,
)
from cryotorch.refinement.settings import SearchExtent, SearchSettings

WIDTH = 32  # cells per image that go on to the next level
SCOUTS = 3  # cells climbed at the first level; one at the others
COEFFICIENTS_AT_ONCE = 1 << 21  # coefficients of the slices handled at once


@dataclass(frozen=True)
class Pruning:
    """What became of the hypotheses of a search, a pair of a rotation and a shift each.

    Attributes:
        candidates: met; by_bound, by_cap: discarded; evaluations: scores computed, at any limit, climbing included;
        images: searched; cap_active: images of which the cap dropped a hypothesis that the bound had left.
    """

    candidates: int = 0
    by_bound: int = 0
    by_cap: int = 0
    evaluations: int = 0
    images: int = 0
    cap_active: int = 0

    def __add__(self, other: Pruning) -> Pruning:
        return Pruning(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def fractions(self) -> dict[str, float]:
        """Shares of the hypotheses, share of the images with an active cap, and evaluations per image."""
        met, images = max(1, self.candidates), max(1, self.images)
        return {
            "by_bound": self.by_bound / met,
            "by_cap": self.by_cap / met,
            "cap_active": self.cap_active / images,
            "evaluations": self.evaluations / images,
        }


@dataclass(frozen=True)
class PowerTable:
    """What the bound has to know about a reference.

    Attributes:
        levels: of the search; power: (v, rings) of slices; change: (levels, u, rings) of differences between a cell's centre
            and elsewhere in it, both of ``ops.pose.bounds``.
    """

    levels: list[Level]
    power: Tensor
    change: Tensor

    def margins(self, images: Observation) -> Tensor:
        """How far a cell's centre may lie below the best score of the cell, (levels, b)."""
        weight = 0.5 * ring_weight(images)
        ring = torch.arange(weight.shape[1], device=weight.device)
        rows = []
        for level, change in zip(self.levels, self.change, strict=True):
            beyond = (ring > math.floor(level.limit + 1e-4)) & (level.limit < self.levels[-1].limit)
            tail = ((weight * beyond) @ self.power.T).amax(1)
            rows.append(headroom(tail + (weight @ change.T).amax(1)))
        return torch.stack(rows)


def power_table(
    reference: Reference, settings: SearchSettings, extent: SearchExtent | None = None
) -> PowerTable:
    """The table of a reference, once per half set and iteration; ``extent`` is that of a local search."""
    steps = levels(reference, settings, extent)
    fulcrum = (0.0, 0.0, 0.0) if extent is None else extent.fulcrum
    change = [cell_change(reference.slices, at.limit, at.turn, at.move, fulcrum) for at in steps]
    return PowerTable(steps, view_power(reference.slices), torch.stack(change))


def bounded_search(
    reference: Reference,
    table: PowerTable,
    images: Observation,
    rotation: Tensor | None,
    shift_px: Tensor,
    shift_extent: float,
    prior: PosePrior | None,
    settings: SearchSettings,
    width: int = WIDTH,
) -> tuple[Poses, Pruning]:
    """The best pose of every image, and what was discarded on the way.

    Args:
        table: ``power_table`` of the reference.
        rotation, shift_px: (b, 3, 3) and (b, 2) previous poses, one more hypothesis; without a prior the shifts are the
            centres of the search and ``rotation`` may be None.
        shift_extent: pixels around the centres; not used with a prior, which brings its own.
        prior: of the b images; None = all rotations of the reference's grid, which is one asymmetric unit.
        width: the cap.
    """
    plane = half_plane(images.box, shift_px.device)
    descent = _Descent(
        reference, table, images.limited(plane.count(reference.limit)), prior, settings, width
    )
    if rotation is not None:
        start = prior.confine(rotation, shift_px) if prior else (rotation, shift_px)
        descent.scout(descent.rows, *start, 0)
    cells = descent.open_locally() if prior else descent.open_globally(shift_px, shift_extent)
    for level in range(1, len(table.levels)):
        if not cells.alive.any():
            break
        cells = descent.branch(cells, level)
    return descent.finish(cells), descent.pruning()


class _Descent:
    """The search of one batch of images: the best poses so far, and the counts."""

    def __init__(
        self,
        reference: Reference,
        table: PowerTable,
        images: Observation,
        prior: PosePrior | None,
        settings: SearchSettings,
        width: int,
    ) -> None:
        self.reference, self.images, self.prior, self.settings = reference, images, prior, settings
        self.levels, self.margins, self.width = table.levels, table.margins(images), width
        b, device = len(images.spectrum), images.spectrum.device
        self.rows = torch.arange(b, device=device)
        self.value = torch.full((b,), -math.inf, device=device)
        self.rotation = torch.eye(3, device=device).repeat(b, 1, 1)
        self.shift_px = torch.zeros(b, 2, device=device)
        self.capped = torch.zeros(b, dtype=torch.bool, device=device)
        self.met = self.by_bound = self.by_cap = self.evaluations = 0

    def pruning(self) -> Pruning:
        counts = self.met, self.by_bound, self.by_cap, self.evaluations
        return Pruning(*counts, len(self.rows), int(self.capped.sum()))

    def open_globally(self, centre: Tensor, shift_extent: float) -> Cells:
        """Every rotation of the grid at every shift; a rotation that the cap drops counts with all its shifts."""
        at, grid = self.levels[0], self.reference.grid
        assert grid is not None
        shifts = centre[:, None] + shift_grid(max(shift_extent, at.move), at.move, centre.device)
        low = self.images.limited(self._count(at.limit))
        score = grid_scores(low, shifts, grid)
        t, (b, r) = shifts.shape[1], score.shape
        top = score.topk(min(self.width, r), 1).indices
        found = self._scored(self.rows, torch.zeros_like(self.rows), grid.rotation[top], shifts, 0)
        self.evaluations += b * r * t - found.score.numel()
        self._scout_best(found, SCOUTS, 0)
        left = score + self.margins[0][:, None] >= self.value[:, None]
        dropped = (left.sum(1) - left.gather(1, top).sum(1)) * t
        self._count_out(b * (r - top.shape[1]) * t, dropped)
        return self._prune(found, 0)

    def open_locally(self) -> Cells:
        """A ball of rotations by a disc of shifts around every image's centre pose."""
        at, extent, b = self.levels[0], self.prior.extent, len(self.rows)
        turns = filled(ball_grid, extent.rotation, at.turn, 3).to(self.shift_px)
        offsets = filled(shift_grid, extent.shift, at.move, 2).to(self.shift_px)
        rotation = from_rotation_vector(turns) @ self.prior.rotation[:, None]
        found = self._scored(
            self.rows, torch.zeros_like(self.rows), rotation, offsets.repeat(b, 1, 1), 0
        )
        self._scout_best(found, SCOUTS, 0)
        return self._prune(found, 0)

    def branch(self, cells: Cells, level: int) -> Cells:
        """The children of the cells that are alive."""
        at = self.levels[level]
        image, slot = cells.alive.nonzero(as_tuple=True)
        turns = from_rotation_vector(corners(3, at.turn).to(self.shift_px))
        rotation = turns @ cells.rotation[image, slot][:, None]
        offset = cells.offset[image, slot][:, None] + corners(2, at.move).to(self.shift_px)
        found = self._scored(image, slot, rotation, offset, level)
        self._scout_best(found, 1, level)
        return self._prune(found, level)

    def scout(self, image: Tensor, rotation: Tensor, shift_px: Tensor, level: int) -> None:
        """Climb from poses to the full limit and keep what is better than the best so far."""
        for limit in ladder(self.levels[level].limit, self.reference.limit):
            rotation, shift_px, value = self._climb(image, rotation, shift_px, limit)
        self._keep(image, rotation, shift_px, value)

    def finish(self, cells: Cells) -> Poses:
        """Climb from the peaks among the cells left, and on from the best pose of all."""
        image, slot = self._peaks(cells)
        pose = self._pose(image, cells.rotation[image, slot], cells.offset[image, slot])
        self._keep(image, *self._climb(image, *pose, self.reference.limit))
        terms, rotation, shift_px = ascend(
            self.reference.slices,
            self.images,
            self.rows,
            self.rotation,
            self.shift_px,
            WINNER_STEPS,
            fused=self.settings.compile,
            prior=self.prior,
        )
        self.evaluations += len(self.rows) * (WINNER_STEPS + 1)
        spread = covariance(terms, rotation, shift_px, self.prior)
        return Poses(rotation, shift_px, spread, terms, torch.zeros_like(rotation[:, 0, 0]) > 0)

    def _scored(
        self, image: Tensor, slot: Tensor, rotation: Tensor, offset: Tensor, level: int
    ) -> Families:
        """Scores at a level's limit, less the least that the priors take in a cell; poses are confined first."""
        at, base, cost = self.levels[level], None, 0.0
        if self.prior is not None:
            extent, r = self.prior.extent, rotation.shape[1]
            held = self.prior.of(image.repeat_interleave(r))
            zero = self.shift_px.new_zeros(len(held.shift_px), 2)
            turn = held.relative(rotation.flatten(0, 1), zero)[0]
            flat, base = held.pose(turn, zero)
            rotation, base = flat.unflatten(0, (-1, r)), base.unflatten(0, (-1, r))
            length = offset.norm(dim=-1)
            offset = offset * (extent.shift / length.clamp_min(1e-12)).clamp(max=1)[..., None]
            turned = (turn.norm(dim=1).clamp(max=extent.rotation) - at.turn_radius).clamp_min(0)
            moved = (length.clamp(max=extent.shift) - at.move_radius).clamp_min(0)
            cost = (turned / (2 * extent.rotation_sigma)).square().unflatten(0, (-1, r))[:, :, None]
            cost = cost + (moved / (2 * extent.shift_sigma)).square()[:, None]
        count = self._count(at.limit)
        chunk = max(1, COEFFICIENTS_AT_ONCE // (rotation.shape[1] * count))
        parts = [
            self._scores(image[i], rotation[i], None if base is None else base[i], offset[i], count)
            for i in torch.arange(len(image), device=image.device).split(chunk)
        ]
        score = torch.cat(parts)
        self.evaluations += score.numel()
        return Families(image, slot, rotation, offset, score - cost)

    def _scores(
        self, image: Tensor, rotation: Tensor, base: Tensor | None, offset: Tensor, count: int
    ) -> Tensor:
        """(f, r, t) for rotations (f, r, 3, 3) and shifts base (f, r, 2) + offset (f, t, 2)."""
        images = self.images.limited(count).of(image)
        frequency = half_plane(images.box, image.device).frequency[:count]
        if images.magnification is not None:
            stretch = images.magnification.repeat_interleave(rotation.shape[1], 0)
            frequency = of_each(frequency, stretch)
        slices = extract_slices(self.reference.slices, rotation.flatten(0, 1), frequency)
        slices = slices.unflatten(0, rotation.shape[:2])
        weight = (images.gain**2 * images.precision)[..., None]
        power = torch.view_as_real(slices).square().sum(-1) @ weight
        if base is not None:
            slices = slices * shift_phase(base, images.box, count)
        return shift_scores(images, offset, slices) - 0.5 * power

    def _scout_best(self, found: Families, n: int, level: int) -> None:
        """Scouts from the n best rotations of every image, each at its best offset."""
        score, family = found.table(len(self.rows))
        best, offset = score.flatten(1, 2).max(-1)
        top = best.topk(min(n, best.shape[1]), 1)
        image, place = (top.values > -math.inf).nonzero(as_tuple=True)
        where = top.indices[image, place]
        row, r = family[image, where // score.shape[2]], where % score.shape[2]
        pose = self._pose(image, found.rotation[row, r], found.offset[row, offset[image, where]])
        self.scout(image, *pose, level)

    def _prune(self, found: Families, level: int) -> Cells:
        """What the bound leaves, and the cap."""
        score, family = found.table(len(self.rows))
        r, t = score.shape[2:]
        score = score.flatten(1)
        alive = score + self.margins[level][:, None] >= self.value[:, None]
        left = alive.sum(1)
        width = max(1, min(self.width, int(left.max())))
        top = score.topk(width, 1)
        kept = alive.gather(1, top.indices)
        self._count_out(found.score.numel(), left - kept.sum(1), int(kept.sum()))
        row = family.gather(1, top.indices // (r * t))
        rotation = found.rotation[row, top.indices // t % r]
        return Cells(rotation, found.offset[row, top.indices % t], top.values, kept)

    def _count_out(self, met: int, dropped: Tensor, kept: int = 0) -> None:
        """Of the hypotheses met, ``dropped`` (b,) went by the cap and all that were not kept otherwise by the bound."""
        by_cap = int(dropped.sum())
        self.met += met
        self.by_cap += by_cap
        self.by_bound += met - kept - by_cap
        self.capped |= dropped > 0

    def _peaks(self, cells: Cells) -> tuple[Tensor, Tensor]:
        """Image and slot of the cells to climb from."""
        offset = self.shift_px
        if self.prior is not None:
            offset = self.prior.relative(self.rotation, self.shift_px)[1]
        peak = peaks(cells, self.levels[-1], self.rotation, offset, self.value)
        taken = peak & (peak.cumsum(1) <= self.settings.candidates)
        dropped = (peak & ~taken).sum(1)
        self.by_cap += int(dropped.sum())
        self.capped |= dropped > 0
        image, cell = taken.nonzero(as_tuple=True)
        return image, cell

    def _pose(self, image: Tensor, rotation: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        """Rotations (p, 3, 3) and shifts (p, 2) of cells."""
        if self.prior is None:
            return rotation, offset
        held = self.prior.of(image)
        return held.pose(held.relative(rotation, offset)[0], offset)

    def _climb(
        self, image: Tensor, rotation: Tensor, shift_px: Tensor, limit: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Poses and scores, less the priors' cost, after a few Gauss-Newton steps."""
        if len(image) == 0:
            return rotation, shift_px, shift_px[:, 0]
        held = self.prior and self.prior.of(image)
        steps, view = self.settings.newton_steps, self.images.limited(self._count(limit))
        terms, rotation, shift_px = ascend(
            self.reference.slices,
            view,
            image,
            rotation,
            shift_px,
            steps,
            fused=self.settings.compile,
            prior=held,
        )
        self.evaluations += len(image) * (steps + 1)
        cost = held.cost(rotation, shift_px) if held else 0.0
        return rotation, shift_px, terms.score - cost

    def _keep(self, image: Tensor, rotation: Tensor, shift_px: Tensor, value: Tensor) -> None:
        """Remember the best of these poses of each image, where it beats the best so far."""
        if len(image) == 0:
            return
        best = self.value.scatter_reduce(0, image, value, "amax")
        wins = (value == best[image]) & (value > self.value[image])
        row = torch.where(wins, torch.arange(len(image), device=image.device), -1)
        row = torch.full_like(self.rows, -1).scatter_reduce(0, image, row, "amax")
        new, row = row >= 0, row.clamp_min(0)
        self.value = best
        self.rotation = torch.where(new[:, None, None], rotation[row], self.rotation)
        self.shift_px = torch.where(new[:, None], shift_px[row], self.shift_px)

    def _count(self, limit: float) -> int:
        return half_plane(self.images.box).count(limit)
