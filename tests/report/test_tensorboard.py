from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import lightning.pytorch as lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cryotorch.report.figures import FIGURES
from cryotorch.report.tensorboard import LIVE, TensorBoardReport, scalars
from cryotorch.results import IterationResult, TimeLeft


class Stub(lightning.LightningModule):
    """Leaves a result behind after each epoch of two batches, as the refinement does."""

    def __init__(self, make, last: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.make, self.last = make, last
        self.result: IterationResult | None = None

    def configure_optimizers(self):
        return torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], 0.1)

    def train_dataloader(self):
        return torch.utils.data.DataLoader(range(2), num_workers=0)

    def training_step(self, batch, batch_idx):
        if self.trainer.is_last_batch:
            n = self.current_epoch + 1
            self.result = self.make(iteration=n, resolution=30.0 / n, final=n == self.last)


def run(make, folder: Path, callback: TensorBoardReport, last: int = 3) -> None:
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=TensorBoardLogger(folder, name="tensorboard", version=""),
        callbacks=[callback],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
    )
    trainer.fit(Stub(make, last))


pytestmark = pytest.mark.filterwarnings("ignore:.*num_workers:UserWarning")


def load(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), {"images": 0, "scalars": 0, "tensors": 0}).Reload()


@pytest.fixture(scope="module")
def log(make, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("run")
    callback = TensorBoardReport(folder / "plots", share=math.inf)
    run(make, folder, callback)
    return folder, callback, load(folder / "tensorboard")


def test_scalars_have_the_iteration_as_step(log) -> None:
    _, _, events = log
    assert {
        *("resolution/claimed", "resolution/no_mask", "resolution/corrected", "bfactor"),
        *("change/rotation_deg", "change/shift_A", "uncertainty/rotation_deg", "progress/limit"),
        *("seconds/total", "seconds/coarse", "seconds/solve", "scale/spread"),
    } <= set(events.Tags()["scalars"])
    claimed = events.Scalars("resolution/claimed")
    assert [e.step for e in claimed] == [1, 2, 3]
    np.testing.assert_allclose([e.value for e in claimed], [30, 15, 10])
    assert [e.value for e in events.Scalars("change/rotation_deg")] == [1.25] * 3


def test_live_figures_come_every_iteration_and_the_others_at_the_end(log) -> None:
    folder, _, events = log
    assert set(events.Tags()["images"]) == {f"plots/{name}" for name in FIGURES}
    for name in FIGURES:
        steps = [e.step for e in events.Images(f"plots/{name}")]
        assert steps == ([1, 2, 3] if name in LIVE else [3]), name
    last = events.Images("plots/fsc")[-1]
    assert last.encoded_image_string == (folder / "plots" / "fsc.png").read_bytes()
    size = Image.open(io.BytesIO(last.encoded_image_string)).size
    assert size == (last.width, last.height) and last.width > 600
    assert {p.stem for p in (folder / "plots").iterdir()} == set(FIGURES)


def test_curves_are_numbers_over_the_shell(log, make) -> None:
    folder, _, _ = log
    runs = sorted(p.name for p in (folder / "tensorboard").iterdir() if p.is_dir())
    assert runs == ["iteration_001", "iteration_002", "iteration_003"]
    events = load(folder / "tensorboard" / "iteration_002")
    curves = make(iteration=2).curves
    assert set(events.Tags()["scalars"]) == {f"fsc/{name}" for name in curves}
    points = events.Scalars("fsc/tight")
    assert [p.step for p in points] == list(range(17))
    np.testing.assert_allclose([p.value for p in points], curves["tight"].numpy(), rtol=1e-6)


def test_the_map_is_a_mesh(log) -> None:
    _, _, events = log
    tags = [tag for tag in events.Tags()["tensors"] if tag.startswith("map")]
    assert sorted(tags) == ["map_COLOR", "map_FACE", "map_VERTEX"]
    vertices = events.Tensors("map_VERTEX")
    assert [e.step for e in vertices] == [1, 2, 3]
    shape = [d.size for d in vertices[0].tensor_proto.tensor_shape.dim]
    assert shape[0] == 1 and shape[1] > 100 and shape[2] == 3


def test_layout_and_messages(log) -> None:
    _, _, events = log
    assert "custom_scalars__config__" in events.Tags()["tensors"]
    text = events.Tensors("messages/text_summary")
    assert [e.step for e in text] == [1, 2, 3]
    assert text[0].tensor_proto.string_val[0] == b"* the FSC no longer improves by 0.3 shell"


def test_a_run_that_ends_without_a_final_result_is_drawn_whole(make, tmp_path: Path) -> None:
    callback = TensorBoardReport(tmp_path / "plots", live=("fsc",), share=math.inf)
    run(make, tmp_path, callback, last=99)
    events = load(tmp_path / "tensorboard")
    assert [e.step for e in events.Images("plots/fsc")] == [1, 2, 3]
    assert [e.step for e in events.Images("plots/noise")] == [3]
    assert [e.step for e in events.Scalars("resolution/claimed")] == [1, 2, 3]
    assert len(callback.seconds) == 4


def test_other_ranks_and_missing_results_write_nothing(result, tmp_path: Path) -> None:
    callback = TensorBoardReport(tmp_path / "plots", share=math.inf)
    rank_1 = SimpleNamespace(is_global_zero=False, loggers=[])
    callback.on_train_epoch_end(rank_1, SimpleNamespace(result=result))
    rank_0 = SimpleNamespace(is_global_zero=True, loggers=[])
    callback.on_train_end(rank_0, SimpleNamespace(result=None))
    assert list(tmp_path.iterdir()) == []
    callback.on_train_epoch_end(rank_0, SimpleNamespace(result=result))  # files without a logger
    assert {p.stem for p in (tmp_path / "plots").iterdir()} == set(LIVE)


def test_numbers_that_are_not_finite_are_left_out(make) -> None:
    nan = torch.full((400,), torch.nan)
    found = scalars(make(rotation_change=nan, resolution=float("inf")))
    assert "change/rotation_deg" not in found and "resolution/claimed" not in found
    assert found["change/shift_A"] == pytest.approx(0.4)


def test_an_iteration_is_reported_in_a_second(log) -> None:
    """The aim is 1 s on an idle core at box 64; the bound leaves room for a busy machine."""
    _, callback, _ = log
    assert min(callback.seconds) < 5


def test_short_iterations_get_numbers_and_the_last_one_its_pictures(make, tmp_path: Path) -> None:
    run(make, tmp_path, TensorBoardReport(tmp_path / "plots"), last=3)
    events = load(tmp_path / "tensorboard")
    assert [e.step for e in events.Scalars("resolution/claimed")] == [1, 2, 3]
    assert [e.step for e in events.Images("plots/fsc")] == [3]


def test_the_time_left_is_a_pair_of_scalars_until_the_end(result: IterationResult) -> None:
    left = scalars(replace(result, time_left=TimeLeft((30.0, 90.0), (1, 3))))
    assert (left["seconds_left/least"], left["seconds_left/most"]) == (30.0, 90.0)
    assert not [tag for tag in scalars(result) if tag.startswith("seconds_left")]
