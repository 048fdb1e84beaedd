"""The refinement as a LightningModule: an epoch is an EM iteration, a training step an E-step on one batch."""

from __future__ import annotations

import logging
from functools import partial

import lightning as L
import torch
from torch.utils.data import DataLoader

from cryotorch.errors import InputError
from cryotorch.particles import Batch
from cryotorch.refinement.em.ctf_round import CtfRound
from cryotorch.refinement.em.expectation import Expectation
from cryotorch.refinement.em.iteration import expect, maximize
from cryotorch.refinement.em.map_solve import MapSolve
from cryotorch.refinement.em.out_of_memory import (
    AdaptiveBatch,
    RetryWithoutCache,
    free_memory,
    images_stay,
    snapshot,
)
from cryotorch.refinement.em.schedule import Continue, Stop, advance
from cryotorch.refinement.runtime.distributed import Batches, ShardSampler
from cryotorch.refinement.runtime.prefetch import PrefetchLoader
from cryotorch.refinement.runtime.ranks import Ranks
from cryotorch.refinement.settings import EMSettings
from cryotorch.refinement.state import ConvergenceHistory, State
from cryotorch.results import IterationResult


class Refinement(L.LightningModule):
    """Expectation-maximization of two half maps.

    The M-step runs inside the last ``training_step`` of an epoch, so every callback's ``on_train_epoch_end`` sees the new
    map in ``result``.
    """

    def __init__(
        self, state: State, settings: EMSettings, batches: Batches, workers: int = 0
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.state, self.settings, self.batches, self.workers = state, settings, batches, workers
        self.result: IterationResult | None = None
        self.expectation: Expectation | None = None
        self.ctf: CtfRound | None = None
        self.room = RetryWithoutCache(batches)
        self.portions = AdaptiveBatch(self.room.make)

    def configure_optimizers(self) -> MapSolve:
        """The M-step."""
        return MapSolve(self._maximize)

    def train_dataloader(self) -> DataLoader | PrefetchLoader:
        """This rank's part of the batches that the coming iteration takes, in order."""
        taken = self.batches.share(self.state.share, self.state.has_pose)
        sampler = ShardSampler(taken, self.global_rank, self.trainer.world_size)
        if self.trainer.world_size > 1:  # those that others work on now
            self.batches.let_go(sampler.numbers)
        loader = DataLoader(
            self.batches,
            batch_size=None,
            sampler=sampler,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=self.device.type == "cuda",
        )
        return loader if self.workers else PrefetchLoader(loader)

    def on_fit_start(self) -> None:
        """The state's tensors are not parameters: move them."""
        for name in State.TENSORS:
            value = getattr(self.state, name)
            if value is not None:
                setattr(self.state, name, value.to(self.device))
        if self.device.type == "cuda" and self.workers == 0:
            self._keep_images()

    def _keep_images(self) -> None:
        """Read images once where the device has room for those of this rank."""
        mine = ShardSampler(range(len(self.batches)), self.global_rank, self.trainer.world_size)
        images = sum(len(self.batches.rows[number]) for number in mine if number >= 0)
        if images_stay(images, self.settings.box, free_memory(self.device)):
            self.batches.keep_on(self.device)
            logging.getLogger("cryotorch").info("The images are read once and stay on the device.")

    def on_fit_end(self) -> None:
        """Leave the device to others."""
        self.batches.keep_on(None)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Without waiting for the copy."""
        return batch.to(device, non_blocking=True)

    def on_train_epoch_start(self) -> None:
        """Fresh sums. Raises InputError where a checkpoint's count of epochs is not that of its iterations."""
        if self.trainer.current_epoch != self.state.iteration:
            raise InputError(
                f"the checkpoint cannot be used: it counts {self.trainer.current_epoch} iterations where {self.state.iteration} were done"
            )
        self.expectation = Expectation(self.state, self.settings, self.device)
        self.ctf = None
        if self.state.refines_ctf:
            self.ctf = CtfRound(self.state, self.settings, self.batches, self.settings.ctf)

    @torch.no_grad()
    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """E-step of a batch; after the last one, the M-step."""
        if len(batch.index):
            self.room(lambda: self.expectation.use(batch))
        self.portions(partial(expect, self.expectation), batch)
        if self.ctf is not None:
            self.ctf.add(batch, self.expectation)
        if self.trainer.is_last_batch:
            self.optimizers().step()

    def _maximize(self) -> None:
        self.expectation.drop()  # room for the maps
        world = self.trainer.world_size
        ranks = Ranks(self.global_rank, world, self.device, self.room)
        name = getattr(self.batches.images, "name", "image {}".format)

        def solve() -> None:
            self.result = maximize(self.expectation, ranks, self.ctf, name)

        if world == 1:
            self.room(solve, snapshot(self.state))
        else:  # others wait for what comes next: only pieces are done again
            solve()
        self.expectation = self.ctf = None
        if self.state.stopped:
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Add the state, plain tensors and numbers."""
        checkpoint["refinement"] = self.state.state_dict()

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Take the state over; a run that had stopped goes on where the schedule of now does not."""
        self.state.load_state_dict(checkpoint["refinement"], self.device)
        decision = coming(checkpoint["refinement"], self.settings)
        if self.state.stopped and isinstance(decision, Continue):
            self.state.stopped = ""
            self.state.max_shell, self.state.share = decision.max_shell, decision.share
            if decision.refine_ctf:
                self.state.convergence.ctf_after.append(self.state.iteration)


def coming(saved: dict, settings: EMSettings) -> Continue | Stop:
    """What the schedule of now has in store for the state of a checkpoint; raises InputError if that has no course."""
    try:
        convergence = ConvergenceHistory(**saved["convergence"])
        convergence.check()
        return advance(convergence, settings.schedule)
    except (KeyError, TypeError, ValueError):
        raise InputError("the checkpoint cannot be used: its course is not that of a run") from None
