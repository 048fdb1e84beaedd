"""What ``ctf_refine`` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cryotorch.jobs.config.parse import Length, require

OPTICS = (
    "tilt",
    "trefoil",
    "spherical",
    "tetra",
    "anisomag",
)  # switches of what is fitted of a group


@dataclass(frozen=True)
class CtfRefine:
    """The parameters; meanings and defaults in ``configs/job/ctf_refine.yaml``, lengths in Å."""

    particles: str | None
    class_: int | None
    volume: str | None
    mask: str | None
    out: str | None
    overwrite: bool
    dry_run: bool
    write: list[Literal["star", "cs"]]
    cache_dir: str | None
    cache_dtype: Literal["float16", "float32"]
    cache_limit: float | None
    normalize: Literal["auto"] | bool
    invert: bool
    defocus: bool
    astigmatism: Literal["none", "micrograph", "particle"]
    defocus_range: Length
    defocus_min_resolution: Length
    tilt: bool
    trefoil: bool
    spherical: bool
    tetra: bool
    anisomag: bool
    optics_min_resolution: Length
    max_resolution: Length | None
    passes: int
    minibatch_size: Literal["auto"] | int
    device: Literal["auto", "cpu", "cuda"]

    def __post_init__(self) -> None:
        """Refuses what is wrong whatever the data are."""
        require(self.write != [], "write", "[]", "name a format, write=[star] for example")
        asked = self.defocus or self.fits_optics
        require(asked, "defocus", False, "nothing is left to refine, switch something on")
        requirement = "it needs defocus=true, as the two can hardly be told apart"
        require(self.defocus or not self.spherical, "spherical", True, requirement)
        free = self.defocus or self.astigmatism == "none"
        require(free, "astigmatism", self.astigmatism, "it needs defocus=true")

    @property
    def fits_optics(self) -> bool:
        """Whether anything of the optics groups is fitted."""
        return any(getattr(self, name) for name in OPTICS)
