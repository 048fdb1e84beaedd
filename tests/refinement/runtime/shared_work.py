"""Processes that share the work of an iteration: one, two and three of them.

    python shared_work.py <folder>

They read ``scene.pt`` there, meet by a file, and each leaves ``<world>_<rank>.pt``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor, distributed

from cryotorch.refinement.em.expectation import Expectation
from cryotorch.refinement.em.iteration import expect, maximize
from cryotorch.refinement.runtime.distributed import Batches, ShardSampler
from cryotorch.refinement.runtime.ranks import Ranks
from cryotorch.refinement.state import State
from cryotorch.results import Guinier, IterationResult


def iterate(scene: dict, ranks: Ranks) -> tuple[IterationResult, State, list[int]]:
    """Two iterations from the truth of ``scene``; the result, the state, and whose sums this rank had in the end."""
    settings, blind, volume = scene["settings"], scene["blind"], scene["volume"]
    batches = Batches(scene["images"], blind.half, 16)
    noise = torch.full((2, 1, settings.box // 2 + 1), 0.7)
    state = State(blind, torch.stack([volume] * 2), noise, 7.0)
    for _ in range(2):
        expectation = Expectation(state, settings, torch.device("cpu"))
        for number in ShardSampler(range(len(batches)), ranks.rank, ranks.world):
            expect(expectation, batches[number])
        result = maximize(expectation, ranks)
    return result, state, sorted(expectation.sums)


def pieces() -> list[Callable[[], object]]:
    """Results of several kinds."""
    draw = torch.Generator().manual_seed(4)
    wave = torch.randn(5, 3, dtype=torch.complex64, generator=draw)
    used = torch.tensor([True, False])
    return [
        lambda: (wave.mT, "a word", None),  # not contiguous
        lambda: [used, torch.tensor(2.5, dtype=torch.float64), torch.zeros(0)],
        lambda: Guinier(wave.abs(), wave.angle(), used, 1.0, -2.0, applied=80.0),
        lambda: 7,
    ]


def halves(ranks: Ranks) -> dict[int, Tensor]:
    """What is left of sums of which rank r has added r + 1 to half set A, or, the last two ranks, 10 (r + 1) to half set B."""
    mine = ranks.rank + 1
    filled = ({0} if mine < ranks.world else set()) | ({1} if mine >= ranks.world - 1 else set())
    sums = {half: torch.full((3, 2), 10.0**half * mine * (half in filled)) for half in (0, 1)}
    ranks.gather_halves(sums, filled)
    return sums


def second_attempt(ranks: Ranks) -> list[int]:
    """Of three pieces one fails at first."""
    attempts: list[int] = []

    def fails_once() -> int:
        attempts.append(len(attempts) + 1)
        if len(attempts) == 1:
            raise torch.OutOfMemoryError
        return attempts[-1]

    def attempt(work: Callable[[], None]) -> None:
        try:
            work()
        except torch.OutOfMemoryError:
            work()

    return Ranks(ranks.rank, ranks.world, "cpu", attempt).each([lambda: 0, fails_once, lambda: 5])


def main(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    meet = f"file://{folder}/meet_{world}"
    distributed.init_process_group("gloo", init_method=meet, rank=rank, world_size=world)
    ranks = Ranks(rank, world)
    found = {
        "each": ranks.each(pieces()),
        "at the last": ranks.each([lambda: ranks.rank], at=[-1]),
        "attempts": second_attempt(ranks) if world > 1 else [],
        "halves": halves(ranks),
        "owners": ranks.owners,
        "handed over": ranks.hand_over([torch.full((2,), rank + 1.0)], world - 1, 0),
    }
    scene = torch.load(folder / "scene.pt", weights_only=False)
    with torch.no_grad():
        found["iteration"] = iterate(scene, ranks)
    torch.save(found, folder / f"{world}_{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    fork = get_context("fork")  # what is imported here is imported once
    for worlds in ((1,), (2, 3)):  # and compiled by the first
        every = [(rank, world, Path(sys.argv[1])) for world in worlds for rank in range(world)]
        begun = [fork.Process(target=main, args=arguments) for arguments in every]
        for process in begun:
            process.start()
        for process in begun:
            process.join()
        if any(process.exitcode for process in begun):
            sys.exit(1)
