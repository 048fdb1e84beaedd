"""The CTF refinement inside a refinement: in one iteration, with the poses that its E-step has just found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from cryotorch.findings import Finding, remark
from cryotorch.particles import Batch, Optics
from cryotorch.refinement.ctf.compare import pick_sample
from cryotorch.refinement.ctf.refine import REFIT_PRIOR_ERRORS, CtfPass
from cryotorch.refinement.ctf.sums import CLEAR_ERRORS, GroupFit
from cryotorch.refinement.em.expectation import Expectation
from cryotorch.refinement.runtime.distributed import Batches
from cryotorch.refinement.settings import CtfTargets, EMSettings
from cryotorch.refinement.state import State

MIN_SHELLS = 3  # between the coarsest shell that is used and the limit
CALIBRATION_IMAGES = 500  # images of each half set to calibrate with


class CtfRound:
    """What the images of one iteration say about their CTF; nothing where the map is too coarse.

    Args:
        what: its limit is replaced by the ``max_shell`` of the iteration.
    """

    def __init__(
        self, state: State, settings: EMSettings, batches: Batches, what: CtfTargets
    ) -> None:
        edge = settings.box * settings.pixel_size
        asked = {
            "defocus": (what.defocus, what.defocus_from),
            "optics": (what.tilt or what.trefoil, what.optics_from),
        }
        needed = {  # Å
            name: edge / (edge / begin + MIN_SHELLS)
            for name, (wanted, begin) in asked.items()
            if wanted
        }
        reached = edge / state.max_shell
        fine = {name for name, coarsest in needed.items() if reached <= coarsest}
        self.too_coarse = [
            Finding("map_too_coarse_for_ctf", what=name, reached=reached, needed=needed[name])
            for name in needed
            if name not in fine
        ]
        what = replace(
            what,
            limit=state.max_shell,
            defocus="defocus" in fine,
            tilt=what.tilt and "optics" in fine,
            trefoil=what.trefoil and "optics" in fine,
            # the same images cannot tell the errors' width twice
            prior=REFIT_PRIOR_ERRORS * state.defocus_sigma or None,
        )
        self.noise, self.what = state.noise, what
        self.ctf_pass: CtfPass | None = None
        if what.defocus or what.optics:
            self.ctf_pass = CtfPass(state.particles, state.references, what, settings.grid)
            self.ctf_pass.calibrate(pick_sample(batches, CALIBRATION_IMAGES), state.noise)

    def add(self, batch: Batch, expectation: Expectation) -> None:
        """Take in a batch whose poses the E-step has found."""
        if self.ctf_pass is None or not len(batch.index):
            return
        rows = batch.index.to(expectation.device)
        shift_px = expectation.result.shift[rows] / expectation.settings.pixel_size
        self.ctf_pass.add(batch, self.noise, expectation.result.rotation[rows], shift_px)

    def conclude(self, state: State, reduce: Callable[[list[Tensor]], None]) -> Finding:
        """Give the state's particles the defocus and optics that follow; what has changed."""
        if self.ctf_pass is None:
            return remark("ctf_not_refined", reasons=tuple(self.too_coarse))
        reduce(self.ctf_pass.sums.tensors())
        solved, particles = self.ctf_pass.solve(), state.particles
        refined, notes = solved.particles, []
        if self.what.defocus:
            change = (refined.defocus - particles.defocus)[:, :2].mean(1)
            notes.append(Finding("defocus_changed", rms=float(change.square().mean().sqrt())))
            state.defocus_sigma = float(solved.sigma[:, 0].median())
        if self.what.optics:
            notes.append(_of_optics(solved.groups, refined.optics))
        state.particles = particles.replace(defocus=refined.defocus, optics=refined.optics)
        changes = (*notes, *self.too_coarse)
        return remark("ctf_refined", changes=changes)


def _of_optics(groups: list[GroupFit], optics: Optics) -> Finding:
    """What has changed about the optics, which is what was clear of its standard error in some group."""
    clear = {name for group in groups for name in group.values if name in ("tilt", "trefoil")}
    if not clear:
        return Finding("no_aberration", level=CLEAR_ERRORS)
    tilts = [] if optics.beam_tilt is None else optics.beam_tilt.tolist()
    listed = ", ".join(f"({x:.2f}, {y:.2f})" for x, y in tilts)
    return Finding("optics_changed", tilt="tilt" in clear, trefoil="trefoil" in clear, tilts=listed)
