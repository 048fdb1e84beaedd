"""What a refinement is asked to do, in the algorithm's units."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SearchExtent:
    """How far poses may go, for all particles alike.

    Attributes:
        fulcrum: (x, y, z) pixels from pixel d // 2.
        rotation: radians, the largest |w|; shift: pixels, the largest |d|.
        rotation_sigma, shift_sigma: of the priors, radians and pixels; infinite = none.
    """

    fulcrum: tuple[float, float, float]
    rotation: float
    shift: float
    rotation_sigma: float = math.inf
    shift_sigma: float = math.inf


@dataclass(frozen=True)
class SearchSettings:
    """What may be tuned about the search.

    Attributes:
        coarse_limit: highest resolution of the coarse search, Fourier pixels.
        grid_step: radians between grid rotations; None = 1 / limit, within 7 to 12 degrees.
        candidates: rotations kept after the coarse search, at most; see ``candidates.ALWAYS_CLIMBED``.
        newton_steps: damped Gauss-Newton steps per limit of the ladder (the winner gets ``WINNER_STEPS`` more).
        shift_extent: pixels, radius of the first shift search; later ones look 2 px around the last centre.
        compile: evaluate poses by the compiled function, see ``ops.pose.scores_cuda``.
        method: "newton" (this module), or "branch_and_bound" (that module).
    """

    coarse_limit: float = 12
    grid_step: float | None = None
    candidates: int = 24
    newton_steps: int = 2
    shift_extent: float = 6
    compile: bool = False
    method: str = "newton"


@dataclass(frozen=True)
class ScheduleSettings:
    """Limits are in Fourier pixels (shells).

    Attributes:
        first_limit: from the initial resolution; highest_limit: the highest limit ever used for alignment.
        max_iterations: EM iterations at most; extra_final_passes: iterations after convergence.
        patience: iterations that together gain less than ``least_gain`` shells mean convergence, if the poses move by less than
            ``max_motion`` of their standard errors; one is enough where they have less than ``max_remaining_motion`` before them, and
            ``patience_factor`` times as many are needed where they move by more, or where the curve lies ``max_area_drop`` shells below
            its best: from a coarse start it falls for a while, as the first poses agree on what is not there. Gain is measured by the sum of the squared FSC over all shells under one and the same soft
            sphere: unlike the crossing it still moves when the curve has reached Nyquist, and unlike the corrected curve it does
            not move with a mask.
        growth: factor on the limit per iteration at most, while the median turn of the poses is more than ``resolved_turn`` times
            1 / last limit, the angle that it tells apart; first_growth: while no turn is known.
        ctf_rounds: how often the CTF is refined after convergence, each time followed by iterations until the next one.
        images: in the smaller half set, where early iterations may take a random share of them; None = all take all.
    """

    first_limit: float
    highest_limit: float
    max_iterations: int = 30
    extra_final_passes: int = 0
    patience: int = 2
    least_gain: float = 0.05
    max_remaining_motion: float = 0.3
    max_motion: float = 0.25
    patience_factor: int = 8
    growth: float = 1.25
    first_growth: float = 2.0
    resolved_turn: float = 1.0
    max_area_drop: float = 0.25
    ctf_rounds: int = 0
    images: int | None = None


@dataclass(frozen=True)
class CtfTargets:
    """What is refined, and from which resolution to which.

    Attributes:
        limit: Fourier pixels, of the half maps' resolution.
        defocus: of every particle; astigmatism: "none", "micrograph" (one change for all its particles) or "particle".
        tilt, trefoil, spherical, tetra, anisomag: of every optics group.
        defocus_range: Å, of the search for the defocus to either side; prior: Å, standard deviation of its errors, None = estimated, which
            takes a defocus that was not fitted to these very images before.
        defocus_from, optics_from: Å, coarser shells are left out.
    """

    limit: float
    defocus: bool = True
    astigmatism: str = "none"
    tilt: bool = True
    trefoil: bool = True
    spherical: bool = False
    tetra: bool = False
    anisomag: bool = False
    defocus_range: float = 2000.0
    prior: float | None = None
    defocus_from: float = 20.0
    optics_from: float = 10.0

    @property
    def optics(self) -> bool:
        """Whether anything of the optics groups is refined."""
        return self.tilt or self.trefoil or self.spherical or self.tetra or self.anisomag


@dataclass(frozen=True)
class ImageGrid:
    """How images are sampled, and the part of them that counts.

    Attributes:
        box: d; pixel_size: Å at that box.
        window: inner and outer radius of the soft circle that they are multiplied by, pixels.
    """

    box: int
    pixel_size: float
    window: tuple[float, float]

    @classmethod
    def whole(cls, box: int, pixel_size: float) -> ImageGrid:
        """Nothing lies outside the window."""
        return cls(box, pixel_size, (box, box))


@dataclass(frozen=True)
class MaskSettings:
    """The mask on the reference.

    Attributes:
        mode: "dynamic", "static" (``user_mask`` from the first iteration on) or "none" (a soft sphere only).
        user_mask: (d, d, d); in dynamic mode it is used until the map is better than ``start_resolution``.
        threshold: fraction of the density's 99.99th percentile; near, far: Å; start_resolution: Å.
        fsc_mask: (d, d, d) mask of the tight and corrected FSC; None = made from the density.
    """

    mode: str = "dynamic"
    user_mask: Tensor | None = None
    threshold: float = 0.2
    near: float = 6
    far: float = 14
    start_resolution: float = 12
    fsc_mask: Tensor | None = None


@dataclass(frozen=True)
class LocalSettings:
    """A search around known poses.

    Attributes:
        extent: extents, priors and fulcrum.
        recenter_rotation, recenter_shift: search around the last pose rather than the first.
        subtract: take the projection of what lies outside the mask, at the first pose, from the images that are searched.
    """

    extent: SearchExtent
    recenter_rotation: bool = False
    recenter_shift: bool = False
    subtract: bool = False


@dataclass(frozen=True)
class NonUniformSettings:
    """The filters of the non-uniform regulariser, see ``ops.resolution.nonuniform``: kind, order, window in their resolutions."""

    kind: str = "butterworth"
    order: int = 8
    window: float = 3.0


@dataclass(frozen=True)
class EMSettings:
    """A refinement in the algorithm's units.

    Attributes:
        box: d; pixel_size: Å at that box; group: (g, 3, 3) point group.
        split: shells below it are shared by the half sets; shared: shells that they had in common before, in
            poses that it starts from or in one initial map.
        window: inner and outer radius of the soft window on images, pixels.
        particle_radius: pixels, of the window on centred images before insertion; None = from the mask or window.
        posterior: "laplace" or "best_pose", see ``pose_spread.spread_poses``.
        per_particle_scale, scale_start_iteration: whether, and after how many iterations, particles have a scale.
        bfactor: Å², None = Guinier.
        local: a search around the poses that the particles come with; None = all over.
        local_wiener: whether the Wiener filter by the FSC heeds where the half maps share density.
        nonuniform: a low-pass that differs from place to place instead of it; None = none.
        ctf: what is refined of the CTF when the schedule says so.
        padding: of the insertion grid.
        matmul_dtype: input precision of the coarse search; None = what the device multiplies fastest.
        symmetry: name of the point group, for warnings where the particles do not show it; "" = nobody looks.
    """

    box: int
    pixel_size: float
    group: Tensor
    search: SearchSettings
    schedule: ScheduleSettings
    mask: MaskSettings
    split: float
    window: tuple[float, float]
    particle_radius: float | None = None
    posterior: str = "laplace"
    per_particle_scale: bool = True
    scale_start_iteration: int = 0
    rescale_reference: bool = True
    bfactor: float | None = None
    local: LocalSettings | None = None
    local_wiener: bool = True
    nonuniform: NonUniformSettings | None = None
    ctf: CtfTargets | None = None
    padding: int = 1
    matmul_dtype: torch.dtype | None = None
    symmetry: str = ""
    shared: float = 0.0

    @property
    def grid(self) -> ImageGrid:
        """Of the images."""
        return ImageGrid(self.box, self.pixel_size, self.window)

    @property
    def in_common(self) -> float:
        """Shells that the half sets have in common, and which show no resolution."""
        return max(self.split, self.shared)
