"""Homogeneous refinement: one map and the poses of all particles, from an initial map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cryotorch.jobs.settings import Angle, Length, TrainerSettings, positive, require
from cryotorch.jobs.units import parse_length


@dataclass(frozen=True)
class Search:
    """The pose search; meanings and defaults in ``configs/job/homo_refine.yaml``."""

    coarse_limit: int
    grid_step: Angle | None
    candidates: int
    newton_steps: int
    shift_extent: Length | None
    posterior: Literal["laplace", "map"]

    def __post_init__(self) -> None:
        names = ("coarse_limit", "grid_step", "candidates", "newton_steps", "shift_extent")
        positive(self, *names, prefix="search.")


@dataclass(frozen=True)
class HomoRefine:
    """The parameters; meanings and defaults in ``configs/job/homo_refine.yaml``, lengths in Å."""

    trainer: TrainerSettings
    particles: str
    volume: str | None
    mask: str | None
    out: str | None
    resume: bool
    overwrite: bool
    cache_dir: str | None
    box_size: int | None
    particle_diameter: Length | None
    window_inner: float
    window_outer: float
    normalize: Literal["auto"] | bool
    invert: bool
    symmetry: str
    initial_resolution: Length
    rescale_reference: bool
    max_iterations: int
    extra_final_passes: int
    max_align_resolution: Length | None
    minibatch_size: Literal["auto"] | int
    seed: int
    compile: Literal["auto"] | bool
    half_sets: Literal["keep", "resplit"]
    split_resolution: Length
    per_particle_scale: bool
    scale_start_iteration: int
    mask_mode: Literal["dynamic", "static", "none"]
    mask_threshold: float
    mask_near: Length
    mask_far: Length
    mask_start_resolution: Length
    bfactor: float | None
    search: Search

    def __post_init__(self) -> None:
        """Refuses what is wrong whatever the data are."""
        positive(self, "particle_diameter", "initial_resolution", "max_iterations", "mask_far")
        positive(self, "max_align_resolution", "split_resolution", "mask_start_resolution")
        box, batch = self.box_size, self.minibatch_size
        require(box is None or box >= 8, "box_size", box, "it must be at least 8 pixels")
        require(box is None or box % 2 == 0, "box_size", box, "it must be even")
        require(batch == "auto" or batch > 0, "minibatch_size", batch, "it must be above zero")
        for name in ("extra_final_passes", "scale_start_iteration", "seed"):
            value = getattr(self, name)
            require(value >= 0, name, value, "it must not be negative")
        inner, outer = self.window_inner, self.window_outer
        require(0 < inner <= 1, "window_inner", inner, "it must be above 0 and at most 1")
        require(inner <= outer <= 1, "window_outer", outer, "it must lie in window_inner to 1")
        threshold = self.mask_threshold
        require(0 < threshold < 1, "mask_threshold", threshold, "it must lie between 0 and 1")
        near, far = self.mask_near, self.mask_far
        same_unit = isinstance(near, str) == isinstance(far, str)
        longer = parse_length(near, 1.0) < parse_length(far, 1.0)
        require(not same_unit or longer, "mask_far", far, f"it must be above mask_near={near}")
        require(
            self.mask_mode != "static" or self.mask is not None,
            "mask_mode",
            self.mask_mode,
            "it needs a mask, add mask=<file>",
        )
        require(
            self.particles == "demo" or self.volume is not None,
            "volume",
            self.volume,
            "your own particles need an initial map, add volume=<file>",
        )


def run(settings: HomoRefine) -> None:
    """From a particle stack to a validated map in ``settings.out``."""
    from cryotorch.refine.run import run as refine

    refine(settings)
