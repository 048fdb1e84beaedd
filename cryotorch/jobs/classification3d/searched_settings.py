"""What ``hetero_refine`` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cryotorch.jobs.config.parse import Length, ends_finer, require

LEAST_IMAGES = 50  # per class: fewer determine none


@dataclass(frozen=True)
class HeteroRefine:
    """The parameters; meanings and defaults in ``configs/job/hetero_refine.yaml``, lengths in Å."""

    particles: str | None
    class_: int | None
    volume: str | list[str] | None
    out: str | None
    resume: bool
    overwrite: bool
    dry_run: bool
    write: list[Literal["star", "cs"]]
    cache_dir: str | None
    cache_dtype: Literal["float16", "float32"]
    cache_limit: float | None
    box_size: Literal["auto"] | int
    particle_diameter: Length | None
    shift_extent: Length | None
    normalize: Literal["auto"] | bool
    invert: bool
    n_classes: int | None
    junk: int
    symmetry: str
    assignment: Literal["soft", "hard"]
    similarity: float
    initial_resolution: Literal["auto"] | Length
    final_resolution: Length
    mask_mode: Literal["spherical", "dynamic", "static"]
    mask: str | None
    max_passes: int
    n_starts: int
    half_sets: Literal["keep", "resplit"]
    seed: int
    minibatch_size: Literal["auto"] | int
    device: Literal["auto", "cpu", "cuda"]
    devices: int

    def __post_init__(self) -> None:
        """Refuses what is wrong whatever the data are."""
        box = self.box_size
        require(box == "auto" or box % 2 == 0, "box_size", box, "it must be even")
        require(self.write != [], "write", "[]", "name a format, write=[star] for example")
        require(self.volume != [], "volume", "[]", "name the maps of the classes, or one map")
        ends_finer(self.initial_resolution, self.final_resolution)
        known = self.mask_mode != "static" or self.mask is not None
        require(known, "mask_mode", self.mask_mode, "it needs a mask, add mask=<file>")
        used = self.mask is None or self.mask_mode == "static"
        require(used, "mask", self.mask, "add mask_mode=static, or leave it out")
