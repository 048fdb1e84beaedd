"""What ``job=particles`` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cryotorch.jobs.config.parse import Angle, Angstrom, Length, require


@dataclass(frozen=True)
class MixtureSettings:
    """Gaussians that the values of a column are taken to come from, and which of them stay."""

    column: str | None
    components: int
    keep: list[int] | None


@dataclass(frozen=True)
class ViewSettings:
    """Cells of viewing directions, and how many particles may stay in each."""

    most: Literal["median"] | int | None
    spacing: Angle
    symmetry: str


@dataclass(frozen=True)
class Particles:
    """The parameters; meanings and defaults in ``configs/job/particles.yaml``, lengths in Å."""

    particles: str | list[str] | None
    class_: int | None
    originals: bool
    move_paths: list[str] | None
    project: str | None
    join_optics: Literal["keep", "match"]
    write: list[Literal["star", "cs"]] | None
    split: int
    out: str | None
    overwrite: bool
    dry_run: bool
    where: str | None
    micrographs: str | list[str] | None
    intersect: str | None
    subtract: str | None
    match_by: Literal["image", "name", "uid"]
    score: str | None
    best: str | int | None
    mixture: MixtureSettings
    one_per_image: bool
    min_distance: Angstrom | None
    micrograph_pixel_size: Angstrom | None
    views: ViewSettings
    random: int | None
    seed: int
    expand_symmetry: str | None
    recenter: list[Length] | None
    reset: list[Literal["angles", "origins", "half_sets"]] | None
    optics_from_names: str | None
    restack: Literal["float32", "float16"] | None
    restack_size: int

    def __post_init__(self) -> None:
        """Refuses what is wrong whatever the particles are."""
        require(self.write != [], "write", "[]", "name a format, write=[star] or write=[cs]")
        require(self.particles != [], "particles", "[]", "name a file, particles=run_data.star")
        pair = self.move_paths is None or len(self.move_paths) == 2
        requirement = "give what names begin with and what they shall begin with, [/old,/new]"
        require(pair, "move_paths", self.move_paths, requirement)
        three = self.recenter is None or len(self.recenter) == 3
        require(three, "recenter", self.recenter, "give [x,y,z] in Å from the middle of the box")
        self.best_share()
        needed = self.best is None or self.score is not None
        require(needed, "best", self.best, "say of what, score=<column>, or score=-<column>")
        kept = self.mixture.keep
        there = kept is None or all(1 <= k <= self.mixture.components for k in kept)
        requirement = (
            f"the Gaussians have the numbers 1 to {self.mixture.components}, by their mean"
        )
        require(there and kept != [], "mixture.keep", kept, requirement)

    def best_share(self) -> tuple[float, bool] | None:
        """``best`` as a number and whether it is a share; None where it is not asked for.

        Raises:
            InputError: it is neither a number of particles nor a percentage.
        """
        if self.best is None:
            return None
        text = str(self.best).strip()
        share = text.endswith("%")
        requirement = "give a percentage such as 80%, or a number of particles"
        try:
            value = float(text.removesuffix("%"))
        except ValueError:
            value = -1.0
        good = 0 < value <= 100 if share else value >= 1 and value == int(value)
        require(good, "best", self.best, requirement)
        return (value / 100, True) if share else (value, False)
