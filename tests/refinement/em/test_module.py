"""The Lightning module: an epoch is an iteration, checkpoints resume it, callbacks see its map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from cryotorch.findings import codes
from cryotorch.ops.geometry.rotations import rotation_angle
from cryotorch.refinement.em import iteration
from cryotorch.refinement.em import module as module_of
from cryotorch.refinement.em import schedule as schedule_of
from cryotorch.refinement.em.initialise import initialise_state
from cryotorch.refinement.em.module import Refinement
from cryotorch.refinement.runtime.checkpoints import AtomicCheckpoints
from cryotorch.refinement.settings import ScheduleSettings

ITERATIONS = 4
SCHEDULE = ScheduleSettings(4.0, 11.0, max_iterations=ITERATIONS, patience=9)


class Witness(L.Callback):
    """Keeps what a callback sees at the end of every epoch."""

    def __init__(self) -> None:
        self.results: list = []
        self.steps: list[int] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.results.append(pl_module.result)
        self.steps.append(trainer.global_step)


def refine(
    world, folder: Path, checkpoint: Path | None = None, kind: type = Refinement, size: int = 32
):
    witness = Witness()
    saver = ModelCheckpoint(
        folder, "iteration_{epoch:03d}", auto_insert_metric_name=False, save_top_k=-1
    )
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=ITERATIONS,
        logger=False,
        callbacks=[witness, saver],
        plugins=[AtomicCheckpoints()],
        use_distributed_sampler=False,
        reload_dataloaders_every_n_epochs=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    with torch.no_grad():
        state, _ = initialise_state(
            world.blind,
            world.volume,
            world.batches(size),
            world.settings,
            24.0,
            torch.device("cpu"),
            checkpoint is None,
        )
    module = kind(state, world.settings, world.batches(size))
    trainer.fit(module, ckpt_path=checkpoint)
    return trainer, module, witness


@pytest.fixture
def world(simulate: Callable):
    return simulate(48, 4.0, schedule=SCHEDULE)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec")
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_run_and_its_resumption(world, tmp_path: Path) -> None:
    trainer, module, witness = refine(world, tmp_path / "whole")
    names = [f"iteration_{i:03d}.ckpt" for i in range(ITERATIONS)]
    assert (
        sorted(p.name for p in (tmp_path / "whole").iterdir()) == names
    )  # and no half-written file
    assert (
        witness.steps == [1, 2, 3, 4]
        and trainer.global_step == module.state.iteration == ITERATIONS
    )

    # each callback saw the map of its own iteration
    assert [r.iteration for r in witness.results] == [1, 2, 3, 4]
    maps = [r.map for r in witness.results]
    assert all(not torch.equal(a, b) for a, b in pairwise(maps))
    assert [r.final for r in witness.results] == [False, False, False, True]

    for after in (1, 3):
        resumed = refine(world, tmp_path / f"after_{after}", tmp_path / "whole" / names[after - 1])
        assert resumed[2].steps == list(range(after + 1, ITERATIONS + 1))
        again, expected = resumed[1].result, module.result
        assert torch.equal(again.half_maps, expected.half_maps)
        assert torch.equal(again.map, expected.map)
        assert torch.equal(again.particles.rotation, expected.particles.rotation)
        assert torch.equal(again.particles.scale, expected.particles.scale)
        assert [h["resolution"] for h in again.history] == [
            h["resolution"] for h in expected.history
        ]
        assert resumed[0].global_step == ITERATIONS


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec")
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_run_that_begins_with_a_share(
    simulate: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sixth of the particles, a third, then all; those not looked at yet stay out of the results."""
    monkeypatch.setattr(schedule_of, "FIRST_SUBSET", 4)
    monkeypatch.setattr(schedule_of, "SUBSET_GROWTH", 2)
    monkeypatch.setattr(schedule_of, "NEARLY_ALL", 0.5)
    plan = replace(SCHEDULE, images=24, patience=0, max_remaining_motion=0)
    world = simulate(48, 4.0, schedule=plan, scale_sigma=0.1)
    module, witness = refine(world, tmp_path / "whole", size=4)[1:]
    results = witness.results
    assert [h["particles"] for h in module.state.history] == [8, 16, 48]
    assert [len(r.particles) for r in results] == [8, 16, 48] and results[-1].final
    assert codes(results[0].messages) == ["some_particles"]
    assert results[0].messages[0].values == dict(seen=8, particles=48)
    assert results[1].rotation_change.isnan().tolist().count(False) == 8
    assert (results[2].rotation_change.isnan().sum(), len(results[2].rotation_change)) == (32, 48)
    for result in results[:2]:  # the scales of those that were looked at have the mean 1
        for half in (0, 1):
            mean = result.particles.scale[result.particles.half == half].mean()
            assert mean == pytest.approx(1, abs=1e-5)
    anchored = ~module.state.anchor_rotation.isnan().any(-1).any(-1)
    assert anchored.sum() == 8 and torch.isfinite(module.state.drift_turn).all()
    found = module.state.particles
    assert (found.pose_sigma > 0).all() and module.state.has_pose.all()
    error = torch.rad2deg(rotation_angle(found.rotation, world.truth.rotation))
    assert error.median() < 12  # after three iterations of small parts

    resumed = refine(world, tmp_path / "again", tmp_path / "whole" / "iteration_000.ckpt", size=4)[
        1
    ]
    assert torch.equal(resumed.result.half_maps, module.result.half_maps)
    assert torch.equal(resumed.state.particles.rotation, found.rotation)


class OnDevice(Refinement):
    """What a CUDA device does at the start, done on the CPU."""

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self._keep_images()

    def on_train_end(self) -> None:
        self.kept = len(self.batches._kept)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec")
@pytest.mark.parametrize(
    ("free", "stay"), [(2 * 4 * 48 * 24**2, True), (2 * 4 * 47 * 24**2, False)]
)
def test_images_that_stay_change_nothing(
    world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, stay: bool
) -> None:
    monkeypatch.setattr(module_of, "free_memory", lambda device: free)
    expected = refine(world, tmp_path / "read")[1]
    found = refine(world, tmp_path / "kept", kind=OnDevice)[1]
    assert found.kept == (len(found.batches) if stay else 0) and not found.batches._kept
    assert torch.equal(found.result.half_maps, expected.result.half_maps)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec")
def test_an_m_step_that_runs_out_of_memory_is_done_again_without_the_images(
    world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half way, with curves recorded."""
    monkeypatch.setattr(module_of, "free_memory", lambda device: 2**30)
    whole = refine(world, tmp_path / "whole", kind=OnDevice)[1]
    assert whole.kept > 0
    failures = []

    def full_once(name: str, at: int):
        inner = getattr(iteration, name)
        calls = count(1)

        def call(*arguments):
            if next(calls) == at:
                failures.append(name)
                raise torch.OutOfMemoryError
            return inner(*arguments)

        return call

    monkeypatch.setattr(iteration, "regularise", full_once("regularise", 2))
    again = refine(world, tmp_path / "again", kind=OnDevice)[1]
    assert failures == ["regularise"]
    assert again.kept == 0
    assert again.state.convergence == whole.state.convergence
    assert torch.equal(again.result.map, whole.result.map)
    with pytest.raises(torch.OutOfMemoryError):  # no images are kept
        monkeypatch.setattr(iteration, "regularise", full_once("regularise", 1))
        refine(world, tmp_path / "never")
