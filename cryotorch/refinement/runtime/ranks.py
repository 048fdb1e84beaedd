"""Work that follows the E-step, shared by the processes of a run: this piece is done by that rank, the result goes to all.

Every rank calls the same methods in the same order. What it decides by has come to all from one rank, bit by bit, so that ranks never
part. A piece is one function without arguments, of what all ranks have alike. On one process everything is done where it stands.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, distributed

from cryotorch.refinement.runtime.distributed import of_every_rank

T = TypeVar("T")
BYTES_AT_ONCE = 2**26  # of sums that come from another rank


class Told(NamedTuple):
    """A result without its tensors: the rest of it, pickled, and of every tensor on the device its shape and type."""

    rest: bytes
    tensors: list[tuple[torch.Size, torch.dtype]]


class Ranks:
    """The processes of a run, as one of them sees them.

    Args:
        attempt: does a piece, twice where memory runs out and some can be made free, see ``RetryWithoutCache``.

    Attributes:
        owners: ranks that hold the sums of half set A and B, once ``gather_halves`` has brought them there.
    """

    def __init__(
        self,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
        attempt: Callable[[Callable[[], None]], None] = lambda work: work(),
    ) -> None:
        self.rank, self.world, self.attempt = rank, world, attempt
        self.device = torch.device(device)
        self.owners = (0, 0)

    def each(self, pieces: Sequence[Callable[[], Any]], at: Sequence[int] | None = None) -> list:
        """The results of all pieces, on every rank; each is done by one, in turn, or by those ``at``, counted round and round.

        Results may be anything that can be pickled; tensors on the device stay there.
        """
        if self.world == 1:
            return [piece() for piece in pieces]
        ranks = [rank % self.world for rank in (range(len(pieces)) if at is None else at)]
        mine, tensors = {}, {}
        for number, (piece, rank) in enumerate(zip(pieces, ranks, strict=True)):
            if rank == self.rank:
                mine[number], tensors[number] = _told(self.here(piece), self.device)
        told = of_every_rank(mine, self.world)
        return [
            self._from(rank, told[rank][number], tensors.get(number))
            for number, rank in enumerate(ranks)
        ]

    def here(self, piece: Callable[[], T]) -> T:
        """A piece that this rank does for itself, such as one on the sums that it holds."""
        found: list[T] = []
        self.attempt(lambda: found.append(piece()))
        return found[0]

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Tensors, each of any shape, become their sums over all ranks."""
        if self.world == 1:
            return
        for tensor in tensors:
            on_device = tensor.to(self.device)
            distributed.all_reduce(on_device)
            tensor.copy_(on_device)

    def gather_halves(self, sums: dict[int, Tensor], filled: set[int]) -> None:
        """Bring the sums of each half set together on one rank, its owner: the first rank with images of A, the last one with images of B.

        Pairs of ranks add up, then pairs of pairs. Elsewhere sums, any shape, are taken out of the dictionary.

        Args:
            filled: half sets that this rank has images of.
        """
        every = of_every_rank(filled, self.world)
        holders = [
            [r for r, halves in enumerate(every) if half in halves] or [0] for half in (0, 1)
        ]
        holders[1].reverse()
        self.owners = (holders[0][0], holders[1][0])
        for half, ranks in enumerate(holders):
            self._add_pairs(sums[half], ranks)
            if self.rank != ranks[0]:
                del sums[half]

    def _add_pairs(self, total: Tensor, ranks: list[int]) -> None:
        step = 1
        while step < len(ranks):
            for first, second in zip(ranks[:: 2 * step], ranks[step :: 2 * step], strict=False):
                for part in total.split(max(1, BYTES_AT_ONCE // total[0].nbytes)):
                    other = self.hand_over([part], second, first)
                    if other is not None:
                        part += other[0]
            step *= 2

    def hand_over(self, tensors: Sequence[Tensor], source: int, target: int) -> list[Tensor] | None:
        """Contiguous tensors of one rank, any shape, for another, which has some of the same shapes: a copy there, None on all others."""
        if source == target == self.rank:
            return [tensor.clone() for tensor in tensors]
        if self.rank == source:
            for tensor in tensors:
                distributed.send(_bytes(tensor), target)
        if self.rank != target:
            return None
        found = [torch.empty_like(tensor) for tensor in tensors]
        for tensor in found:
            distributed.recv(_bytes(tensor), source)
        return found

    def _from(self, rank: int, told: Told, mine: list[Tensor] | None) -> Any:
        tensors = mine
        if tensors is None:
            tensors = [torch.empty(s, dtype=t, device=self.device) for s, t in told.tensors]
        for tensor in tensors:
            distributed.broadcast(_bytes(tensor), rank)
        return _Unpickler(BytesIO(told.rest), tensors).load()


def _told(result: object, device: torch.device) -> tuple[Told, list[Tensor]]:
    file = BytesIO()
    pickler = _Pickler(file, device)
    pickler.dump(result)
    tensors = pickler.tensors
    return Told(file.getvalue(), [(t.shape, t.dtype) for t in tensors]), tensors


def _bytes(tensor: Tensor) -> Tensor:
    """A view (n,) uint8 of a contiguous tensor: libraries know few types."""
    return tensor.view(-1).view(torch.uint8)


class _Pickler(pickle.Pickler):
    """Leaves the tensors of a device out, and keeps them in order."""

    def __init__(self, file: BytesIO, device: torch.device) -> None:
        super().__init__(file)
        self.device, self.tensors = device, []

    def persistent_id(self, obj: Any) -> int | None:
        if not isinstance(obj, Tensor) or obj.device.type != self.device.type or not obj.numel():
            return None
        self.tensors.append(obj.contiguous())
        return len(self.tensors) - 1


class _Unpickler(pickle.Unpickler):
    """Puts them back."""

    def __init__(self, file: BytesIO, tensors: list[Tensor]) -> None:
        super().__init__(file)
        self.tensors = tensors

    def persistent_load(self, pid: int) -> Tensor:
        return self.tensors[pid]
