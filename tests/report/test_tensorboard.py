from __future__ import annotations

import io
import math
import time
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

from cryotorch.report.figures import FIGURES, draw
from cryotorch.report.mesh import Mesh
from cryotorch.report.tensorboard import ALWAYS, FIELD, MAP, TensorBoardReport, camera, scalars
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
    (folder / "config.yaml").write_text("job: homo_refine\nseed: 7\n")
    callback = TensorBoardReport(folder / "plots", share=math.inf)
    run(make, folder, callback)
    return folder, callback, load(folder / "tensorboard")


def test_scalars_have_the_iteration_as_step(log) -> None:
    _, _, events = log
    assert {
        *("resolution/claimed", "resolution/no_mask", "resolution/corrected", "sharpening/bfactor"),
        *("change/rotation_deg", "change/shift_A", "uncertainty/rotation_deg", "progress/limit"),
        *("seconds/total", "seconds/coarse", "seconds/solve", "scale/spread"),
    } <= set(events.Tags()["scalars"])
    claimed = events.Scalars("resolution/claimed")
    assert [e.step for e in claimed] == [1, 2, 3]
    np.testing.assert_allclose([e.value for e in claimed], [30, 15, 10])
    assert [e.value for e in events.Scalars("change/rotation_deg")] == [1.25] * 3


def test_all_figures_come_every_iteration_where_there_is_time(log) -> None:
    folder, _, events = log
    assert set(events.Tags()["images"]) == {f"plots/{name}" for name in FIGURES}
    for name in FIGURES:
        steps = [e.step for e in events.Images(f"plots/{name}")]
        assert steps == [1, 2, 3], name
    last = events.Images("plots/fsc")[-1]
    assert last.encoded_image_string == (folder / "plots" / "fsc.png").read_bytes()
    size = Image.open(io.BytesIO(last.encoded_image_string)).size
    assert size == (last.width, last.height) and last.width > 600
    assert {p.stem for p in (folder / "plots").iterdir()} == set(FIGURES)


def test_every_mask_is_a_run_with_a_colour_of_its_own(log, make) -> None:
    folder, _, _ = log
    runs = sorted(p.name for p in (folder / "tensorboard").iterdir() if p.is_dir())
    assert runs == ["corrected", "loose_mask", "no_mask", "spherical_mask", "tight_mask"]
    events = load(folder / "tensorboard" / "tight_mask")
    assert events.Tags()["scalars"] == ["resolution_by_mask"]
    points = events.Scalars("resolution_by_mask")
    assert [p.step for p in points] == [1, 2, 3]
    np.testing.assert_allclose([p.value for p in points], make().resolutions["tight"], rtol=1e-6)


def test_the_map_is_a_mesh(log) -> None:
    _, _, events = log
    tags = [tag for tag in events.Tags()["tensors"] if tag.startswith("map")]
    assert sorted(tags) == [f"{MAP}_{part}" for part in ("COLOR", "FACE", "VERTEX")]
    vertices = events.Tensors(f"{MAP}_VERTEX")
    assert [e.step for e in vertices] == [1, 2, 3]
    shape = [d.size for d in vertices[0].tensor_proto.tensor_shape.dim]
    assert shape[0] == 1 and shape[1] > 100 and shape[2] == 3


def test_the_camera_sees_all_of_the_map_and_little_else() -> None:
    draw = np.random.default_rng(0)
    for size in ((50.0, 20.0, 90.0), (90.0, 50.0, 20.0)):
        vertices = (draw.standard_normal((500, 3)) * size + (5.0, -8.0, 3.0)).astype(np.float32)
        seen = camera(Mesh(vertices, np.zeros((0, 3), np.int32), vertices.astype(np.uint8)))
        at = np.array(seen["position"]) - vertices
        angle = np.degrees(np.arctan2(np.abs(at[:, :2]).max(1), at[:, 2]))
        assert (at[:, 2] > 0).all()
        assert 0.85 * FIELD / 2 < angle.max() < FIELD / 2


def test_layout_settings_and_messages(log) -> None:
    _, _, events = log
    layout = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    assert b"resolution_by_mask" in layout and b"seconds_left/most" in layout
    text = events.Tensors("messages/text_summary")
    assert [e.step for e in text] == [1, 2, 3]
    assert text[0].tensor_proto.string_val[0] == b"* the FSC no longer improves by 0.3 shell"
    reading = events.Tensors("how to read this/text_summary")[0].tensor_proto.string_val[0]
    assert b"Ignore outliers" in reading
    settings = events.Tensors("settings/text_summary")[0].tensor_proto.string_val[0]
    assert settings == b"    job: homo_refine\n    seed: 7"


def test_a_run_that_ends_without_a_final_result_is_drawn_whole(make, tmp_path: Path) -> None:
    callback = TensorBoardReport(tmp_path / "plots", share=0.0)
    run(make, tmp_path, callback, last=99)
    events = load(tmp_path / "tensorboard")
    assert [e.step for e in events.Images("plots/fsc")] == [1, 2, 3]
    assert [e.step for e in events.Images("plots/noise")] == [3]
    said = [e.tensor_proto.string_val[0].decode() for e in events.Tensors("messages/text_summary")]
    assert "not drawn: slices, mask, orientations" in said[0]
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
    assert {p.stem for p in (tmp_path / "plots").iterdir()} == set(FIGURES)


def test_numbers_that_are_not_finite_are_left_out(make) -> None:
    nan = torch.full((400,), torch.nan)
    found = scalars(make(rotation_change=nan, resolution=float("inf")))
    assert "change/rotation_deg" not in found and "resolution/claimed" not in found
    assert found["change/shift_A"] == pytest.approx(0.4)


def test_an_iteration_is_drawn_in_a_second(result: IterationResult) -> None:
    """The aim is 1.5 s of processor time at box 64, whoever else is at work; the bound leaves room for slow ones."""
    start = time.process_time()
    assert len(draw(result)) == len(FIGURES)
    assert time.process_time() - start < 5


def test_short_iterations_get_what_there_is_time_for(make, monkeypatch) -> None:
    """The FSC always, and those that were not drawn for longest."""
    report = TensorBoardReport(share=0.05)
    monkeypatch.setattr("cryotorch.report.tensorboard.time.perf_counter", lambda: now)
    now = report._started = 1000.0
    assert report._affordable() == (ALWAYS,)
    now += 20  # 1 s of drawing
    assert report._affordable() == (ALWAYS, "slices", "mask")
    report._drawn_at = {"slices": 1, "mask": 1}
    report.costs = {ALWAYS: 0.1, "orientations": 0.5}
    assert report._affordable() == (ALWAYS, "orientations", "resolution")
    report.seconds = [0.85]
    assert report._affordable() == (ALWAYS,)


def test_the_time_left_is_a_pair_of_scalars_until_the_end(result: IterationResult) -> None:
    left = scalars(replace(result, time_left=TimeLeft((30.0, 90.0), (1, 3))))
    assert (left["seconds_left/least"], left["seconds_left/most"]) == (30.0, 90.0)
    assert not [tag for tag in scalars(result) if tag.startswith("seconds_left")]
