"""The judge at the end of every iteration of a refinement: what may be claimed, what is wrong, whether it has converged."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import lightning as L
from lightning.pytorch.callbacks import Callback

from cryotorch.findings import Finding
from cryotorch.jobs.fsc.advice import Advice, advice, heard, insignificance, nothing_shared
from cryotorch.jobs.fsc.mask import FscMask
from cryotorch.jobs.inputs.source_run import bars
from cryotorch.jobs.refinement.duplicates import NONE_TWICE, Twins, over_ranks, twins
from cryotorch.jobs.refinement.start_advice import NOTHING, Beginning, initial_map_advice
from cryotorch.jobs.refinement.views_advice import views_advice
from cryotorch.ops.resolution.claims import Background, Judged, unclaimed
from cryotorch.ops.resolution.fsc import first_randomised_shell
from cryotorch.ops.resolution.sharpening import fit_doubts
from cryotorch.refinement.em.module import Refinement
from cryotorch.report.summary import median
from cryotorch.results import IterationResult

MAX_JUMP = 4 / 3  # ratio of the last two resolutions of a run that has not settled
MAX_TURN_ERRORS = 3.0  # median turns in units of their standard error
MAX_TURN = 2.0  # degrees
HANDS_MIXED = ("hands_differ", "no_hand")  # what no resolution describes


@dataclass
class JudgeClaims(Callback):
    """Puts what ``advice`` says of half maps into the result that all reports are made of; comes before them.

    Args:
        mask: kind of the FSC mask, as of ``FscMask``.
        start: what the run began with.
    """

    mask: str
    start: Beginning = NOTHING
    said: set[Finding] = field(default_factory=set)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Refinement) -> None:
        """All ranks look for images that are there twice, the rest is for rank 0."""
        result = pl_module.result
        twice = NONE_TWICE
        if result is not None and result.final:
            images, rows = pl_module.batches.images, pl_module.state.particles
            marks = over_ranks(images.marks, trainer.world_size)
            twice = twins(marks, rows.half.numpy(), rows.address.numpy(), images.name)
        if not trainer.is_global_zero or result is None:
            return
        found = with_twins(judged(result, self.mask, self.start), twice)
        if not found.claims:
            pl_module.state.history[-1]["resolution"] = math.nan
        pl_module.result = with_advice(result, found, self.said)
        self.said |= set(found.warnings)


def judged(result: IterationResult, mask: str, start: Beginning = NOTHING) -> Advice:
    """What there is to say about an iteration; of all but the last only whether anything can be claimed, which costs nothing."""
    curves, box = result.curves, result.map.shape[-1]
    known = Background(result.group, result.shared, result.inserted)
    shell = None
    if math.isfinite(result.resolution):
        shell = round(box * result.pixel_size / result.resolution)
    onset = first_randomised_shell(curves["no_mask"], shared=result.shared)
    numbers = Judged(curves, result.band, onset, shell, result.resolutions)
    if not result.final:
        nothing = insignificance(numbers, box * result.pixel_size, known)
        claims = not nothing and not nothing_shared(curves["no_mask"])
        return Advice(claims and not bars(start.warnings), [])
    made = FscMask(result.mask_fsc, mask)
    found = advice(result.half_maps, numbers, made, result.pixel_size, known, adjustable=False)
    own = [message for message in result.messages if message.serious]
    hands = [message for message in own if message.code in HANDS_MIXED]
    found_now = [*found.warnings, *sharpening_advice(result), *convergence_advice(result)]
    if found.claims and shell is not None:
        found_now += views_advice(result, shell) + initial_map_advice(result, start, shell)
    others = [message for message in own if message not in hands]
    return heard(Advice(found.claims and not hands, [*others, *found_now, *hands]), start.warnings)


def with_twins(found: Advice, twice: Twins) -> Advice:
    """The same in view of images that are there twice; half sets that share many of them claim nothing."""
    if twice.warning is None:
        return found
    return Advice(found.claims and not twice.spoil, [twice.warning, *found.warnings])


def with_advice(result: IterationResult, found: Advice, said: set[Finding]) -> IterationResult:
    """The result with that; what was ``said`` before is no message again."""
    news = [w for w in found.warnings if w not in said and w not in result.messages]
    changes: dict = {"warnings": found.warnings, "messages": [*result.messages, *news]}
    if not found.claims:
        history = [*result.history[:-1], {**result.history[-1], "resolution": math.nan}]
        changes |= {"resolution": math.nan, "history": history}
        changes["resolutions"] = unclaimed(result.resolutions)
    return replace(result, **changes)


def sharpening_advice(result: IterationResult) -> list[Finding]:
    """Whether the B-factor behind map_sharp.mrc is a fit that tells little."""
    fit = result.guinier
    if fit.bfactor is None or fit.applied != fit.bfactor or not (doubts := fit_doubts(fit)):
        return []
    return [
        Finding("run_bfactor_uncertain", bfactor=fit.bfactor, error=fit.error, doubts=tuple(doubts))
    ]


def convergence_advice(result: IterationResult) -> list[Finding]:
    """Whether the last iteration still changed resolution or poses much."""
    jumped = restless = None
    if len(result.history) > 1:
        before, now = (row["resolution"] for row in result.history[-2:])
        known = math.isfinite(before), math.isfinite(now)
        if known[0] != known[1] or (all(known) and not 1 / MAX_JUMP <= now / before <= MAX_JUMP):
            jumped = Finding("resolution_jumped", before=before, now=now)
    turn, sigma = (
        median(result.rotation_change),
        median(result.particles.pose_sigma[:, 0].rad2deg()),
    )
    if turn > MAX_TURN and turn > MAX_TURN_ERRORS * sigma:
        restless = Finding("poses_restless", turn=turn, sigma=sigma)
    if jumped is None and restless is None:
        return []
    return [Finding("not_converged", resolution=jumped, poses=restless)]
