"""The posterior of classes, held back so that no image is in one class before the maps are worth it."""

from __future__ import annotations

from torch import Tensor

LEAST_SHARE = 1e-3  # of the images, that a class counts as having
STEPS = 40  # of the bisection


def class_ess(share: Tensor) -> float:
    """Mean over images of the effective number of classes, 1 / sum_k P^2, of posteriors (n, k): 1 = each in one class."""
    return float((1 / share.double().square().sum(1)).mean())


def log_shares(share: Tensor) -> Tensor:
    """Logarithms (k,) of the shares of classes by posteriors (n, k), none of them zero."""
    mean = share.double().mean(0).clamp_min(LEAST_SHARE)
    return (mean / mean.sum()).log()


def tempered(log_evidence: Tensor, target: float) -> tuple[Tensor, float]:
    """Posteriors (n, k) float32 whose ``class_ess`` is ``target`` or more, and the inverse temperature b, 1 at most, that gives them.

        P(k | i) = softmax_k( b L_ik )

    log_evidence (n, k): logarithms of likelihood times prior. Posteriors that are less certain than ``target`` by themselves stay as they are.
    """
    evidence = log_evidence.double()
    evidence = evidence - evidence.amax(1, keepdim=True)

    def at(b: float) -> Tensor:
        return (b * evidence).softmax(1)

    low, high = 0.0, 1.0
    if class_ess(at(high)) < target:
        for _ in range(STEPS):
            middle = (low + high) / 2
            low, high = (low, middle) if class_ess(at(middle)) < target else (middle, high)
        high = low
    return at(high).float(), high


def annealed_ess(number: int, of: int, first: float, classes: int) -> float:
    """The target of ``tempered`` in step ``number`` of ``of``: from ``first`` times the number of classes to 1, which holds nothing back."""
    left = max(0.0, 1 - number / max(1, of))
    return 1 + max(0.0, first * classes - 1) * left
