"""What ``reconstruct`` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cryotorch.jobs.config.parse import Length, require


@dataclass(frozen=True)
class Reconstruct:
    """The parameters; meanings and defaults in ``configs/job/reconstruct.yaml``, lengths in Å."""

    particles: str | None
    class_: int | None
    mask: str | None
    out: str | None
    overwrite: bool
    dry_run: bool
    write: list[Literal["star", "cs"]]
    cache_dir: str | None
    cache_dtype: Literal["float16", "float32"]
    cache_limit: float | None
    box_size: int | None
    particle_diameter: Length | None
    normalize: Literal["auto"] | bool
    invert: bool
    symmetry: str
    symmetry_frame: Literal["check", "auto", "trust"]
    flip_hand: bool
    ewald: Literal["positive", "negative"] | None
    regularize: bool
    padding: Literal["auto"] | int
    bfactor: float | None
    half_sets: Literal["keep", "resplit"]
    shared_resolution: Length | None
    seed: int
    ignore_tilt: bool
    ignore_trefoil: bool
    ignore_tetra: bool
    ignore_anisomag: bool
    minibatch_size: Literal["auto"] | int
    device: Literal["auto", "cpu", "cuda"]

    def __post_init__(self) -> None:
        """Refuses what is wrong whatever the data are."""
        box = self.box_size
        require(box is None or box % 2 == 0, "box_size", box, "it must be even")
        require(self.write != [], "write", "[]", "name a format, write=[star] for example")
