"""One iteration of expectation-maximization, in the order of the method; every step is a function or method of its own.

An image with the transform y, contrast transfer T (with scale, aberrations and MTF) and noise power sigma^2 shows a map V as

    y(k) = T(k) exp(2 pi i k.s) V(R^T k) + n(k),     E |n|^2 = sigma^2(|k|)

(Scheres 2012, doi:10.1016/j.jsb.2012.09.006, equation 1). ``expect`` finds for every image of a batch the rotation R and shift s of
the highest posterior and its covariance, and adds what the image says there to the normal equations of V: numerators sum T* y / sigma^2
and weights sum |T|^2 / sigma^2 (equation 4). ``maximize`` solves them for each half set, measures by the FSC of the half maps what they
hold, filters the references of the next iteration with it (equation 5), and estimates noise and scales anew (equations 6 and 7).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from cryotorch.particles import Batch
from cryotorch.refinement.em.ctf_round import CtfRound
from cryotorch.refinement.em.evaluate import evaluate, for_the_eye, keep_score
from cryotorch.refinement.em.expectation import Expectation
from cryotorch.refinement.em.mstep import gather, in_one_frame, solve
from cryotorch.refinement.em.outcome import Made, outcome
from cryotorch.refinement.em.reference_mask import mask_references, sphere
from cryotorch.refinement.em.regularise import regularise
from cryotorch.refinement.em.update import plan_next, take_over
from cryotorch.refinement.settings import EMSettings
from cryotorch.refinement.state import State
from cryotorch.results import IterationResult


def expect(step: Expectation, batch: Batch) -> None:
    """E-step of a batch. When the device runs out of memory nothing of it has been added to ``step``."""
    if len(batch.index) == 0:
        return
    reference = step.use(batch)  # V of the batch's half set, up to the limit of this iteration
    images = step.observe(batch)  # y, T and 1 / sigma^2
    best = step.search(images)  # R and s, with their covariance
    moved = step.compare(images, best)  # a sample, against the other half set's V
    with step.clock.phase("insert"):
        weighed = step.weigh(reference, images, best, moved)  # what each counts, by its residual
        step.insert(images, weighed)
        step.record(images, weighed)


def maximize(
    state: State,
    step: Expectation,
    settings: EMSettings,
    reduce: Callable[[list[Tensor]], None],
    ctf: CtfRound | None = None,
    name: Callable[[int], str] = "image {}".format,
) -> IterationResult:
    """M-step: solve for new maps, judge them, and set ``state`` up for the next iteration.

    Args:
        reduce: sums tensors over all ranks, in place; does nothing on one process.
        ctf: what the iteration learnt about the CTF, if it looked.
        name: of the image of a row, for messages.

    Raises:
        InputError: an image, a sum, a reference or a noise level is not finite.
    """
    s, clock, limit = settings, step.clock, step.insert_limit
    with clock.waiting("reduce"):  # for the slowest rank too
        found, sums = gather(step, reduce, name)
    with clock.waiting("solve"):
        found, halves, notes = in_one_frame(state, found, sums, s, limit)
        solved = solve(halves, s.box)  # V = numerator / weight
    with clock.waiting("fsc"):
        value = evaluate(solved.half_maps, limit, s, lambda: sphere(s, solved.half_maps.device))
        keep_score(state, value)
    with clock.waiting("solve"):
        maps = regularise(solved, value.leading, value.inside, s)
        solved.sums.clear()  # for the memory
        mask_references(state, maps, value.reached, s)
        sharp = for_the_eye(solved.half_maps, value, s, maps.locally)
    learnt = take_over(state, found, s)  # noise, what images count, poses, scales
    messages = [*value.messages, *notes, *learnt.messages]
    if ctf is not None:
        messages.append(ctf.conclude(state, reduce))
    aligned = state.limit
    messages += plan_next(state, found, solved.half_maps, limit, sharp.fit, s)
    made = Made(solved.half_maps, maps, value, sharp)
    return outcome(state, step, found, learnt, made, aligned, messages)
