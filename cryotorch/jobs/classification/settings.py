"""What ``class2d`` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cryotorch.jobs.config.parse import Angle, Length, require


@dataclass(frozen=True)
class Class2d:
    """The parameters; meanings and defaults in ``configs/job/class2d.yaml``, lengths in Å."""

    particles: str | None
    class_: int | None
    out: str | None
    resume: bool
    overwrite: bool
    dry_run: bool
    write: list[Literal["star", "cs"]]
    select: Literal["suggested"] | list[int] | None
    cache_dir: str | None
    cache_dtype: Literal["float16", "float32"]
    cache_limit: float | None
    normalize: Literal["auto"] | bool
    invert: bool
    box_size: Literal["auto"] | int
    n_classes: int
    mask_diameter: Length | None
    max_resolution: Length
    recenter: bool
    in_plane_step: Literal["auto"] | Angle
    shift_extent: Length
    batch: Literal["auto"] | int
    iterations: int
    epochs: int
    minibatch_size: Literal["auto"] | int
    device: Literal["auto", "cpu", "cuda"]
    devices: int
    seed: int

    def __post_init__(self) -> None:
        """Refuses what is wrong whatever the data are."""
        require(self.write != [], "write", "[]", "name a format, write=[star] for example")
        require(self.select != [], "select", "[]", "name a class, or select=suggested")
        box = self.box_size
        even = box == "auto" or (box % 2 == 0 and box >= 16)
        require(even, "box_size", box, "it must be even, and at least 16 pixels")
