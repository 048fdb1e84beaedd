"""What one EM iteration leaves behind: plain tensors and numbers that reports draw and files hold."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from torch import Tensor

from cryotorch.findings import Finding
from cryotorch.particles import Particles

AT_END, MANY = 0.98, 0.25  # of an extent; share of the particles
CURVES = ("no_mask", "spherical", "loose", "tight", "corrected", "randomised")


def told(resolution: float) -> str:
    """A claimed resolution in words; NaN is none."""
    return f"{resolution:.2f} Å" if math.isfinite(resolution) else "no resolution"


@dataclass(frozen=True)
class Guinier:
    """The straight line through ln(mean |F|) over 1/d^2.

    Attributes:
        inverse_d2: (s,) 1/Å² of the shells; log_amplitude: (s,) of the FSC-weighted map.
        used: (s,) bool, shells in the fit.
        bfactor: Å², 4 * slope, negative sharpens; None where the fit was refused.
        intercept: of the line.
        reason: why the fit was refused, else None.
        error: Å², standard error of the fitted B-factor by the scatter about the line; None where there is no fit.
        applied: Å², the B-factor that sharpened the map.
    """

    inverse_d2: Tensor
    log_amplitude: Tensor
    used: Tensor
    bfactor: float | None
    intercept: float
    reason: Finding | None = None
    error: float | None = None
    applied: float = 0.0

    def cpu(self) -> Guinier:
        """The same with its tensors on the CPU."""
        line = dict(inverse_d2=self.inverse_d2.cpu(), log_amplitude=self.log_amplitude.cpu())
        return replace(self, **line, used=self.used.cpu())


@dataclass(frozen=True)
class Departures:
    """How far poses are from those that a local search started with.

    Attributes:
        initial: (n, 3, 3) rotations at the start.
        rotation: (n,) degrees; shift: (n,) Å, of the fulcrum's image.
        most_rotation: degrees; most_shift: Å: the extents.
    """

    initial: Tensor
    rotation: Tensor
    shift: Tensor
    most_rotation: float
    most_shift: float

    def warnings(self) -> list[Finding]:
        """The extents at which many particles stopped."""
        found = []
        for name, moved, most in (
            ("rotation", self.rotation, self.most_rotation),
            ("shift", self.shift, self.most_shift),
        ):
            share = float((moved >= AT_END * most).float().mean())
            if most > 0 and share > MANY:
                found.append(Finding("poses_at_extent", share=share, extent=name))
        return found


@dataclass(frozen=True)
class TimeLeft:
    """Until the end of a run, from the least to the most that is to be expected.

    Attributes:
        seconds, iterations: least and most.
        ctf: whether some of them may refine the CTF, whose seconds are not known before.
    """

    seconds: tuple[float, float]
    iterations: tuple[int, int]
    ctf: bool = False


@dataclass(frozen=True)
class IterationResult:
    """State of the refinement after an iteration. Volumes are (d, d, d) float32 on the CPU.

    Attributes:
        iteration: counted from 1.
        pixel_size: Å at the refinement box.
        half_maps: (2, d, d, d), unfiltered beyond the prior-free division: what FSC is computed from.
        map: the merged map with its prior, unsharpened.
        map_sharp: sharpened map (B-factor, FSC weight, low-pass at the resolution).
        mask_refine: mask that multiplied the reference, or None.
        mask_fsc: mask behind the tight and corrected curves.
        curves: name (see CURVES) -> (s,) FSC per shell, shell 0 = 1.
        resolutions: name -> Å at the first crossing of 0.143 ("randomised" left out), "corrected" what is claimed; all NaN where nothing is.
        resolution: Å, the one that is claimed (corrected), NaN where nothing can be claimed.
        noise: (2, g, s) sigma2 per half set, optics group and shell.
        guinier: the fit behind map_sharp.
        particles: poses, shifts, scales after the iteration, of all n particles that have been looked at.
        rotation_change: (n,) degrees against the iteration before, NaN where there is none; shift_change: (n,) Å.
        seconds: phase -> wall seconds of this iteration (coarse, polish, insert, solve, fsc, ...).
        history: one dict of numbers per iteration so far (iteration, resolution, limit, rotation_change, shift_change,
            seconds, ...), this one last.
        messages: for the log, warnings and outcomes.
        final: True for the last one.
        group: (g, 3, 3) point group of the particles; None = C1.
        departures: of a local search, else None.
        cutoff: (d, d, d) Å, of the non-uniform regulariser, else None.
        band: (s,) FSC that noise in mask_fsc stays below, see ``ops.resolution.significance.noise_band``; None = not known.
        shared, inserted: shells up to which the half sets had a common reference, and images were inserted.
        warnings: what is wrong with half maps, mask, curves and the run.
        loud: row -> what is wrong with an image that hardly counts; noise_factor: (n,) residual power over the noise estimate.
        time_left: until the end of the run; None = that was it, or nobody asked.
        probability: (n,) that an image shows the molecule, junk: expected share of those that do not; of the last iteration, None where
            nothing tells.
    """

    iteration: int
    pixel_size: float
    half_maps: Tensor
    map: Tensor
    map_sharp: Tensor
    mask_refine: Tensor | None
    mask_fsc: Tensor
    curves: dict[str, Tensor]
    resolutions: dict[str, float]
    resolution: float
    noise: Tensor
    guinier: Guinier
    particles: Particles
    rotation_change: Tensor
    shift_change: Tensor
    seconds: dict[str, float]
    history: list[dict[str, float]] = field(default_factory=list)
    messages: list[Finding] = field(default_factory=list)
    final: bool = False
    group: Tensor | None = None
    departures: Departures | None = None
    cutoff: Tensor | None = None
    band: Tensor | None = None
    shared: float = 0.0
    inserted: float = math.inf
    warnings: list[Finding] = field(default_factory=list)
    loud: dict[int, str] = field(default_factory=dict)
    noise_factor: Tensor | None = None
    time_left: TimeLeft | None = None
    probability: Tensor | None = None
    junk: float | None = None
