"""What ``create_templates`` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass

from cryotorch.jobs.config.parse import Angstrom, require


@dataclass(frozen=True)
class CreateTemplates:
    """The parameters; meanings and defaults in ``configs/job/create_templates.yaml``, lengths in Å."""

    volume: str | None
    out: str | None
    overwrite: bool
    dry_run: bool
    n_templates: int
    symmetry: str
    box_size: int | None
    pixel_size: Angstrom | None
    low_pass: Angstrom | None
    diameter: Angstrom | None
    contrast: float | None
    invert: bool

    def __post_init__(self) -> None:
        """Refuses what is wrong whatever the map is."""
        box = self.box_size
        require(box is None or box >= 16, "box_size", box, "it must be at least 16 pixels")
        even = box is None or box % 2 == 0
        require(even, "box_size", box, f"it must be even, {(box or 0) + 1} for example")
