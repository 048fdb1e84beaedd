"""Defocus and aberrations from particles whose poses are known."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryotorch.jobs.config.parse import Length, require

# Everything the job may leave in ``out``; the summary comes last and so says that all is there.
FILES = (
    *("config.yaml", "log.txt", "particles.star", "particles.cs", "defocus.png", "positions.png"),
    *("optics_*.png", "magnification.png", "fsc.png", "tensorboard", "summary.json"),
)
OPTICS = (
    "tilt",
    "trefoil",
    "spherical",
    "tetra",
    "anisomag",
)  # switches of what is fitted of a group
NEEDED = {
    "particles": "add particles=<file with orientations and half sets>",
    "volume": "add volume=<run folder with half maps>, or a map and max_resolution=<Å>",
}


@dataclass(frozen=True)
class CtfRefine:
    """The parameters; meanings and defaults in ``configs/job/ctf_refine.yaml``, lengths in Å."""

    particles: str | None
    class_: int | None
    volume: str | None
    mask: str | None
    out: str | None
    overwrite: bool
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
        wish = "it needs defocus=true, as the two can hardly be told apart"
        require(self.defocus or not self.spherical, "spherical", True, wish)
        free = self.defocus or self.astigmatism == "none"
        require(free, "astigmatism", self.astigmatism, "it needs defocus=true")

    @property
    def fits_optics(self) -> bool:
        """Whether anything of the optics groups is fitted."""
        return any(getattr(self, name) for name in OPTICS)


def run(settings: CtfRefine) -> Path:
    """Particles with new defocus and optics, and how sure they are, in ``settings.out``."""
    started = time.perf_counter()
    for name, wish in NEEDED.items():
        require(getattr(settings, name) is not None, name, None, wish)
    from cryotorch.jobs.ctf.inputs import load
    from cryotorch.jobs.ctf.passes import refine
    from cryotorch.jobs.ctf.results import write
    from cryotorch.jobs.files.output_folder import new_files
    from cryotorch.report.run_log import RunLog

    inputs = (settings.particles, settings.volume, settings.mask)
    with RunLog() as log:
        with new_files(settings, FILES, inputs) as folder:
            log.open(folder / "log.txt")
            given = load(settings)
            ready = time.perf_counter()
            found, begun, loud = refine(given)
            done = time.perf_counter()
            seconds = {"total": done - started, "read": ready - started, "fit": done - ready}
            write(folder, given, found, begun, seconds, loud)
        log.info("The results are in %s, %.1f s", settings.out, time.perf_counter() - started)
    return Path(settings.out)
