"""The E-step: poses of a batch, and what the batch adds to the sums of the M-step."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields, replace

import torch
from torch import Tensor

from cryotorch.ops.forward import backproject_terms, predict, shift_phase
from cryotorch.ops.fourier import half_plane, pack, unpack
from cryotorch.ops.likelihood import Observation, residual_power
from cryotorch.ops.masks import soft_circle
from cryotorch.ops.matmul import coarse_dtype
from cryotorch.ops.rotations import from_rotation_vector
from cryotorch.ops.slices import (
    Accumulator,
    Projector,
    accumulator,
    insert_slices_,
    of_each,
    projector,
)
from cryotorch.particles import Batch
from cryotorch.refine.branch_and_bound import PowerTable, Pruning, bounded_search, power_table
from cryotorch.refine.frame import Drift, take_out
from cryotorch.refine.local import local_candidates
from cryotorch.refine.observe import observe
from cryotorch.refine.search import Poses, Reference, coarse_candidates, polish, prepare
from cryotorch.refine.state import Settings, State
from cryotorch.refine.tether import Tether

RELOCATE = 2.0  # pixels around the last centre that later coarse searches look at


@dataclass(frozen=True)
class Found:
    """What the E-step learnt, one row per particle of the whole set; rows of other ranks are zero.

    Attributes:
        rotation: (n, 3, 3); shift: (n, 2) Å; sigma: (n, 2) radians, Å; cross, power: (n,) at scale 1;
        seen: (n,) 1 where a row was filled.
        residual: (2, g, s) sums of |y - f|^2; count: (2, g) images.
        pruning: the numbers of ``branch_and_bound.Pruning``.
    """

    rotation: Tensor
    shift: Tensor
    sigma: Tensor
    cross: Tensor
    power: Tensor
    seen: Tensor
    residual: Tensor
    count: Tensor
    pruning: Tensor

    def tensors(self) -> list[Tensor]:
        """For the reduction over ranks."""
        return [getattr(self, name) for name in self.__dataclass_fields__]


@dataclass(frozen=True)
class Spread:
    """A pose posterior as ``n`` rotations of equal weight, each with the shift's distribution given the rotation.

    Attributes:
        rotation: n of (b, 3, 3); offset_px: n of (b, 2), mean shift relative to the best one.
        shift_covariance: (b, 2, 2) pixels^2 of the shift at a given rotation, the same for all of them.
    """

    rotation: list[Tensor]
    offset_px: list[Tensor]
    shift_covariance: Tensor


def spread_poses(poses: Poses, posterior: str) -> Spread:
    """Where a particle is inserted. "map": at its best pose. "laplace": over its Gaussian posterior.

    The rotations are the six points +-sqrt(3) L_j, L the Cholesky factor of the rotation's covariance: the cubature rule of
    degree 3 (Arasaratnam & Haykin 2009, doi:10.1109/TAC.2009.2019800). The shift is Gaussian given the rotation and is
    integrated in closed form, which leaves fewer insertions than the ten points of all five dimensions.
    """
    if posterior == "map":
        zero = torch.zeros_like(poses.shift_px)
        return Spread([poses.rotation], [zero], zero[:, :, None].expand(-1, 2, 2))
    covariance = poses.covariance.double()
    turn, mixed = covariance[:, :3, :3], covariance[:, 3:, :3]
    slope = torch.linalg.solve(turn, mixed.mT).mT  # mean shift per rotation vector
    rest = covariance[:, 3:, 3:] - slope @ mixed.mT
    root = math.sqrt(3) * torch.linalg.cholesky(turn)
    steps = [sign * root[:, :, j] for j in range(3) for sign in (1, -1)]
    return Spread(
        [from_rotation_vector(w.float()) @ poses.rotation for w in steps],
        [(slope @ w[:, :, None])[:, :, 0].float() for w in steps],
        rest.float(),
    )


class Expectation:
    """One E-step over all batches of an iteration: prepare, call with every batch, read ``sums`` and ``found``."""

    def __init__(self, state: State, settings: Settings, device: torch.device) -> None:
        s, n = settings, len(state.particles)
        self.state, self.settings, self.device = state, s, device
        self.seconds: dict[str, float] = {}
        self.half: int | None = None
        self.reference: Reference | None = None
        self.rest: Projector | None = None
        self.table: PowerTable | None = None
        self.sums: list[Accumulator] = [accumulator(s.box, s.padding, device) for _ in range(2)]
        groups = len(state.particles.optics.voltage_kv)
        self.found = Found(
            rotation=torch.zeros(n, 3, 3),
            shift=torch.zeros(n, 2),
            sigma=torch.zeros(n, 2),
            cross=torch.zeros(n),
            power=torch.zeros(n),
            seen=torch.zeros(n),
            residual=torch.zeros(2, groups, s.box // 2 + 1, dtype=torch.float64),
            count=torch.zeros(2, groups, dtype=torch.float64),
            pruning=torch.zeros(len(fields(Pruning)), dtype=torch.float64),
        )
        # beyond the alignment limit only as far as the FSC of this iteration can reach
        self.insert_limit = min(s.box / 2, 2 * state.limit + 8)

    @contextmanager
    def timed(self, phase: str):
        """Add the wall time of a block to ``seconds[phase]``."""
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start

    def use_half(self, half: int) -> Reference:
        """The half set's reference; the other one's templates are dropped, batches come half by half."""
        if half != self.half:
            with self.timed("templates"):
                self.reference = None
                self.reference = prepare(
                    self.state.references[half],
                    self.state.limit,
                    self.settings.search,
                    self.settings.group if self.settings.local is None else None,
                    self.settings.matmul_dtype or coarse_dtype(self.device),
                )
                self.half = half
                if self.settings.search.method == "branch_and_bound":
                    local = self.settings.local
                    self.table = power_table(
                        self.reference, self.settings.search, local and local.reach
                    )
                if self.state.rest is not None:
                    self.rest = projector(self.state.rest[half])
        return self.reference

    def __call__(self, batch: Batch) -> None:
        """Search, then add to the noise and map sums."""
        rows = batch.index.cpu()
        if len(rows) == 0:
            return
        s, state = self.settings, self.state
        reference = self.use_half(batch.half)
        with self.timed("transform"):
            seen = observe(state.particles, rows, batch.images, state.noise, batch.half, s)
            searched = self._without_rest(seen, rows)
        tether = self._tether(rows)
        poses = self._search(reference, searched.limited(self._count(state.limit)), rows, tether)
        with self.timed("insert"):
            self._add_noise(rows, searched, poses, reference, batch.half)
            poses = self._in_frame(poses, tether)
            self._insert(seen, poses, state.particles.scale[rows].to(self.device), batch.half)
        self._record(rows, poses, state.particles.scale[rows])

    def _search(
        self, reference: Reference, seen: Observation, rows: Tensor, tether: Tether | None
    ) -> Poses:
        """The best poses of a batch, by the method asked for."""
        state, s = self.state, self.settings
        previous = state.particles.rotation[rows].to(self.device) if state.posed else None
        centre = (state.particles.shift[rows] / s.pixel_size).to(self.device)
        extent = RELOCATE if state.iteration > 0 else s.search.shift_extent
        if s.search.method == "branch_and_bound":
            with self.timed("bound"):
                where = (previous, centre, extent, tether)
                poses, pruning = bounded_search(reference, self.table, seen, *where, s.search)
                self.found.pruning.add_(torch.tensor(astuple(pruning), dtype=torch.float64))
            return poses
        with self.timed("coarse"):
            if tether is None:
                candidates = coarse_candidates(reference, seen, previous, centre, extent, s.search)
            else:
                candidates = local_candidates(reference, seen, previous, centre, tether, s.search)
        with self.timed("polish"):
            return polish(reference, seen, *candidates, s.search, tether)

    def _without_rest(self, seen: Observation, rows: Tensor) -> Observation:
        """The images less the projections of what a local search leaves out, where it was before."""
        if self.rest is None:
            return seen
        state, s = self.state, self.settings
        rotation = state.anchor_rotation[rows].to(self.device)
        shift_px = (state.anchor_shift[rows] / s.pixel_size).to(self.device)
        rest = predict(self.rest, rotation, shift_px, seen.gain, magnification=seen.magnification)
        return replace(seen, spectrum=seen.spectrum - rest)

    def _tether(self, rows: Tensor) -> Tether | None:
        """What ties these particles down in a local search."""
        state, s = self.state, self.settings
        if s.local is None:
            return None
        shift_px = state.centre_shift[rows] / s.pixel_size
        return Tether(
            state.centre_rotation[rows].to(self.device), shift_px.to(self.device), s.local.reach
        )

    def _in_frame(self, poses: Poses, tether: Tether | None) -> Poses:
        """Without the drift that the references had: what is inserted now goes back to the initial map's frame."""
        drift = Drift(self.state.drift_turn, self.state.drift_move / self.settings.pixel_size)
        rotation, shift_px = take_out(drift, poses.rotation, poses.shift_px)
        if tether is not None:
            rotation, shift_px = tether.confine(rotation, shift_px)
        return replace(poses, rotation=rotation, shift_px=shift_px)

    def _count(self, limit: float) -> int:
        return half_plane(self.settings.box).count(limit)

    def _add_noise(
        self, rows: Tensor, seen: Observation, poses: Poses, reference: Reference, half: int
    ) -> None:
        """Residual power per optics group; beyond the alignment limit the prediction counts as zero."""
        plane = half_plane(self.settings.box, self.device)
        count = self._count(self.state.limit)
        prediction = torch.zeros_like(seen.spectrum)
        prediction[:, :count] = predict(
            reference.slices,
            poses.rotation,
            poses.shift_px,
            seen.gain[:, :count],
            magnification=seen.magnification,
        )
        groups = self.state.particles.optics_group[rows]
        for g in groups.unique().tolist():
            mine = (groups == g).to(self.device)
            power = residual_power(
                seen.spectrum[mine], prediction[mine], plane.shell, self.settings.box // 2 + 1
            )
            self.found.residual[half, g] += power.cpu()
            self.found.count[half, g] += int(mine.sum())

    def _insert(self, seen: Observation, poses: Poses, scale: Tensor, half: int) -> None:
        s = self.settings
        plane = half_plane(s.box, self.device)
        count = self._count(self.insert_limit)
        frequency = plane.frequency[:count]
        ctf = (seen.gain / scale[:, None])[:, :count]
        numerator, weight = backproject_terms(
            self._windowed(seen.spectrum, poses.shift_px)[:, :count],
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
        for rotation, offset in zip(spread.rotation, spread.offset_px, strict=True):
            moved = numerator * shift_phase(-offset, s.box, count)
            insert_slices_(self.sums[half], moved, weight, rotation, points)

    def _windowed(self, spectrum: Tensor, shift_px: Tensor) -> Tensor:
        """Cut the noise around each particle: centre, multiply by a soft circle, move back."""
        s = self.settings
        edge = max(3.0, 0.05 * s.box)
        # the mask of a local search is around a part of the particle
        radius = s.particle_radius or (self.state.mask_radius if s.local is None else None)
        if radius is None or radius + edge >= s.window[1]:
            radius = s.window[1] - edge
        circle = soft_circle(s.box, radius, edge).to(self.device)
        phase = shift_phase(shift_px, s.box)
        return pack(unpack(spectrum * phase.conj(), s.box) * circle) * phase

    def _record(self, rows: Tensor, poses: Poses, scale: Tensor) -> None:
        found, pixel = self.found, self.settings.pixel_size
        variance = poses.covariance.diagonal(dim1=1, dim2=2).cpu()
        found.rotation[rows] = poses.rotation.cpu()
        found.shift[rows] = poses.shift_px.cpu() * pixel
        found.sigma[rows] = torch.stack(
            [variance[:, :3].mean(1).sqrt(), variance[:, 3:].mean(1).sqrt() * pixel], 1
        )
        found.cross[rows] = poses.terms.cross.cpu() / scale
        found.power[rows] = poses.terms.power.cpu() / scale**2
        found.seen[rows] = 1
