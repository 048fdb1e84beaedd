"""When to do what: a pure function of the history of an EM run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ScheduleSettings:
    """Limits are in Fourier pixels (shells).

    Attributes:
        first_limit: from the initial resolution; most: highest limit ever used for alignment.
        max_iterations: EM iterations at most; extra_final_passes: iterations after convergence.
        patience: iterations without ``least_gain`` shells of gain that mean convergence. Gain is measured by the sum of the
            FSC over all shells: unlike the crossing it still moves when the curve has reached Nyquist.
    """

    first_limit: float
    most: float
    max_iterations: int = 30
    extra_final_passes: int = 0
    patience: int = 2
    least_gain: float = 0.1


@dataclass(frozen=True)
class Next:
    """The coming iteration aligns up to ``limit``; ``note`` says why if it is news."""

    limit: float
    note: str = ""


@dataclass(frozen=True)
class Stop:
    """The run is over, and why."""

    reason: str


def advance(crossings: list[float], areas: list[float], settings: ScheduleSettings) -> Next | Stop:
    """Decide from the gold-standard crossing (shells, FSC 0.143) and FSC sum of every iteration so far.

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
    converged = converged_at(areas, settings)
    if converged is not None and done >= converged + settings.extra_final_passes:
        return Stop(
            f"the FSC has not improved by {settings.least_gain} shell for {settings.patience} iterations"
        )
    limit = crossings[-1] + (2 if done < 3 else 1)
    limit = max(min(settings.first_limit, settings.most), min(limit, settings.most))
    if converged == done:
        return Next(limit, f"converged; {settings.extra_final_passes} extra final passes follow")
    return Next(limit)


def converged_at(areas: list[float], settings: ScheduleSettings) -> int | None:
    """Number of iterations after which the run had converged, or None."""
    best, since = areas[0], 0
    for done, value in enumerate(areas[1:], start=2):
        if value >= best + settings.least_gain:
            best, since = value, 0
        else:
            since += 1
        if since >= settings.patience:
            return done
    return None
