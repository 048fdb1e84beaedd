"""What ``classify`` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cryotorch.jobs.config.parse import Length, ends_finer, require

LEAST_IMAGES = 50  # per class: fewer determine none


@dataclass(frozen=True)
class Classify:
    """The parameters; meanings and defaults in ``configs/job/classify.yaml``, lengths in Å."""

    particles: str | None
    class_: int | None
    mask: str | None
    solvent_mask: str | None
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
    normalize: Literal["auto"] | bool
    invert: bool
    n_classes: int
    symmetry: str
    assignment: Literal["soft", "hard"]
    similarity: float
    n_starts: int
    n_repeats: int
    max_passes: int
    initial_resolution: Length
    final_resolution: Length
    split_resolution: Length
    half_sets: Literal["keep", "resplit"]
    shared_resolution: Length | None
    seed: int
    minibatch_size: Literal["auto"] | int
    device: Literal["auto", "cpu", "cuda"]
    devices: int

    def __post_init__(self) -> None:
        """Refuses what is wrong whatever the data are."""
        box, k = self.box_size, self.n_classes
        require(box == "auto" or box % 2 == 0, "box_size", box, "it must be even")
        require(self.write != [], "write", "[]", "name a format, write=[star] for example")
        require(k >= 2, "n_classes", k, "two classes at least; one map is job=reconstruct")
        ends_finer(self.initial_resolution, self.final_resolution)
