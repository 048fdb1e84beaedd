"""What ``simulate`` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cryotorch.jobs.config.parse import Angle, Angstrom, Length, require
from cryotorch.jobs.config.units import parse_length

# Coefficients in RELION's columns.
ZERNIKE = {"odd_zernike": 6, "even_zernike": 9}


@dataclass(frozen=True)
class Simulate:
    """The parameters; meanings and defaults in ``configs/job/simulate.yaml``, lengths in Å."""

    out: str | None
    overwrite: bool
    dry_run: bool
    source: str
    assembly: str | None
    phantom_seed: int
    symmetry: str
    resolution: Length | None
    bfactor: float
    second_body: str | None
    second_body_size: float
    second_body_rotation: Angle
    second_body_shift: Length
    second_body_states: Literal["continuous", "absent", "turned"]
    second_body_share: float
    hinge: list[float] | None
    second_species: str | None
    second_species_share: float
    junk_share: float
    box_size: int
    pixel_size: Angstrom
    n_particles: int
    snr: float | None
    dtype: Literal["float32", "float16"]
    orientations: Literal["uniform", "preferred"]
    concentration: float
    shift_sigma: Length
    scale_sigma: float
    defocus_min: Length
    defocus_max: Length
    astigmatism: Length
    voltage_kv: float
    spherical_aberration: float
    amplitude_contrast: float
    phase_shift: Angle
    beam_tilt: list[float] | None
    odd_zernike: list[float] | None
    even_zernike: list[float] | None
    magnification: list[list[float]] | None
    known_aberrations: bool
    defocus_error: Length
    initial_resolution: Length
    minibatch_size: Literal["auto"] | int
    seed: int

    def __post_init__(self) -> None:
        """Refuses what is wrong whatever the source is."""
        box = self.box_size
        require(box % 2 == 0, "box_size", box, f"it must be even, {box + 1} for example")
        low, high = self.defocus_min, self.defocus_max
        ordered = parse_length(low, self.pixel_size) <= parse_length(high, self.pixel_size)
        require(ordered, "defocus_max", high, f"it must not be below defocus_min={low}")
        finest = 2 * self.pixel_size
        fine = self.resolution or finest
        sampled = parse_length(fine, self.pixel_size) >= 0.999 * finest
        require(sampled, "resolution", fine, f"it must be at least two pixels, {finest:g} Å")
        edge = box * self.pixel_size
        held = parse_length(fine, self.pixel_size) <= max(edge / 2, finest)
        require(held, "resolution", fine, f"the box is only {edge:g} Å wide: at most half of that")
        require(bool(self.source), "source", self.source, "give phantom or a file")
        self._check_aberrations()
        self._check_second_body()
        both = self.second_body is not None and self.second_species is not None
        requirement = "the particles have either a second body or a second species"
        require(not both, "second_species", self.second_species, requirement)
        junk = self.junk_share
        require(junk < 1, "junk_share", junk, "some of the particles must show a molecule")

    def _check_aberrations(self) -> None:
        tilt, matrix = self.beam_tilt, self.magnification
        require(tilt is None or len(tilt) == 2, "beam_tilt", tilt, "write it as [x,y], in mrad")
        requirement = "it acts through the spherical aberration, which is 0"
        require(
            not any(tilt or []) or self.spherical_aberration != 0, "beam_tilt", tilt, requirement
        )
        for name, most in ZERNIKE.items():
            value = getattr(self, name)
            fits = value is None or 1 <= len(value) <= most
            require(fits, name, value, f"give 1 to {most} coefficients")
        square = matrix is None or (len(matrix) == 2 and all(len(row) == 2 for row in matrix))
        require(square, "magnification", matrix, "write it as [[xx,xy],[yx,yy]]")
        unit = ((1.0, 0.0), (0.0, 1.0))
        near = all(
            abs(x - one) <= 0.2
            for row, ones in zip(matrix or unit, unit, strict=True)
            for x, one in zip(row, ones, strict=True)
        )
        requirement = "its elements must be within 0.2 of those of [[1,0],[0,1]]"
        require(near, "magnification", matrix, requirement)

    def _check_second_body(self) -> None:
        body, states = self.second_body, self.second_body_states
        alone = states == "continuous" or body is not None
        require(alone, "second_body_states", states, "add second_body=phantom")
        if self.hinge is None:
            return
        place = "[" + ",".join(f"{x:g}" for x in self.hinge) + "]"
        require(body is not None, "hinge", place, "it needs a second_body")
        require(len(self.hinge) == 3, "hinge", place, "it has three numbers, [x,y,z] in voxels")
        inside = all(0 <= x <= self.box_size - 1 for x in self.hinge)
        requirement = f"it must lie in the box, from 0 to {self.box_size - 1} voxels in x, y and z"
        require(inside, "hinge", place, requirement)
