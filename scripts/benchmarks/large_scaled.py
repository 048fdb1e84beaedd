"""A large refinement foretold from small ones: particles/s of every phase, seconds per iteration.

Small runs of two or more sizes foretell each other first, which says how far to trust the figure
for the large one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

from benchmarks.large import Row, settings_of
from benchmarks.large_run import Outcome, refined
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.refinement.em.forecast import PER_IMAGE, Measured, measured, seconds_of
from cryotorch.refinement.em.schedule import Continue

LARGE = dict(n_particles=100_000, box_size=128, pixel_size=1.5)
ITERATIONS = 3  # of the small runs: at the first limit, on the way, near the last
WARM_UP = 64  # particles of a run before, which finds or compiles the loops
NAMES = {
    "transform": "observe",
    "coarse": "coarse search",
    "polish": "polish",
    "insert": "insertion",
}
MAPS = ("reduce", "solve", "fsc")


def run(
    device: str, sizes: Sequence[int], chosen: Row, changes: Sequence[str]
) -> dict[str, list[Row]]:
    """Title -> rows of every table; ``chosen``: of job=simulate, particles of the large set."""
    given = LARGE | {name: value for name, value in chosen.items() if value is not None}
    asked = [f"max_iterations={ITERATIONS}", *changes]

    def small(n: int, changes: Sequence[str]) -> Outcome:
        simulated = make_settings("simulate", **{**given, "n_particles": n})
        return refined(simulated, settings_of(changes, device, given))

    small(WARM_UP, [*changes, "max_iterations=2"])
    runs = [small(n, asked) for n in sorted(set(sizes))]
    rates = [row for o in runs for row in _rates(o)]
    checks = [row for one, other in permutations(runs, 2) for row in _foretold(one, other)]
    return {
        f"Particles/s of each phase, {device}": rates,
        f"Runs foretold by one another, seconds per iteration, {device}": checks,
        f"{given['n_particles']} x {given['box_size']} pixels, seconds per iteration, {device}": [
            _at_full_size(runs[-1], number, int(given["n_particles"]))
            for number in range(len(runs[-1].module.state.history))
        ],
    }


def _cost(o: Outcome, number: int) -> Measured:
    """Of an iteration, counted from 0."""
    row = o.module.state.history[number]
    phases = {k.removeprefix("seconds_"): v for k, v in row.items() if k.startswith("seconds_")}
    phases["rest"] = o.watch.seconds[number] - sum(phases.values())
    limit = o.module.state.convergence.max_shells[number]
    return measured(phases, row["particles"], (limit, number == 0, 1.0))


def _rates(o: Outcome) -> list[Row]:
    rows = []
    for number, row in enumerate(o.module.state.history):
        cost = _cost(o, number)
        spent = cost.seconds
        rates = {name: cost.particles / spent[phase] for phase, name in NAMES.items()}
        maps = sum(spent.get(phase, 0.0) for phase in MAPS)
        each = sum(spent[phase] for phase in PER_IMAGE if phase in spent)
        rows.append(
            {
                "particles": int(cost.particles),
                "iteration": number + 1,
                "limit, Å": row["limit"],
                **{f"{name}, /s": rate for name, rate in rates.items()},
                "all of these, /s": cost.particles / each,
                "templates, s": spent["templates"],
                "M-step, s": maps,
                "rest, s": spent["rest"],
            }
        )
    return rows


def _seconds(o: Outcome, number: int, particles: float, limit: float) -> float:
    """Of such an iteration with so many particles at a limit in shells."""
    cost = _cost(o, number)
    return seconds_of(Continue(limit), cost.first, 1.0, particles, cost, o.module.settings)


def _foretold(by: Outcome, other: Outcome) -> list[Row]:
    rows = []
    for number, seconds in enumerate(other.watch.seconds):
        limit = other.module.state.convergence.max_shells[number]
        told = _seconds(by, number, len(other.images), limit)
        row: Row = {"by": len(by.images), "particles": len(other.images), "iteration": number + 1}
        rows.append(
            row | {"foretold": told, "measured": seconds, "foretold / measured": told / seconds}
        )
    return rows


def _at_full_size(o: Outcome, number: int, particles: int) -> Row:
    limit = o.module.state.convergence.max_shells[number]
    edge = o.images.box * o.images.pixel_size
    row: Row = {"iteration": number + 1, "limit, Å": edge / limit}
    return row | {"s": _seconds(o, number, particles, limit)}
