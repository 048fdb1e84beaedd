"""What ``variability`` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cryotorch.jobs.config.parse import Length, require


@dataclass(frozen=True)
class Variability:
    """The parameters; meanings and defaults in ``configs/job/variability.yaml``, lengths in Å."""

    particles: str | None
    class_: int | None
    mask: str | None
    out: str | None
    overwrite: bool
    dry_run: bool
    write: list[Literal["star", "cs"]]
    write_unshared: bool
    cache_dir: str | None
    cache_dtype: Literal["float16", "float32"]
    cache_limit: float | None
    normalize: Literal["auto"] | bool
    invert: bool
    symmetry: str
    n_components: int
    max_resolution: Length | None
    high_pass: Length | None
    iterations: int
    n_frames: int
    half_sets: Literal["keep", "resplit"]
    minibatch_size: Literal["auto"] | int
    device: Literal["auto", "cpu", "cuda"]
    seed: int

    def __post_init__(self) -> None:
        """Refuses what is wrong whatever the data are."""
        require(self.write != [], "write", "[]", "name a format, write=[star] for example")
