"""What a fit onto another map is told as: the motion between the coordinates of two files, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cryotorch.findings import Finding
from cryotorch.ops.geometry.map_fit import MapFit

SURE_PLACE, SURE_HAND = (
    1.5,
    3.0,
)  # standard errors between a fit and another one, see ``MapFit.lead``
CONVENTION = (
    "x_reference = matrix x + translation, both (x, y, z) in Å as ChimeraX shows the two files: the origin in a map's header counts. "
    "The matrix of a mirrored map has the determinant -1"
)


@dataclass(frozen=True)
class Fitted:
    """A fit, in the coordinates of the files.

    Attributes:
        source: file that was moved; reference: the map it was fitted onto.
        found: the fit, from the middles of both maps.
        matrix: (3, 3) float64, the rotation, times -1 where the map is mirrored; translation: (3,) float64, Å.
        mirror: correlation of the other hand, None where it was not tried.
        fsc_half: Å, where the FSC with the reference falls below 0.5 in the outline of what was moved; None where it never reaches it.
        model: whether an atomic model was moved.
    """

    source: str
    reference: str
    found: MapFit
    matrix: Tensor
    translation: Tensor
    mirror: float | None
    fsc_half: float | None
    model: bool = False

    @property
    def chimerax(self) -> str | None:
        """The ChimeraX command that puts the file, opened as model 1, onto the reference; None where that takes a mirror."""
        if self.found.mirrored:
            return None
        rows = zip(self.matrix.tolist(), self.translation.tolist(), strict=True)
        numbers = [f"{v:.6g}" for row, step in rows for v in (*row, step)]
        return "view matrix models #1," + ",".join(numbers)

    @property
    def json(self) -> dict:
        """For fit.json."""
        found, best = self.found, self.found.runner_up
        return {
            "moved": self.source,
            "onto": self.reference,
            "convention": CONVENTION,
            "matrix": self.matrix,
            "translation": self.translation,
            "mirrored": found.mirrored,
            "correlation": found.correlation,
            "correlation_of_other_hand": self.mirror,
            "compared_to_resolution": found.resolution,
            "correlation_error": found.error,
            "fsc_0.5_resolution": self.fsc_half,
            "copies_by_symmetry": found.copies,
            "runner_up": None if best is None else best._asdict(),
            "chimerax": self.chimerax,
        }

    @property
    def lines(self) -> list[str]:
        """For the log."""
        found, best = self.found, self.found.runner_up
        said = [
            f"Correlation with {self.reference} down to {found.resolution:.3g} Å, all shells alike: {found.correlation:.3f}"
        ]
        if self.mirror is not None:
            said[0] += f"; of the other hand {self.mirror:.3f}"
        if best is not None:
            said[0] += f"; next best {best.correlation:.3f}, turned by {best.angle_degrees:.0f}°"
        if found.copies:
            said.append(
                f"{self.reference} looks alike after {found.copies} other turns: such a fit is one of {found.copies + 1}"
            )
        where = "inside the soft outline of what was moved"
        if self.fsc_half is None:
            said.append(f"FSC with {self.reference} {where}: below 0.5 from the first shell on")
        else:
            said.append(f"FSC with {self.reference} {where}: 0.5 at {self.fsc_half:.3g} Å")
        if self.chimerax:
            said.append(f"ChimeraX, with {self.source} opened as model 1: {self.chimerax}")
        return said

    @property
    def doubts(self) -> list[Finding]:
        """What the user should look at."""
        found, best, doubts = self.found, self.found.runner_up, []
        seen = dict(file=self.reference, correlation=found.correlation)
        if best is not None and found.lead(best.correlation) < SURE_PLACE:
            about = dict(runner_up=best.correlation, angle=best.angle_degrees)
            doubts.append(Finding("fit_ambiguous", **seen, **about))
        if self.mirror is None:
            return doubts
        lead = found.lead(self.mirror)
        if self.model:
            if lead < -SURE_HAND:
                doubts.append(Finding("fit_mirror_better", **seen, mirror=self.mirror))
        elif abs(lead) < SURE_HAND:
            about = dict(mirror=self.mirror, resolution=found.resolution)
            doubts.append(Finding("fit_hand_unclear", **seen, **about))
        return doubts
