"""The E-step, piece by piece: what an image shows, its pose, how much it counts, and what it adds to the sums of the M-step."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields, replace

import torch
from torch import Tensor

from cryotorch.ops.fourier.image_model import backproject_terms, predict
from cryotorch.ops.fourier.slices import accumulator, insert_spread_
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
from cryotorch.refinement.pose_search.pose_error import COMPARED_IMAGES, pose_difference
from cryotorch.refinement.pose_search.pose_prior import PosePrior
from cryotorch.refinement.pose_search.search import Poses, Reference, prepare_reference
from cryotorch.refinement.pose_search.stable_poses import stable_poses
from cryotorch.refinement.runtime.timing import Clock
from cryotorch.refinement.settings import EMSettings
from cryotorch.refinement.state import State


@dataclass(frozen=True)
class Observed:
    """A batch of b images of one half set.

    Attributes:
        rows: (b,) in the whole set; half: 0 or 1; scale: (b,) of the particles.
        images: as they are; inside: less what a local search leaves out.
        prior: what ties their poses in a local search, else None.
    """

    rows: Tensor
    half: int
    scale: Tensor
    images: Observation
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
        images: with the precision that each has; best: their poses, in the frame of the initial map.
        power, count: (g, s) residual power times what the images count, and the sums of that.
        estimates: by name what ``EStepResult`` is to hold of the images, b rows each.
    """

    images: Observation
    best: Best
    power: Tensor
    count: Tensor
    estimates: dict[str, Tensor]


@dataclass(frozen=True)
class EStepResult:
    """What the E-step learnt, one row per particle of the whole set; rows of other ranks are zero.

    Attributes:
        rotation: (n, 3, 3); shift: (n, 2) Å; sigma: (n, 2) radians, Å; cross, power: (n,) at scale 1;
        updated: (n,) 1 where a row was filled; certain: (n,) 1 where no other pose came close.
        pose_difference: (n, 2) radians, Å, to the pose against the other half set's reference, for a sample; see ``pose_error``.
        ratio: (n, bands) residual power over the noise estimate, misfit: (n,) over the bands as the signal is; blank: (n,) 1 where an image is.
        residual: (2, g, s) sums of |y - f|^2 times what images count; count: (2, g, s) the sums of that.
        pruning: the numbers of ``branch_and_bound.Pruning``.
    """

    rotation: Tensor
    shift: Tensor
    sigma: Tensor
    cross: Tensor
    power: Tensor
    updated: Tensor
    certain: Tensor
    pose_difference: Tensor
    ratio: Tensor
    misfit: Tensor
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
            updated=zeros(n),
            certain=zeros(n),
            pose_difference=zeros(n, 2),
            ratio=zeros(n, len(state.max_power_ratio)),
            misfit=zeros(n),
            blank=zeros(n),
            residual=zeros(*spectra, dtype=torch.float64),
            count=zeros(*spectra, dtype=torch.float64),
            pruning=zeros(len(fields(Pruning)), dtype=torch.float64),
        )


