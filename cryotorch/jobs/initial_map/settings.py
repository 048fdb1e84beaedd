"""What ``ab_initio`` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cryotorch.jobs.config.parse import Length, ends_finer, require

LEAST_IMAGES = 100  # per map: fewer determine none
LEAST_BATCH = 20  # images per map


@dataclass(frozen=True)
class AbInitio:
    """The parameters; meanings and defaults in ``configs/job/ab_initio.yaml``, lengths in Å."""

    particles: str | None
    class_: int | None
    like: str | None
    model: str | None
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
    n_classes: int
    symmetry: str
    initial_resolution: Length
    final_resolution: Length
    n_starts: Literal["auto"] | int
    max_particles: Literal["auto"] | int
    nonnegative: bool
    recenter: bool
    seed: int
    minibatch_size: Literal["auto"] | int
    device: Literal["auto", "cpu", "cuda"]
    devices: int

    def __post_init__(self) -> None:
        """Refuses what is wrong whatever the data are."""
        box = self.box_size
        require(box == "auto" or box % 2 == 0, "box_size", box, "it must be even")
        require(self.write != [], "write", "[]", "name a format, write=[star] for example")
        alone = self.like is None or self.model is None
        require(alone, "model", self.model, f"like={self.like} chooses the hand, give one of both")
        ends_finer(self.initial_resolution, self.final_resolution)
        most, batch, least = self.max_particles, self.minibatch_size, LEAST_IMAGES * self.n_classes
        wish = f"at least {least} are needed, {LEAST_IMAGES} for each map"
        require(most == "auto" or most >= least, "max_particles", most, wish)
        wish = f"at least {LEAST_BATCH} are needed, as a step makes a map of either half of them"
        require(batch == "auto" or batch >= LEAST_BATCH, "minibatch_size", batch, wish)
