"""What ``subtract`` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cryotorch.jobs.config.parse import require


@dataclass(frozen=True)
class Subtract:
    """The parameters; meanings and defaults in ``configs/job/subtract.yaml``, lengths in Å."""

    particles: str | None
    class_: int | None
    volume: str | None
    mask: str | None
    out: str | None
    overwrite: bool
    dry_run: bool
    write: list[Literal["star", "cs"]]
    project: str | None
    stack_type: Literal["float32", "float16"]
    cache_dir: str | None
    cache_dtype: Literal["float16", "float32"]
    cache_limit: float | None
    normalize: Literal["auto"] | bool
    invert: bool
    recenter_on_mask: bool
    box_size: int | None
    defocus_height: Literal["positive", "negative"] | None
    minibatch_size: Literal["auto"] | int
    device: Literal["auto", "cpu", "cuda"]

    def __post_init__(self) -> None:
        """Refuses what is wrong whatever the data are."""
        require(self.write != [], "write", "[]", "name a format, write=[star] for example")
        box = self.box_size
        require(box is None or box % 2 == 0, "box_size", box, "it must be even")
        use = self.defocus_height is None or self.recenter_on_mask
        requirement = "it follows the new centre, add recenter_on_mask=true"
        require(use, "defocus_height", self.defocus_height, requirement)