class Expectation:
    """One E-step over all batches of an iteration, in the pieces that ``iteration.expect`` puts together; ``sums``, by half set, and ``result``
    hold what it learnt, ``filled`` the half sets that it has images of.

    Everything lies on the device, and the host waits for nothing but the sizes that the search depends on.
    """

    def __init__(self, state: State, settings: EMSettings, device: torch.device) -> None:
        self.state, self.settings, self.device = state, settings, device
        self.particles = state.particles.to(device)
        self.clock = Clock(device)
        self.local: LocalRegion | None = None
        if settings.local is not None:
            self.local = LocalRegion(state, settings.local.extent, settings.pixel_size, device)
        self.finder: Climb | Bound = Climb(settings.search, self.clock)
        if settings.search.method == "branch_and_bound":
            self.finder = Bound(settings.search, self.clock, self.local and self.local.extent)
        turn, move = state.drift_turn, state.drift_move / settings.pixel_size
        self.drift = Drift(turn.to(device), move.to(device))
        stable = stable_poses(state.stable_iterations, state.iteration)
        self.stable = stable.to(device) if bool(stable.any()) and self.local is None else None
        self.all_known, self.some_known = bool(state.has_pose.all()), bool(state.has_pose.any())
        self.prepared: tuple[int, bool] | None = None
        self.sums = {half: accumulator(settings.box, settings.padding, device) for half in (0, 1)}
        self.filled: set[int] = set()
        self.result = EStepResult.empty(state, settings.box, device)
        # beyond the shells that are aligned only as far as the FSC of this iteration can reach
        self.insertion_limit = min(settings.box / 2, 2 * state.max_shell + 8)
        # the mask of a local search is around a part of the particle
        radius = settings.particle_radius or (None if self.local else state.mask_radius)
        finest = self.insertion_limit
        self.window = particle_window(state.particles, radius, finest, settings.grid, device)
        self.to_compare = [COMPARED_IMAGES] * 2  # images of each half set, see ``pose_error``

    def use(self, batch: Batch) -> None:
        """Get the half set's reference ready for particles with or without poses; the last templates are dropped, batches come in this order.

        A first search looks everywhere, so its coarse step has the limit of the first iteration.
        """
        half, known = batch.half, self._known(batch)
        if (half, known) != self.prepared:
            search, first = self.settings.search, self.settings.schedule.first_limit
            if not known:
                search = replace(search, coarse_limit=min(search.coarse_limit, first))
            with self.clock.phase("templates"):
                self.drop()
                reference = prepare_reference(
                    self.state.references[half],
                    self.state.max_shell,
                    search,
                    self.settings.group if self.local is None else None,
                    self.settings.matmul_dtype or coarse_dtype(self.device),
                )
                self.finder.use(reference)
                if self.local is not None:
                    self.local.use(half)
                self.prepared = half, known  # now that all of it is there

    @property
    def reference(self) -> Reference | None:
        """In use, None where it was dropped."""
        return self.finder.reference

    def drop(self) -> None:
        """Let go of reference and templates."""
        self.finder.reference = self.prepared = None

    def observe(self, batch: Batch) -> Observed:
        """Transforms, CTF and noise of a batch, and what is known of it before."""
        rows, noise = batch.index.to(self.device), self.state.noise[batch.half]
        with self.clock.phase("transform"):
            images = observe(self.particles, rows, batch.images, noise, self.settings.grid)
            inside = images if self.local is None else self.local.inside(images, rows)
        prior = None if self.local is None else self.local.prior(rows)
        return Observed(rows, batch.half, self.particles.scale[rows], images, inside, prior)

    def search(self, observed: Observed) -> Best:
        """The best poses against the reference in use, up to the limit of the iteration."""
        rows, known = observed.rows, self.prepared[1]
        start = Start(
            self.particles.rotation[rows] if known else None,
            self.particles.shift[rows] / self.settings.pixel_size,
            observed.prior,
            self.stable[rows] if known and self.stable is not None else None,
        )
        return Best(*self.finder(observed.inside.limited(self._count(self.state.max_shell)), start))

    def compare(self, observed: Observed, best: Best) -> Tensor:
        """How far (b, 2), radians and Å, from poses against the other half set's reference, for the first images of each half set."""
        difference = torch.zeros(len(observed.rows), 2, device=self.device)
        n = min(len(difference), self.to_compare[observed.half])
        if n:
            few, max_shell = torch.arange(n, device=self.device), self.state.max_shell
            images, poses = observed.inside.limited(self._count(max_shell)), best.poses.of(few)
            prior = observed.prior and observed.prior.of(few)
            place = self.state.references[1 - observed.half], max_shell, images.of(few), poses
            with self.clock.phase("polish"):
                difference[:n] = pose_difference(*place, self.settings.search, prior)
            difference[:, 1] *= self.settings.pixel_size
        return difference

    def weigh(self, observed: Observed, best: Best, difference: Tensor) -> Weighed:
        """The residual power of images at their poses, and how much they count by it; ``moved`` (b, 2) as from ``compare``."""
        prediction = self._prediction(observed.inside, best.poses)
        residual = residual_power(observed.inside.spectrum, prediction)
        ratio, blank = image_weight.loudness(residual, observed.images)
        factor = image_weight.factors(ratio, self.state.max_power_ratio, blank)
        optics = self.particles.optics_group[observed.rows], len(self.particles.optics)
        sums = image_weight.noise_sums(residual, factor, *optics, self.settings.box)
        best = replace(best, poses=self._in_frame(best.poses, observed.prior))
        estimates = self._of_poses(best.poses, observed.scale) | {"pose_difference": difference}
        misfit = image_weight.misfit(ratio, prediction, observed.images)
        estimates |= {"ratio": ratio, "misfit": misfit, "blank": blank.to(observed.scale)}
        return Weighed(image_weight.weighed(observed.images, factor), best, *sums, estimates)

    def insert(self, observed: Observed, weighed: Weighed) -> None:
        """Add images to the sums of their half set, spread over the posterior of their poses."""
        images, poses, scale = weighed.images, weighed.best.poses, observed.scale
        box, count = self.settings.box, self._count(self.insertion_limit)
        frequency = half_plane(box, self.device).frequency[:count]
        ctf = (images.gain / scale[:, None])[:, :count]
        numerator, weight = backproject_terms(
            cut_out(images.spectrum, poses.shift_px, self.window)[:, :count],
            poses.shift_px,
            ctf,
            images.precision[:, :count],
            scale,
            box,
        )
        spread = spread_poses(poses, self.settings.posterior)
        share = 1 / spread.rotation.shape[1]
        # the mean of exp(-2 pi i k.delta / d) over a Gaussian delta
        turn = (2 * torch.pi / box) ** 2
        blur = ((frequency @ spread.shift_covariance) * frequency).sum(-1)
        numerator, weight = numerator * (share * torch.exp(-0.5 * turn * blur)), weight * share
        spread_over = spread.rotation, spread.offset_px, images.magnification
        self.filled.add(observed.half)
        insert_spread_(self.sums[observed.half], numerator, weight, *spread_over)

    def record(self, observed: Observed, weighed: Weighed) -> None:
        """Keep what was learnt of the images; what that takes of memory is there already."""
        for name, values in weighed.estimates.items():
            getattr(self.result, name).index_copy_(0, observed.rows, values)
        half, n = observed.half, len(observed.rows)
        self.result.residual[half] += weighed.power
        self.result.count[half] += weighed.count
        self.to_compare[half] -= min(n, self.to_compare[half])
        if weighed.best.pruning is not None:
            counts = torch.tensor(astuple(weighed.best.pruning), dtype=torch.float64)
            self.result.pruning.add_(counts.to(self.device))

    def _known(self, batch: Batch) -> bool:
        """Whether the particles have poses: all of a batch or none, as early iterations take whole batches."""
        if self.some_known and not self.all_known:
            return bool(self.state.has_pose[int(batch.index[0])])
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
            "updated": torch.ones_like(scale),
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

    def _prediction(self, images: Observation, poses: Poses) -> Tensor:
        """What images show at their poses (b, m), zero beyond the shells that are aligned."""
        count = self._count(self.state.max_shell)
        prediction = torch.zeros_like(images.spectrum)
        prediction[:, :count] = predict(
            self.reference.slices,
            poses.rotation,
            poses.shift_px,
            images.gain[:, :count],
            magnification=images.magnification,
        )
        return prediction
