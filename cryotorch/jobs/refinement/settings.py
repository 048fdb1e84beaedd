"""The parameters that all refinement jobs share, and what they are in the algorithm's units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cryotorch.jobs.config.parse import (
    Angle,
    Length,
    TrainerSettings,
    circle_fits,
    mask_widths,
    require,
)

if TYPE_CHECKING:
    from torch import Tensor

    from cryotorch.data.images import ParticleImages
    from cryotorch.refinement.settings import EMSettings, NonUniformSettings

LONG_JOB = 50_000  # particles from which on compiling is worth its preparation
CTF_ROUNDS = 2  # times that a refinement turns to the CTF after it has converged
MIN_SHELLS = 2  # fewer Fourier shells tell no orientations apart


@dataclass(frozen=True)
class SearchConfig:
    """The pose search; meanings and defaults in ``configs/shared/refinement.yaml``."""

    method: Literal["newton", "branch_and_bound"]
    coarse_limit: int
    grid_step: Angle | None
    candidates: int
    newton_steps: int
    posterior: Literal["laplace", "best_pose"]


@dataclass(frozen=True)
class NonUniformConfig:
    """The filters of ``regularizer=nonuniform``; meanings and defaults in ``configs/shared/refinement.yaml``."""

    filter_type: Literal["butterworth", "gaussian", "rectangular"]
    filter_order: int
    window: float


@dataclass(frozen=True)
class RefineConfig:
    """Meanings and defaults in ``configs/shared/refinement.yaml``, lengths in Å."""

    trainer: TrainerSettings
    particles: str | None
    class_: int | None
    volume: str | None
    mask: str | None
    out: str | None
    resume: bool
    overwrite: bool
    dry_run: bool
    write: list[Literal["star", "cs"]]
    cache_dir: str | None
    cache_dtype: Literal["float16", "float32"]
    cache_limit: float | None
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
    profile: bool
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
    ignore_tilt: bool
    ignore_trefoil: bool
    ignore_tetra: bool
    ignore_anisomag: bool
    refine_defocus: bool
    refine_optics: bool
    bfactor: float | None
    regularizer: Literal["local_wiener", "wiener", "nonuniform"]
    nonuniform: NonUniformConfig
    search: SearchConfig

    def __post_init__(self) -> None:
        """Refuses what is wrong whatever the data are."""
        require(self.write != [], "write", "[]", "name a format, write=[star] for example")
        box = self.box_size
        require(box is None or box % 2 == 0, "box_size", box, "it must be even")
        inner, outer = self.window_inner, self.window_outer
        require(0 < inner <= 1, "window_inner", inner, "it must be above 0 and at most 1")
        require(inner <= outer <= 1, "window_outer", outer, "it must lie in window_inner to 1")
        threshold = self.mask_threshold
        require(0 < threshold < 1, "mask_threshold", threshold, "it must lie between 0 and 1")
        mask_widths(self)


def em_settings(config: RefineConfig, images: ParticleImages, group: Tensor) -> EMSettings:
    """The parameters in the algorithm's units: pixels, Fourier pixels, radians."""
    from cryotorch.refinement.settings import (
        CtfTargets,
        EMSettings,
        MaskSettings,
        ScheduleSettings,
        SearchSettings,
    )

    box, pixel = images.box, images.pixel_size
    edge, search = box * pixel, config.search
    step, finest = search.grid_step, config.max_align_resolution
    _check_lengths(config, edge, pixel)
    highest_limit = min(box / 2 - 1, edge / finest) if finest else box / 2 - 1
    return EMSettings(
        box=box,
        pixel_size=pixel,
        group=group,
        search=SearchSettings(
            coarse_limit=search.coarse_limit,
            grid_step=None if step is None else math.radians(step),
            candidates=search.candidates,
            newton_steps=search.newton_steps,
            method=search.method,
            compile=len(images) >= LONG_JOB if config.compile == "auto" else config.compile,
        ),
        schedule=ScheduleSettings(
            first_limit=min(edge / config.initial_resolution, highest_limit),
            highest_limit=highest_limit,
            max_iterations=config.max_iterations,
            extra_final_passes=config.extra_final_passes,
            ctf_rounds=CTF_ROUNDS if config.refine_defocus or config.refine_optics else 0,
        ),
        mask=MaskSettings(
            mode=config.mask_mode,
            threshold=config.mask_threshold,
            near=config.mask_near,
            far=config.mask_far,
            start_resolution=config.mask_start_resolution,
        ),
        split=edge / config.split_resolution,
        window=(config.window_inner * box / 2, config.window_outer * box / 2),
        particle_radius=config.particle_diameter and config.particle_diameter / 2 / pixel,
        posterior=search.posterior,
        per_particle_scale=config.per_particle_scale,
        scale_start_iteration=max(config.scale_start_iteration - 1, 0),
        rescale_reference=config.rescale_reference,
        bfactor=config.bfactor,
        local_wiener=config.regularizer == "local_wiener",
        nonuniform=_nonuniform(config),
        ctf=CtfTargets(
            limit=highest_limit,
            defocus=config.refine_defocus,
            tilt=config.refine_optics,
            trefoil=config.refine_optics,
        ),
    )


def _nonuniform(config: RefineConfig) -> NonUniformSettings | None:
    from cryotorch.refinement.settings import NonUniformSettings

    if config.regularizer != "nonuniform":
        return None
    chosen = config.nonuniform
    return NonUniformSettings(chosen.filter_type, chosen.filter_order, chosen.window)


def _check_lengths(config: RefineConfig, edge: float, pixel: float) -> None:
    """Refuses lengths in Å that make no sense in a box of this edge."""
    lowest = edge / MIN_SHELLS
    for name in ("initial_resolution", "max_align_resolution"):
        value = getattr(config, name)
        require(
            value is None or value <= lowest,
            name,
            value,
            f"in a box of {edge:.4g} Å it must be at most {lowest:.4g} Å",
        )
    split, nyquist = config.split_resolution, 2 * pixel
    require(
        split > nyquist,
        "split_resolution",
        split,
        f"the half sets would share everything, it must be above {nyquist:.4g} Å",
    )
    circle_fits(config.particle_diameter, round(edge / pixel), pixel)
