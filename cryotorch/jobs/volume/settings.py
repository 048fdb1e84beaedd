"""What ``volume_tools`` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cryotorch.jobs.config.parse import Angle, Angstrom, Length, require
from cryotorch.jobs.config.units import parse_length


@dataclass(frozen=True)
class SegmentSettings:
    """How what lies above the threshold is cut into segments, and which of them are kept."""

    method: Literal["none", "components", "watershed"]
    scale: Length
    labels: list[int] | int | None
    points: list[list[float]] | list[float] | None
    min_volume: float | None


@dataclass(frozen=True)
class VolumeTools:
    """The parameters; meanings and defaults in ``configs/job/volume_tools.yaml``, lengths in Å."""

    volume: str | None
    pixel_size: Angstrom | None
    like: str | None
    fit: str | None
    fit_resolution: Literal["auto"] | Angstrom
    fit_hand: Literal["auto", "same", "mirror"]
    write: Literal["auto", "map", "mask"]
    out: str | None
    overwrite: bool
    dry_run: bool
    resolution: Angstrom | None
    select: str | list[str] | None
    assembly: str | None
    center: Literal["auto"] | bool
    low_pass: Length | None
    high_pass: Length | None
    filter_type: Literal["butterworth", "gaussian", "rectangular"]
    filter_order: int
    box_size: int | None
    new_pixel_size: Angstrom | None
    flip_hand: bool
    rotate: list[Angle] | None
    shift: list[Length] | None
    symmetry: str
    normalize: bool
    coordinates: Literal["voxels", "angstrom"]
    erase: list[list[float]] | list[float] | None
    keep: list[list[float]] | list[float] | None
    sphere_edge: Length
    threshold: float | None
    relative_threshold: bool
    segment: SegmentSettings
    fill_holes: bool
    keep_largest: bool
    dilate: Length
    soften: Length
    invert: bool
    unite: str | list[str] | None
    intersect: str | list[str] | None
    subtract: str | list[str] | None
    device: Literal["auto", "cpu", "cuda"]

    def __post_init__(self) -> None:
        """Refuses what is wrong whatever the volume is."""
        for name, what in (("rotate", "[rot,tilt,psi]"), ("shift", "[x,y,z]")):
            value = getattr(self, name)
            require(value is None or len(value) == 3, name, value, f"write three numbers, {what}")
        for name, value, size, what in (
            ("erase", self.erase, 4, "[[x,y,z,radius],...]"),
            ("keep", self.keep, 4, "[[x,y,z,radius],...]"),
            ("segment.points", self.segment.points, 3, "[[x,y,z],...]"),
        ):
            right = value != [] and all(len(row) == size for row in rows(value))
            require(right, name, value, f"write it as {what}")
        for giver in ("like", "fit"):
            given = getattr(self, giver)
            for name in ("box_size", "new_pixel_size", *(["like"] if giver == "fit" else [])):
                value = getattr(self, name)
                requirement = f"{giver}={given} gives the grid already, leave one of the two out"
                require(value is None or given is None, name, value, requirement)
        requirement = "the fit finds the place, leave center out"
        require(self.fit is None or self.center == "auto", "center", self.center, requirement)
        level = self.threshold
        fraction = not self.relative_threshold or level is None or level > 0
        requirement = "as a fraction of the high density it must be above zero, for a density add relative_threshold=false"
        require(fraction, "threshold", level, requirement)
        self._check_segment()

    def _check_segment(self) -> None:
        segment = self.segment
        for name in ("labels", "points", "min_volume"):
            value = getattr(segment, name)
            requirement = "add segment.method=watershed or segment.method=components"
            unused = value is not None and segment.method == "none"
            require(not unused, f"segment.{name}", value, requirement)
        require(segment.labels != [], "segment.labels", [], "write numbers, [1,2] for example")
        requirement = "it cuts what lies above a threshold, add threshold=0.3 for example"
        without = segment.method != "none" and self.threshold is None
        require(not without, "segment.method", segment.method, requirement)

    @property
    def outlines(self) -> list[str]:
        """Names of the parameters in use that change the outline of a mask."""
        lengths = [n for n in ("dilate", "soften") if parse_length(getattr(self, n), 1.0)]
        return [n for n in ("fill_holes", "keep_largest") if getattr(self, n)] + lengths

    @property
    def others(self) -> list[tuple[str, str]]:
        """(parameter, file) of every further mask."""
        names = ("unite", "intersect", "subtract")
        return [(name, path) for name in names for path in listed(getattr(self, name))]


def listed(value: str | list[str] | None) -> list[str]:
    """One or several names as a list."""
    return [value] if isinstance(value, str) else list(value or [])


def rows(value: list | None) -> list[list[float]]:
    """A list of rows; one row may be given without the outer brackets."""
    if not value:
        return []
    return value if isinstance(value[0], list) else [value]
