"""When to do what: a pure function of the history of an EM run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ScheduleSettings:
    """Limits are in Fourier pixels (shells).

    Attributes:
        first_limit: from the initial resolution; most: highest limit ever used for alignment.
        max_iterations: EM iterations at most; extra_final_passes: iterations after convergence.
        patience: iterations without ``least_gain`` shells of gain that mean convergence. Gain is measured by the sum of the
            FSC over all shells: unlike the crossing it still moves when the curve has reached Nyquist.
        ctf_rounds: how often the CTF is refined after convergence, each time followed by iterations until the next one.
    """

    first_limit: float
    most: float
    max_iterations: int = 30
    extra_final_passes: int = 0
    patience: int = 2
    least_gain: float = 0.1
    ctf_rounds: int = 0


@dataclass(frozen=True)
class Next:
    """The coming iteration aligns up to ``limit``, and may refine the CTF; ``note`` says why if it is news."""

    limit: float
    note: str = ""
    refine_ctf: bool = False


@dataclass(frozen=True)
class Stop:
    """The run is over, and why."""

    reason: str


def advance(
    crossings: list[float],
    areas: list[float],
    settings: ScheduleSettings,
    ctf_after: Sequence[int] = (),
) -> Next | Stop:
    """Decide from the gold-standard crossing (shells, FSC 0.143) and FSC sum of every iteration so far.

    ``ctf_after``: how many iterations were done each time before one that refined the CTF; convergence counts anew from it.

    The next limit is the crossing plus one shell, plus two in the first three iterations, when poses still improve
    faster than the curve shows.
    """
    done = len(crossings)
    if done == 0:
        return Next(min(settings.first_limit, settings.most))
    if done >= settings.max_iterations:
        return Stop(
            f"max_iterations={settings.max_iterations} reached; raise it if the resolution still improves"
        )
    since = ctf_after[-1] if ctf_after else 0
    converged = converged_at(areas[since:], settings)
    refine_ctf = converged is not None and len(ctf_after) < settings.ctf_rounds
    if converged is not None:
        converged += since
    if converged is not None and not refine_ctf and done >= converged + settings.extra_final_passes:
        return Stop(
            f"the FSC has not improved by {settings.least_gain} shell for {settings.patience} iterations"
        )
    limit = crossings[-1] + (2 if done < 3 else 1)
    limit = max(min(settings.first_limit, settings.most), min(limit, settings.most))
    if refine_ctf:
        return Next(limit, "converged; the next iteration refines the CTF", refine_ctf=True)
    if converged == done:
        return Next(limit, f"converged; {settings.extra_final_passes} extra final passes follow")
    return Next(limit)


def converged_at(areas: list[float], settings: ScheduleSettings) -> int | None:
    """Number of iterations after which the run had converged, or None."""
    if not areas:
        return None
    best, since = areas[0], 0
    for done, value in enumerate(areas[1:], start=2):
        if value >= best + settings.least_gain:
            best, since = value, 0
        else:
            since += 1
        if since >= settings.patience:
            return done
    return None
