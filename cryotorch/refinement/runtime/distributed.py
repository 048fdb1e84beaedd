"""Who works on what: batches of one half set each, dealt out so that every rank has equally many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from cryotorch.particles import Batch
from cryotorch.refinement.runtime.watch import Launcher, Watch


class EMStrategy(DDPStrategy):
    """Several processes that only add up sums: there are no gradients, so nothing is wrapped."""

    strategy_name = "ddp_em"

    def __init__(self, watch: Watch | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.watch = watch

    def _configure_launcher(self) -> None:
        super()._configure_launcher()
        if self.watch is not None:
            self._launcher = Launcher(
                self.watch, self.cluster_environment, self.num_processes, self.num_nodes
            )

    def configure_ddp(self) -> None:
        """Leave the module as it is."""


def of_every_rank(value: object, world_size: int) -> list:
    """The value of each rank, in their order; all of them must call it."""
    if world_size == 1:
        return [value]
    every: list = [None] * world_size
    torch.distributed.all_gather_object(every, value)
    return every


def plan_batches(half: Tensor, batch_size: int) -> list[list[int]]:
    """Rows of all batches of particles with half sets (n,): 0 first, then 1, in file order; each particle exactly once."""
    batches = []
    for which in (0, 1):
        rows = torch.nonzero(half == which)[:, 0]
        batches += [part.tolist() for part in rows.split(batch_size) if len(part)]
    return batches


class Batches(Dataset):
    """Batch number -> ``Batch``; number -1 is an empty filler.

    Args:
        images: anything whose ``[rows]`` is a tensor (b, d, d).
        half: (n,) half set of every particle.
        seed: of the draw of shares.
    """

    def __init__(self, images: Any, half: Tensor, batch_size: int, seed: int = 0) -> None:
        self.images, self.half, self.seed = images, half, seed
        self.rows = plan_batches(half, batch_size)
        self._keep: torch.device | None = None
        self._kept: dict[int, Batch] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Batch:
        if number < 0:
            return Batch(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 1, 1), 0)
        if number in self._kept:
            return self._kept[number]
        rows = self.rows[number]
        batch = Batch(torch.tensor(rows), self.images[rows], int(self.half[rows[0]]))
        if self._keep is not None:
            try:
                batch = self._kept[number] = batch.to(self._keep)
            except torch.OutOfMemoryError:  # the others are read every time
                self._keep = None
        return batch

    def share(self, share: float, known: Tensor) -> list[int]:
        """Numbers of a random share of the batches of each half set, one at least; every larger share holds it too.

        Half by half, particles that are ``known`` (n,) first: each of these four parts has templates of its own.
        """
        generator = torch.Generator().manual_seed(self.seed)
        chosen = []
        for half in (0, 1):
            mine = [i for i, rows in enumerate(self.rows) if self.half[rows[0]] == half]
            order = torch.randperm(len(mine), generator=generator)
            taken = [mine[i] for i in order[: max(1, math.ceil(share * len(mine)))]]
            chosen += sorted(taken, key=lambda i: (not known[self.rows[i][0]], i))
        return chosen

    def let_go(self, needed: Sequence[int]) -> None:
        """Keep no batches but these."""
        self._kept = {number: self._kept[number] for number in needed if number in self._kept}

    @property
    def keeps_images(self) -> bool:
        """Whether batches lie on a device."""
        return bool(self._kept)

    def keep_on(self, device: torch.device | None) -> None:
        """From now on read every batch once and keep it on a device; None lets go of all of them."""
        self._keep = device
        if device is None:
            self._kept.clear()


class ShardSampler(Sampler):
    """The batch numbers of one rank: consecutive ones of those given, so that a rank keeps to one half set where it can.

    Every rank yields equally many, because the trainer synchronises at every batch: short ranks get fillers (-1).
    """

    def __init__(self, numbers: Sequence[int], rank: int = 0, world: int = 1) -> None:
        each = -(-len(numbers) // world)
        mine = list(numbers[rank * each : (rank + 1) * each])
        self.numbers = mine + [-1] * (each - len(mine))

    def __iter__(self):
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)
