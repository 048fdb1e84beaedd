"""What can be watched in TensorBoard while classes are found: every start and every pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryotorch.refinement.hetero.classify import Pass, Run, Start
from cryotorch.refinement.hetero.refine import SearchPass
from cryotorch.report.job_tensorboard import LiveBoard


class Live:
    """Hears of what stages have made, by name, and writes its numbers into ``folder``; steps are the numbers of starts and passes."""

    def __init__(self, folder: Path) -> None:
        self.board = LiveBoard(folder)

    def __call__(self, name: str, value: Any) -> None:
        """A stage has ended."""
        number = name.partition("/")[2]
        if isinstance(value, Start):
            repeat, _, start = number.partition(".")
            self._add(int(start) + 1, {f"starts/score_run_{int(repeat) + 1}": value.score})
        elif isinstance(value, Pass):
            run, step = int(number) + 1, value.steps[-1]
            shares = {
                f"passes_run_{run}/share_class_{k}": x
                for k, x in enumerate(step.shares.tolist(), 1)
            }
            numbers = {"ess": step.ess, "changed": step.changed, "shell": step.shell}
            self._add(
                value.number, shares | {f"passes_run_{run}/{n}": x for n, x in numbers.items()}
            )
        elif isinstance(value, SearchPass):
            stage, k = name.replace(" ", "_"), value.classes
            shares = value.shares[-1].tolist()
            names = [f"share_class_{number}" for number in range(1, k + 1)] + ["share_junk"]
            made = value.share.shape[1]  # without junk where no class is for it
            numbers = dict(list(zip(names, shares, strict=True))[:made])
            numbers |= {"ess": value.ess, "changed": value.changed, "limit": value.limit}
            self._add(value.number, {f"{stage}/{n}": x for n, x in numbers.items()})
        elif isinstance(value, Run):
            judged = {"lead": value.verdict.lead, "score": value.score}
            self._add(int(number) + 1, {f"runs/{n}": x for n, x in judged.items()})

    def _add(self, step: int, scalars: dict[str, float]) -> None:
        self.board.add(step, scalars, dict)
