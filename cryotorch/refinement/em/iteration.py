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

from cryotorch.particles import Batch
from cryotorch.refinement.em.ctf_round import CtfRound
from cryotorch.refinement.em.evaluate import evaluate, keep_score
from cryotorch.refinement.em.expectation import Expectation
from cryotorch.refinement.em.mstep import gather, in_one_frame, solve
from cryotorch.refinement.em.outcome import Made, outcome
from cryotorch.refinement.em.reference_mask import mask_references, sphere
from cryotorch.refinement.em.regularise import regularise, without_noise
from cryotorch.refinement.em.update import plan_next, take_over
from cryotorch.refinement.runtime.ranks import Ranks
from cryotorch.results import IterationResult


def expect(expectation: Expectation, batch: Batch) -> None:
    """E-step of a batch. When the device runs out of memory nothing of it has been added to ``expectation``."""
    if len(batch.index) == 0:
        return
    expectation.use(batch)  # V of the batch's half set, up to the shell that is aligned
    observed = expectation.observe(batch)  # y, T and 1 / sigma^2
    best = expectation.search(observed)  # R and s, with their covariance
    difference = expectation.compare(observed, best)  # a sample, against the other half set's V
    with expectation.clock.phase("insert"):
        weighed = expectation.weigh(observed, best, difference)  # by their residuals
        expectation.insert(observed, weighed)
        expectation.record(observed, weighed)


def maximize(
    expectation: Expectation,
    ranks: Ranks,
    ctf: CtfRound | None = None,
    name: Callable[[int], str] = "image {}".format,
) -> IterationResult:
    """M-step: solve for new maps, judge them, and set the state up for the next iteration.

    Args:
        ranks: which share the work; ``Ranks()`` for one process.
        ctf: what the iteration learnt about the CTF, if it looked.
        name: of the image of a row, for messages.

    Raises:
        InputError: an image, a sum, a reference or a noise level is not finite.
    """
    state, settings, clock = expectation.state, expectation.settings, expectation.clock
    with clock.waiting("reduce"):  # for the slowest rank too
        e_step = gather(expectation, ranks, name)
    with clock.waiting("solve"):
        e_step, halves, notes = in_one_frame(expectation, e_step, ranks)
        solved = solve(halves, ranks)  # V = numerator / weight
    half_maps, inserted = solved.half_maps, expectation.insertion_limit
    with clock.waiting("fsc"):
        evaluation = evaluate(
            half_maps, inserted, settings, lambda: sphere(settings, half_maps.device), ranks
        )
        keep_score(state, evaluation)
    with clock.waiting("solve"):
        plain = regularise(solved, evaluation.leading, evaluation.inside, settings, ranks)
        solved.sums.clear()  # for the memory
        full, references, mask, sharp = without_noise(plain, half_maps, evaluation, settings, ranks)
        mask_references(state, references, mask, settings)
    changes = take_over(state, e_step, settings)  # noise, what images count, poses, scales
    messages = [*evaluation.messages, *notes, *changes.messages]
    if ctf is not None:
        messages.append(ctf.conclude(state, ranks.add_up))
    messages += plan_next(expectation, e_step, half_maps, sharp.fit)
    made = Made(half_maps, full, plain.noise_filter.cutoff, evaluation, sharp)
    return outcome(expectation, e_step, changes, made, messages)
