"""What a refinement knows between two iterations, and what it was asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cryotorch.particles import Optics, Particles
from cryotorch.refine.image_weight import unlimited
from cryotorch.refine.saved_state import check_saved
from cryotorch.refine.schedule import Course, ScheduleSettings
from cryotorch.refine.search import SearchSettings
from cryotorch.refine.tether import Reach

if TYPE_CHECKING:
    from cryotorch.refine.ctf_compare import CtfWhat


@dataclass(frozen=True)
class MaskSettings:
    """The mask on the reference.

    Attributes:
        mode: "dynamic", "static" (``given`` from the first iteration on) or "none" (a soft sphere only).
        given: (d, d, d) the user's mask; in dynamic mode it is used until the map is better than ``start``.
        threshold: fraction of the density's 99.99th percentile; near, far: Å; start: Å.
        judge: (d, d, d) mask of the tight and corrected FSC; None = made from the density.
    """

    mode: str = "dynamic"
    given: Tensor | None = None
    threshold: float = 0.2
    near: float = 6
    far: float = 14
    start: float = 12
    judge: Tensor | None = None


@dataclass(frozen=True)
class Local:
    """A search around known poses.

    Attributes:
        reach: extents, priors and fulcrum.
        recenter_rotation, recenter_shift: search around the last pose rather than the first.
        subtract: take the projection of what lies outside the mask, at the first pose, from the images that are searched.
    """

    reach: Reach
    recenter_rotation: bool = False
    recenter_shift: bool = False
    subtract: bool = False


@dataclass(frozen=True)
class NonUniform:
    """The filters of the non-uniform regulariser, see ``ops.nonuniform``: kind, order, window in their resolutions."""

    kind: str = "butterworth"
    order: int = 8
    window: float = 3.0


@dataclass(frozen=True)
class Settings:
    """A refinement in the algorithm's units.

    Attributes:
        box: d; pixel_size: Å at that box; group: (g, 3, 3) point group.
        split: shells below it are shared by the half sets; shared: shells that they had in common before, in
            poses that it starts from or in one initial map.
        window: inner and outer radius of the soft window on images, pixels.
        particle_radius: pixels, of the window on centred images before insertion; None = from the mask or window.
        posterior: "laplace" or "map", see ``pose_spread.spread_poses``.
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
    local: Local | None = None
    local_wiener: bool = True
    nonuniform: NonUniform | None = None
    ctf: CtfWhat | None = None
    padding: int = 1
    matmul_dtype: torch.dtype | None = None
    symmetry: str = ""
    shared: float = 0.0

    @property
    def in_common(self) -> float:
        """Shells that the half sets have in common, and which show no resolution."""
        return max(self.split, self.shared)


@dataclass
class State:
    """Everything an iteration changes. Tensors live on the compute device but for ``particles`` (CPU).

    Attributes:
        particles: poses, shifts, scales.
        references: (2, d, d, d) regularised and masked half maps that the next search uses.
        noise: (2, g, s) sigma2.
        most: (bands,) of the noise that an image may show before it weighs less, see ``image_weight``.
        limit: Fourier pixels of the coming iteration; share: of each half set's particles that it takes.
        known: (n,) bool, particles with a pose of this run, or one that a local search starts from.
        given: the initial map as it was given, in a small box, see ``hands.as_given``; no part of a checkpoint; None = nobody asks it.
        mask: (d, d, d) of the references; mask_radius: pixels, of its farthest voxel.
        calm: (n,) int64, iterations since the pose last moved far, see ``settled``.
        anchor_rotation, anchor_shift: (n, 3, 3) and (n, 2) Å, the poses of the first iteration, found against the initial map;
            NaN for particles that it did not take; drift_turn, drift_move: (3,) radians and Å, of the references' frame since then,
            see ``frame``.
        centre_rotation, centre_shift: (n, 3, 3) and (n, 2) Å, what a local search is tied to; None = nothing.
        rest: (2, d, d, d) what a local search subtracts from the images, or None.
        scale_spread: standard deviation of the particle scales' distribution.
        course: what the schedule goes by; history: one dict of numbers for each iteration so far.
        defocus_sigma: Å, median standard error that the last refinement of the CTF gave the defocus, 0 before.
    """

    particles: Particles
    references: Tensor
    noise: Tensor
    limit: float
    share: float = 1.0
    most: Tensor | None = None
    given: Tensor | None = None
    mask: Tensor | None = None
    mask_radius: float | None = None
    anchor_rotation: Tensor | None = None
    anchor_shift: Tensor | None = None
    centre_rotation: Tensor | None = None
    centre_shift: Tensor | None = None
    rest: Tensor | None = None
    drift_turn: Tensor = field(default_factory=lambda: torch.zeros(3))
    drift_move: Tensor = field(default_factory=lambda: torch.zeros(3))
    scale_spread: float = 0.0
    known: Tensor | None = None
    calm: Tensor | None = None
    course: Course = field(default_factory=Course)
    history: list[dict[str, float]] = field(default_factory=list)
    defocus_sigma: float = 0.0
    stopped: str = ""

    def __post_init__(self) -> None:
        n = len(self.particles)
        if self.known is None:
            self.known = torch.zeros(n, dtype=torch.bool)
        if self.calm is None:
            self.calm = torch.zeros(n, dtype=torch.int64)
        if self.most is None:
            self.most = unlimited(self.references.shape[-1]).to(self.noise.device)

    @property
    def refines_ctf(self) -> bool:
        """Whether the coming iteration refines the CTF."""
        return self.iteration in self.course.ctf_after

    @property
    def iteration(self) -> int:
        """Iterations finished."""
        return len(self.course)

    POSE_FIELDS = ("rotation", "shift", "half", "scale", "pose_sigma", "defocus")
    TENSORS = ("references", "noise", "most", "mask", "rest")
    POSES = (
        "known",
        "calm",
        "anchor_rotation",
        "anchor_shift",
        "centre_rotation",
        "centre_shift",
        "drift_turn",
        "drift_move",
    )
    NUMBERS = (
        "limit",
        "share",
        "mask_radius",
        "scale_spread",
        "history",
        "defocus_sigma",
        "stopped",
    )

    def state_dict(self) -> dict:
        """Plain tensors and numbers, for a checkpoint."""
        poses = {name: getattr(self.particles, name) for name in self.POSE_FIELDS}
        plain = {"poses": poses, "optics": vars(self.particles.optics), "course": vars(self.course)}
        return {name: dict(values) for name, values in plain.items()} | {
            name: getattr(self, name) for name in self.TENSORS + self.POSES + self.NUMBERS
        }

    def load_state_dict(self, saved: dict, device: torch.device) -> None:
        """Take over a checkpoint of the same particles; raises InputError for entries that are not those of this state."""
        check_saved(self.state_dict(), saved)
        self.particles = self.particles.replace(
            **{name: value.cpu() for name, value in saved["poses"].items()},
            optics=Optics(**saved["optics"]),
        )
        self.course = Course(**saved["course"])
        for name in self.TENSORS:
            setattr(self, name, None if saved[name] is None else saved[name].to(device))
        for name in self.POSES + self.NUMBERS:
            setattr(self, name, saved[name])
