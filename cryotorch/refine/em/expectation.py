"""The E-step: poses of a batch, and what the batch adds to the sums of the M-step."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields, replace

import torch
from torch import Tensor

from cryotorch.ops.fourier.image_model import backproject_terms, predict, shift_phase
from cryotorch.ops.fourier.slices import (
    Accumulator,
    Projector,
    accumulator,
    insert_slices_,
    of_each,
    projector,
)
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.pose.precision import coarse_dtype
from cryotorch.ops.pose.scores import Observation, residual_power
from cryotorch.particles import Batch
from cryotorch.refine import image_weight
from cryotorch.refine.em.frame_drift import Drift, take_out
from cryotorch.refine.em.pose_spread import spread_poses
from cryotorch.refine.image_terms import observe
from cryotorch.refine.particle_window import cut_out, particle_window
from cryotorch.refine.pose_search.branch_and_bound import (
    PowerTable,
    Pruning,
    bounded_search,
    power_table,
)
from cryotorch.refine.pose_search.local import local_candidates
from cryotorch.refine.pose_search.pose_error import SAMPLE, other_poses
from cryotorch.refine.pose_search.pose_prior import Tether
from cryotorch.refine.pose_search.search import Poses, Reference, coarse_candidates, polish, prepare
from cryotorch.refine.pose_search.stable_poses import settled
from cryotorch.refine.runtime.timing import Clock
from cryotorch.refine.settings import Settings
from cryotorch.refine.state import State

RELOCATE = 2.0  # pixels around the last centre that later coarse searches look at


@dataclass(frozen=True)
class Found:
    """What the E-step learnt, one row per particle of the whole set; rows of other ranks are zero.

    Attributes:
        rotation: (n, 3, 3); shift: (n, 2) Å; sigma: (n, 2) radians, Å; cross, power: (n,) at scale 1;
        seen: (n,) 1 where a row was filled; certain: (n,) 1 where no other pose came close.
        moved: (n, 2) radians, Å, against the other half set's reference, for a sample; see ``pose_error``.
        ratio: (n, bands) residual power over the noise estimate; blank: (n,) 1 where an image is.
        residual: (2, g, s) sums of |y - f|^2 times what images count; count: (2, g, s) the sums of that.
        pruning: the numbers of ``branch_and_bound.Pruning``.
    """

    rotation: Tensor
    shift: Tensor
    sigma: Tensor
    cross: Tensor
    power: Tensor
    seen: Tensor
    certain: Tensor
    moved: Tensor
    ratio: Tensor
    blank: Tensor
    residual: Tensor
    count: Tensor
    pruning: Tensor

    def tensors(self) -> list[Tensor]:
        """For the reduction over ranks."""
        return [getattr(self, name) for name in self.__dataclass_fields__]

    def cpu(self) -> Found:
        """The same where the particles are."""
        return Found(*(tensor.cpu() for tensor in self.tensors()))


class Expectation:
    """One E-step over all batches of an iteration: prepare, call with every batch, read ``sums`` and ``found``.

    Everything lies on the device, and the host waits for nothing but the sizes that the search depends on.
    """

    def __init__(self, state: State, settings: Settings, device: torch.device) -> None:
        s, n = settings, len(state.particles)
        self.state, self.settings, self.device = state, s, device
        self.particles = state.particles.to(device)
        if s.local is not None:
            tied = (state.anchor_rotation, state.anchor_shift)
            tied += (state.centre_rotation, state.centre_shift)
            self.anchor_rotation, self.anchor_shift, *self.centre = (t.to(device) for t in tied)
        turn, move = state.drift_turn, state.drift_move / s.pixel_size
        self.drift = Drift(turn.to(device), move.to(device))
        self.clock = Clock(device)
        resting = settled(state.calm, state.iteration)
        self.settled, self.some_settled = resting.to(device), bool(resting.any())
        self.all_known, self.some_known = bool(state.known.all()), bool(state.known.any())
        self.prepared: tuple[int, bool] | None = None
        self.reference: Reference | None = None
        self.rest: Projector | None = None
        self.table: PowerTable | None = None
        self.sums: list[Accumulator] = [accumulator(s.box, s.padding, device) for _ in range(2)]
        groups = len(state.particles.optics.voltage_kv)
        single, double = (
            dict(device=device, dtype=dtype) for dtype in (torch.float32, torch.float64)
        )
        self.found = Found(
            rotation=torch.zeros(n, 3, 3, **single),
            shift=torch.zeros(n, 2, **single),
            sigma=torch.zeros(n, 2, **single),
            cross=torch.zeros(n, **single),
            power=torch.zeros(n, **single),
            seen=torch.zeros(n, **single),
            certain=torch.zeros(n, **single),
            moved=torch.zeros(n, 2, **single),
            ratio=torch.zeros(n, len(state.most), **single),
            blank=torch.zeros(n, **single),
            residual=torch.zeros(2, groups, s.box // 2 + 1, **double),
            count=torch.zeros(2, groups, s.box // 2 + 1, **double),
            pruning=torch.zeros(len(fields(Pruning)), **double),
        )
        # beyond the alignment limit only as far as the FSC of this iteration can reach
        self.insert_limit = min(s.box / 2, 2 * state.limit + 8)
        # the mask of a local search is around a part of the particle
        radius = s.particle_radius or (state.mask_radius if s.local is None else None)
        self.window = particle_window(state.particles, radius, self.insert_limit, s, device)
        self.to_compare = [SAMPLE, SAMPLE]  # images of each half set, see ``pose_error``

    def use(self, batch: Batch) -> Reference:
        """The half set's reference for particles with or without poses; the last templates are dropped, batches come in this order.

        A first search looks everywhere, so its coarse step has the limit of the first iteration.
        """
        half, known = batch.half, self._known(batch)
        if (half, known) != self.prepared:
            search, first = self.settings.search, self.settings.schedule.first_limit
            if not known:
                search = replace(search, coarse_limit=min(search.coarse_limit, first))
            with self.clock.phase("templates"):
                self.drop()
                self.reference = prepare(
                    self.state.references[half],
                    self.state.limit,
                    search,
                    self.settings.group if self.settings.local is None else None,
                    self.settings.matmul_dtype or coarse_dtype(self.device),
                )
                if self.settings.search.method == "branch_and_bound":
                    local = self.settings.local
                    self.table = power_table(
                        self.reference, self.settings.search, local and local.reach
                    )
                if self.state.rest is not None:
                    self.rest = projector(self.state.rest[half])
                self.prepared = half, known  # now that all of it is there
        return self.reference

    def drop(self) -> None:
        """Let go of reference and templates."""
        self.reference = self.prepared = None

    def __call__(self, batch: Batch) -> None:
        """Search, then add to the noise and map sums. When the device runs out of memory nothing has been added."""
        rows = batch.index.to(self.device)
        if len(rows) == 0:
            return
        s, state, scale = self.settings, self.state, self.particles.scale[rows]
        reference = self.use(batch)
        with self.clock.phase("transform"):
            seen = observe(self.particles, rows, batch.images, state.noise, batch.half, s)
            searched = self._without_rest(seen, rows)
        tether = self._tether(rows)
        view = searched.limited(self._count(state.limit))
        poses, pruning = self._search(reference, view, rows, tether)
        moved = self._compare(view, poses, batch.half, tether)
        with self.clock.phase("insert"):
            residual = self._residual(rows, searched, poses, reference)
            ratio, blank = image_weight.loudness(residual, seen)
            factor = image_weight.factors(ratio, state.most, blank)
            poses = self._in_frame(poses, tether)
            learnt = self._learnt(poses, scale) | {"moved": moved}
            learnt |= {"ratio": ratio, "blank": blank.to(scale)}
            self._insert(image_weight.weighed(seen, factor), poses, scale, batch.half)
            groups = self.particles.optics_group[rows], len(self.particles.optics)
            sums = image_weight.noise_sums(residual, factor, *groups, s.box)
            self._record(rows, learnt, sums, batch.half)
            self.to_compare[batch.half] -= min(len(rows), self.to_compare[batch.half])
            if pruning is not None:
                counts = torch.tensor(astuple(pruning), dtype=torch.float64)
                self.found.pruning.add_(counts.to(self.device))

    def _search(
        self,
        reference: Reference,
        seen: Observation,
        rows: Tensor,
        tether: Tether | None,
    ) -> tuple[Poses, Pruning | None]:
        """The best poses of a batch, by the method asked for."""
        s, known = self.settings, self.prepared[1]
        previous = self.particles.rotation[rows] if known else None
        centre = self.particles.shift[rows] / s.pixel_size
        extent = RELOCATE if known else s.search.shift_extent
        if s.search.method == "branch_and_bound":
            with self.clock.phase("bound"):
                where = (previous, centre, extent, tether)
                return bounded_search(reference, self.table, seen, *where, s.search)
        if self.some_settled and known and tether is None:
            return self._search_unsettled(reference, seen, rows, previous, centre), None
        with self.clock.phase("coarse"):
            if tether is None:
                candidates = coarse_candidates(reference, seen, previous, centre, extent, s.search)
            else:
                candidates = local_candidates(reference, seen, previous, centre, tether, s.search)
        with self.clock.phase("polish"):
            return polish(reference, seen, *candidates, s.search, tether), None

    def _search_unsettled(
        self,
        reference: Reference,
        seen: Observation,
        rows: Tensor,
        previous: Tensor,
        centre: Tensor,
    ) -> Poses:
        """A global search for those that need one; settled poses climb on from where they are."""
        settled, s = self.settled[rows], self.settings.search
        moving, resting = (torch.nonzero(which)[:, 0] for which in (~settled, settled))
        found = []
        if len(moving):
            some, where = seen.of(moving), (previous[moving], centre[moving])
            with self.clock.phase("coarse"):
                candidates = coarse_candidates(reference, some, *where, RELOCATE, s)
            with self.clock.phase("polish"):
                found.append(polish(reference, some, *candidates, s))
        if len(resting):
            with self.clock.phase("polish"):
                image = torch.arange(len(resting), device=rows.device)
                start = image, previous[resting], centre[resting]
                limit = max(reference.coarse_limit, reference.limit / 2)
                found.append(polish(reference, seen.of(resting), *start, s, first=limit))
        if len(found) == 1:
            return found[0]
        return found[0].joined(found[1], torch.cat([moving, resting]))

    def _known(self, batch: Batch) -> bool:
        """Whether the particles have poses: all of a batch or none, as early iterations take whole batches."""
        if self.some_known and not self.all_known:
            return bool(self.state.known[int(batch.index[0])])
        return self.all_known

    def _without_rest(self, seen: Observation, rows: Tensor) -> Observation:
        """The images less the projections of what a local search leaves out, where it was before."""
        if self.rest is None:
            return seen
        pose = self.anchor_rotation[rows], self.anchor_shift[rows] / self.settings.pixel_size
        rest = predict(self.rest, *pose, seen.gain, magnification=seen.magnification)
        return replace(seen, spectrum=seen.spectrum - rest)

    def _tether(self, rows: Tensor) -> Tether | None:
        """What ties these particles down in a local search."""
        s = self.settings
        if s.local is None:
            return None
        rotation, shift = self.centre
        return Tether(rotation[rows], shift[rows] / s.pixel_size, s.local.reach)

    def _compare(self, seen: Observation, poses: Poses, half: int, tether: Tether | None) -> Tensor:
        """How far (b, 2), radians and Å, poses move against the other half set's reference, for the first images of each half set."""
        moved = torch.zeros(len(poses.rotation), 2, device=self.device)
        few = torch.arange(min(len(moved), self.to_compare[half]), device=self.device)
        if len(few):
            other, limit = self.state.references[1 - half], self.state.limit
            tied = tether and tether.of(few)
            with self.clock.phase("polish"):
                place = seen.of(few), poses.of(few), self.settings.search, tied
                moved[: len(few)] = other_poses(other, limit, *place)
            moved[:, 1] *= self.settings.pixel_size
        return moved

    def _in_frame(self, poses: Poses, tether: Tether | None) -> Poses:
        """Without the drift that the references had: what is inserted now goes back to the initial map's frame."""
        rotation, shift_px = take_out(self.drift, poses.rotation, poses.shift_px)
        if tether is not None:
            rotation, shift_px = tether.confine(rotation, shift_px)
        return replace(poses, rotation=rotation, shift_px=shift_px)

    def _count(self, limit: float) -> int:
        return half_plane(self.settings.box).count(limit)

    def _residual(
        self, rows: Tensor, seen: Observation, poses: Poses, reference: Reference
    ) -> Tensor:
        """Residual power (b, m); beyond the alignment limit the prediction counts as zero."""
        count = self._count(self.state.limit)
        prediction = torch.zeros_like(seen.spectrum)
        prediction[:, :count] = predict(
            reference.slices,
            poses.rotation,
            poses.shift_px,
            seen.gain[:, :count],
            magnification=seen.magnification,
        )
        return residual_power(seen.spectrum, prediction)

    def _insert(self, seen: Observation, poses: Poses, scale: Tensor, half: int) -> None:
        s = self.settings
        plane = half_plane(s.box, self.device)
        count = self._count(self.insert_limit)
        frequency = plane.frequency[:count]
        ctf = (seen.gain / scale[:, None])[:, :count]
        numerator, weight = backproject_terms(
            cut_out(seen.spectrum, poses.shift_px, self.window)[:, :count],
            poses.shift_px,
            ctf,
            seen.precision[:, :count],
            scale,
            s.box,
        )
        spread, points = spread_poses(poses, s.posterior), of_each(frequency, seen.magnification)
        share = 1 / len(spread.rotation)
        # the mean of exp(-2 pi i k.delta / d) over a Gaussian delta
        turn = (2 * torch.pi / s.box) ** 2
        blur = ((frequency @ spread.shift_covariance) * frequency).sum(-1)
        numerator, weight = numerator * (share * torch.exp(-0.5 * turn * blur)), weight * share
        # all of them before the first is inserted
        moved = [numerator * shift_phase(-offset, s.box, count) for offset in spread.offset_px]
        for slices, rotation in zip(moved, spread.rotation, strict=True):
            insert_slices_(self.sums[half], slices, weight, rotation, points)

    def _learnt(self, poses: Poses, scale: Tensor) -> dict[str, Tensor]:
        """What ``found`` is to hold of the particles of a batch."""
        pixel = self.settings.pixel_size
        variance = poses.covariance.diagonal(dim1=1, dim2=2)
        return {
            "rotation": poses.rotation,
            "shift": poses.shift_px * pixel,
            "sigma": torch.stack(
                [variance[:, :3].mean(1).sqrt(), variance[:, 3:].mean(1).sqrt() * pixel], 1
            ),
            "cross": poses.terms.cross / scale,
            "power": poses.terms.power / scale**2,
            "seen": torch.ones_like(scale),
            "certain": poses.certain.to(scale),
        }

    def _record(
        self, rows: Tensor, learnt: dict[str, Tensor], residual: tuple[Tensor, Tensor], half: int
    ) -> None:
        for name, values in learnt.items():
            getattr(self.found, name).index_copy_(0, rows, values)
        power, count = residual
        self.found.residual[half] += power
        self.found.count[half] += count
