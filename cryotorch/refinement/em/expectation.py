"""The E-step, piece by piece: what an image shows, its pose, how much it counts, and what it adds to the sums of the M-step."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields, replace

import torch
from torch import Tensor

from cryotorch.ops.fourier.image_model import backproject_terms, predict, shift_phase
from cryotorch.ops.fourier.slices import Accumulator, accumulator, insert_slices_, of_each
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.host import to_host
from cryotorch.ops.pose.precision import coarse_dtype
from cryotorch.ops.pose.scores import Observation, residual_power
from cryotorch.particles import Batch
from cryotorch.refinement import image_weight
from cryotorch.refinement.em.frame_drift import Drift, remove_drift
from cryotorch.refinement.em.pose_spread import spread_poses
from cryotorch.refinement.image_terms import observe
from cryotorch.refinement.particle_window import cut_out, particle_window
from cryotorch.refinement.pose_search.branch_and_bound import Pruning
from cryotorch.refinement.pose_search.finders import Bound, Climb, Start
from cryotorch.refinement.pose_search.local_region import LocalRegion
from cryotorch.refinement.pose_search.pose_error import SAMPLE, other_poses
from cryotorch.refinement.pose_search.pose_prior import PosePrior
from cryotorch.refinement.pose_search.search import Poses, Reference, prepare
from cryotorch.refinement.pose_search.stable_poses import stable_poses
from cryotorch.refinement.runtime.timing import Clock
from cryotorch.refinement.settings import EMSettings
from cryotorch.refinement.state import State


@dataclass(frozen=True)
class Images:
    """A batch of b images of one half set.

    Attributes:
        rows: (b,) in the whole set; half: 0 or 1; scale: (b,) of the particles.
        seen: the images as they are; inside: less what a local search leaves out.
        prior: what ties their poses in a local search, else None.
    """

    rows: Tensor
    half: int
    scale: Tensor
    seen: Observation
    inside: Observation
    prior: PosePrior | None


@dataclass(frozen=True)
class Best:
    """The poses of a batch, and what branch and bound discarded on the way to them."""

    poses: Poses
    pruning: Pruning | None


@dataclass(frozen=True)
class Weighed:
    """What a batch may add to the sums.

    Attributes:
        seen: the images with the precision that each has; best: their poses, in the frame of the initial map.
        power, count: (g, s) residual power times what the images count, and the sums of that.
        learnt: by name what ``Found`` is to hold of the images, b rows each.
    """

    seen: Observation
    best: Best
    power: Tensor
    count: Tensor
    learnt: dict[str, Tensor]


@dataclass(frozen=True)
class EStepResult:
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

    def cpu(self) -> EStepResult:
        """The same where the particles are."""
        return EStepResult(*to_host(self.tensors()))

    @classmethod
    def empty(cls, state: State, box: int, device: torch.device) -> EStepResult:
        """Nothing found yet of the particles of a state."""
        n, spectra = len(state.particles), (2, len(state.particles.optics), box // 2 + 1)

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(shape, device=device, dtype=dtype)

        return cls(
            rotation=zeros(n, 3, 3),
            shift=zeros(n, 2),
            sigma=zeros(n, 2),
            cross=zeros(n),
            power=zeros(n),
            seen=zeros(n),
            certain=zeros(n),
            moved=zeros(n, 2),
            ratio=zeros(n, len(state.most)),
            blank=zeros(n),
            residual=zeros(*spectra, dtype=torch.float64),
            count=zeros(*spectra, dtype=torch.float64),
            pruning=zeros(len(fields(Pruning)), dtype=torch.float64),
        )


class Expectation:
    """One E-step over all batches of an iteration, in the pieces that ``iteration.expect`` puts together; ``sums`` and ``found`` hold
    what it learnt.

    Everything lies on the device, and the host waits for nothing but the sizes that the search depends on.
    """

    def __init__(self, state: State, settings: EMSettings, device: torch.device) -> None:
        s = settings
        self.state, self.settings, self.device = state, s, device
        self.particles = state.particles.to(device)
        self.clock = Clock(device)
        self.local: LocalRegion | None = None
        if s.local is not None:
            self.local = LocalRegion(state, s.local.reach, s.pixel_size, device)
        self.finder: Climb | Bound = Climb(s.search, self.clock)
        if s.search.method == "branch_and_bound":
            self.finder = Bound(s.search, self.clock, s.local and s.local.reach)
        turn, move = state.drift_turn, state.drift_move / s.pixel_size
        self.drift = Drift(turn.to(device), move.to(device))
        resting = stable_poses(state.calm, state.iteration)
        self.settled = resting.to(device) if bool(resting.any()) and s.local is None else None
        self.all_known, self.some_known = bool(state.known.all()), bool(state.known.any())
        self.prepared: tuple[int, bool] | None = None
        self.sums: list[Accumulator] = [accumulator(s.box, s.padding, device) for _ in range(2)]
        self.found = EStepResult.empty(state, s.box, device)
        # beyond the alignment limit only as far as the FSC of this iteration can reach
        self.insert_limit = min(s.box / 2, 2 * state.limit + 8)
        # the mask of a local search is around a part of the particle
        radius = s.particle_radius or (state.mask_radius if s.local is None else None)
        self.window = particle_window(state.particles, radius, self.insert_limit, s.grid, device)
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
                reference = prepare(
                    self.state.references[half],
                    self.state.limit,
                    search,
                    self.settings.group if self.local is None else None,
                    self.settings.matmul_dtype or coarse_dtype(self.device),
                )
                self.finder.use(reference)
                if self.local is not None:
                    self.local.use(half)
                self.prepared = half, known  # now that all of it is there
        return self.reference

    @property
    def reference(self) -> Reference | None:
        """In use, None where it was dropped."""
        return self.finder.reference

    def drop(self) -> None:
        """Let go of reference and templates."""
        self.finder.reference = self.prepared = None

    def observe(self, batch: Batch) -> Images:
        """Transforms, CTF and noise of a batch, and what is known of it before."""
        rows, s = batch.index.to(self.device), self.settings
        with self.clock.phase("transform"):
            seen = observe(self.particles, rows, batch.images, self.state.noise[batch.half], s.grid)
            inside = seen if self.local is None else self.local.inside(seen, rows)
        prior = None if self.local is None else self.local.prior(rows)
        return Images(rows, batch.half, self.particles.scale[rows], seen, inside, prior)

    def search(self, images: Images) -> Best:
        """The best poses against the reference in use, up to the limit of the iteration."""
        rows, known = images.rows, self.prepared[1]
        start = Start(
            self.particles.rotation[rows] if known else None,
            self.particles.shift[rows] / self.settings.pixel_size,
            images.prior,
            self.settled[rows] if known and self.settled is not None else None,
        )
        return Best(*self.finder(images.inside.limited(self._count(self.state.limit)), start))

    def compare(self, images: Images, best: Best) -> Tensor:
        """How far (b, 2), radians and Å, poses move against the other half set's reference, for the first images of each half set."""
        moved = torch.zeros(len(images.rows), 2, device=self.device)
        few = torch.arange(min(len(moved), self.to_compare[images.half]), device=self.device)
        if len(few):
            other, limit = self.state.references[1 - images.half], self.state.limit
            seen, prior = images.inside.limited(self._count(limit)), images.prior
            with self.clock.phase("polish"):
                place = seen.of(few), best.poses.of(few), self.settings.search
                moved[: len(few)] = other_poses(other, limit, *place, prior and prior.of(few))
            moved[:, 1] *= self.settings.pixel_size
        return moved

    def weigh(self, reference: Reference, images: Images, best: Best, moved: Tensor) -> Weighed:
        """The residual power of images at their poses, and how much they count by it; ``moved`` (b, 2) as from ``compare``."""
        residual = self._residual(images.inside, best.poses, reference)
        ratio, blank = image_weight.loudness(residual, images.seen)
        factor = image_weight.factors(ratio, self.state.most, blank)
        optics = self.particles.optics_group[images.rows], len(self.particles.optics)
        sums = image_weight.noise_sums(residual, factor, *optics, self.settings.box)
        best = replace(best, poses=self._in_frame(best.poses, images.prior))
        learnt = self._of_poses(best.poses, images.scale) | {"moved": moved}
        learnt |= {"ratio": ratio, "blank": blank.to(images.scale)}
        return Weighed(image_weight.weighed(images.seen, factor), best, *sums, learnt)

    def insert(self, images: Images, weighed: Weighed) -> None:
        """Add images to the sums of their half set, spread over the posterior of their poses."""
        s, seen, poses, scale = self.settings, weighed.seen, weighed.best.poses, images.scale
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
            insert_slices_(self.sums[images.half], slices, weight, rotation, points)

    def record(self, images: Images, weighed: Weighed) -> None:
        """Keep what was learnt of the images; what that takes of memory is there already."""
        for name, values in weighed.learnt.items():
            getattr(self.found, name).index_copy_(0, images.rows, values)
        half, n = images.half, len(images.rows)
        self.found.residual[half] += weighed.power
        self.found.count[half] += weighed.count
        self.to_compare[half] -= min(n, self.to_compare[half])
        if weighed.best.pruning is not None:
            counts = torch.tensor(astuple(weighed.best.pruning), dtype=torch.float64)
            self.found.pruning.add_(counts.to(self.device))

    def _known(self, batch: Batch) -> bool:
        """Whether the particles have poses: all of a batch or none, as early iterations take whole batches."""
        if self.some_known and not self.all_known:
            return bool(self.state.known[int(batch.index[0])])
        return self.all_known

    def _of_poses(self, poses: Poses, scale: Tensor) -> dict[str, Tensor]:
        pixel = self.settings.pixel_size
        variance = poses.covariance.diagonal(dim1=1, dim2=2)
        turn, move = variance[:, :3].mean(1).sqrt(), variance[:, 3:].mean(1).sqrt() * pixel
        return {
            "rotation": poses.rotation,
            "shift": poses.shift_px * pixel,
            "sigma": torch.stack([turn, move], 1),
            "cross": poses.terms.cross / scale,
            "power": poses.terms.power / scale**2,
            "seen": torch.ones_like(scale),
            "certain": poses.certain.to(scale),
        }

    def _in_frame(self, poses: Poses, prior: PosePrior | None) -> Poses:
        """Without the drift that the references had: what is inserted now goes back to the initial map's frame."""
        rotation, shift_px = remove_drift(self.drift, poses.rotation, poses.shift_px)
        if prior is not None:
            rotation, shift_px = prior.confine(rotation, shift_px)
        return replace(poses, rotation=rotation, shift_px=shift_px)

    def _count(self, limit: float) -> int:
        return half_plane(self.settings.box).count(limit)

    def _residual(self, seen: Observation, poses: Poses, reference: Reference) -> Tensor:
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
