"""What a refinement knows between two iterations."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cryotorch.particles import Optics, Particles
from cryotorch.refinement.image_weight import unlimited
from cryotorch.refinement.saved_state import check_saved


@dataclass
class ConvergenceHistory:
    """What an EM run has come to: one number per iteration so far.

    Attributes:
        crossings: the gold-standard crossing (FSC 0.143), shells; areas: sum of the squared FSC (with its sign) over the shells, in a soft sphere.
        max_shells: the last that was aligned; turns: median change of the rotations, radians, infinite where there was none before.
        motions: median change of the poses in units of their predicted standard errors, infinite where there was none before.
        shares: of each half set's particles that it took.
        ctf_after: how many iterations were done each time before one that refined the CTF.
    """

    crossings: list[float] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    max_shells: list[float] = field(default_factory=list)
    turns: list[float] = field(default_factory=list)
    motions: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    ctf_after: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.crossings)

    def check(self) -> None:
        """Raises ValueError or TypeError where these are no numbers, one of each for every iteration."""
        counts = {len(values) for name, values in vars(self).items() if name != "ctf_after"}
        numbers = [x for values in vars(self).values() for x in values]
        if len(counts) > 1 or not all(isinstance(x, int | float) for x in numbers):
            raise ValueError
        if not all(0 <= x <= len(self) for x in self.ctf_after):
            raise ValueError
        finite = [*self.crossings, *self.areas, *self.max_shells, *self.shares]
        if not all(map(math.isfinite, finite)):
            raise ValueError


@dataclass
class State:
    """Everything an iteration changes. Tensors live on the compute device but for ``particles`` (CPU).

    Attributes:
        particles: poses, shifts, scales.
        references: (2, d, d, d) regularised and masked half maps that the next search uses.
        noise: (2, g, s) sigma2.
        max_power_ratio: (bands,) residual power of an image over the noise beyond which it weighs less, see ``image_weight``.
        max_shell: the last shell, Fourier pixels, that the coming iteration aligns; share: of each half set's particles that it takes.
        has_pose: (n,) bool, particles with a pose of this run, or one that a local search starts from.
        initial_map: the initial map as it was read, in a small box, see ``hands.coarse_initial_map``; no part of a checkpoint; None = nobody asks it.
        mask: (d, d, d) of the references; mask_radius: pixels, of its farthest voxel.
        stable_iterations: (n,) int64, in a row, since the pose last moved far or was in doubt, see ``stable_poses``.
        anchor_rotation, anchor_shift: (n, 3, 3) and (n, 2) Å, the poses of the first iteration, found against the initial map;
            NaN for particles that it did not take; drift_turn, drift_move: (3,) radians and Å, of the references' frame since then,
            see ``frame_drift``.
        centre_rotation, centre_shift: (n, 3, 3) and (n, 2) Å, what a local search is tied to; None = nothing.
        subtracted_reference: (2, d, d, d) what a local search subtracts from the images, or None.
        scale_spread: standard deviation of the particle scales' distribution.
        convergence: what the schedule goes by; history: one dict of numbers for each iteration so far.
        defocus_sigma: Å, median standard error that the last refinement of the CTF gave the defocus, 0 before.
    """

    particles: Particles
    references: Tensor
    noise: Tensor
    max_shell: float
    share: float = 1.0
    max_power_ratio: Tensor | None = None
    initial_map: Tensor | None = None
    mask: Tensor | None = None
    mask_radius: float | None = None
    anchor_rotation: Tensor | None = None
    anchor_shift: Tensor | None = None
    centre_rotation: Tensor | None = None
    centre_shift: Tensor | None = None
    subtracted_reference: Tensor | None = None
    drift_turn: Tensor = field(default_factory=lambda: torch.zeros(3))
    drift_move: Tensor = field(default_factory=lambda: torch.zeros(3))
    scale_spread: float = 0.0
    has_pose: Tensor | None = None
    stable_iterations: Tensor | None = None
    convergence: ConvergenceHistory = field(default_factory=ConvergenceHistory)
    history: list[dict[str, float]] = field(default_factory=list)
    defocus_sigma: float = 0.0
    stopped: str = ""

    def __post_init__(self) -> None:
        n = len(self.particles)
        if self.has_pose is None:
            self.has_pose = torch.zeros(n, dtype=torch.bool)
        if self.stable_iterations is None:
            self.stable_iterations = torch.zeros(n, dtype=torch.int64)
        if self.max_power_ratio is None:
            self.max_power_ratio = unlimited(self.references.shape[-1]).to(self.noise.device)

    @property
    def refines_ctf(self) -> bool:
        """Whether the coming iteration refines the CTF."""
        return self.iteration in self.convergence.ctf_after

    @property
    def iteration(self) -> int:
        """Iterations finished."""
        return len(self.convergence)

    POSE_FIELDS = ("rotation", "shift", "half", "scale", "pose_sigma", "defocus")
    TENSORS = ("references", "noise", "max_power_ratio", "mask", "subtracted_reference")
    POSES = (
        "has_pose",
        "stable_iterations",
        "anchor_rotation",
        "anchor_shift",
        "centre_rotation",
        "centre_shift",
        "drift_turn",
        "drift_move",
    )
    NUMBERS = (
        "max_shell",
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
        plain = {
            "poses": poses,
            "optics": vars(self.particles.optics),
            "convergence": vars(self.convergence),
        }
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
        self.convergence = ConvergenceHistory(**saved["convergence"])
        for name in self.TENSORS:
            setattr(self, name, None if saved[name] is None else saved[name].to(device))
        for name in self.POSES + self.NUMBERS:
            setattr(self, name, saved[name])
