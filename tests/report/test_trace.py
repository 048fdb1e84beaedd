"""The trace of an iteration: which one, how much of it, what it tells."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from cryotorch.report.trace import Trace


class Counting(L.LightningModule):
    """Epochs of numbered batches, the solve of each in its last one."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.n = batches

    def train_dataloader(self) -> DataLoader:
        return DataLoader(torch.arange(self.n), batch_size=None)

    def training_step(self, batch, batch_idx: int) -> None:
        with torch.profiler.record_function(f"epoch {self.current_epoch} batch {batch_idx}"):
            torch.ones(8, 8) @ torch.ones(8, 8)

    def configure_optimizers(self) -> None:
        return None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("epochs", "batches", "traced", "recorded"),
    [(3, 4, 1, [0, 1, 3]), (1, 2, 0, [0, 1]), (2, 3, 1, [0, 1, 2])],
)
def test_one_iteration(
    tmp_path: Path, caplog, epochs: int, batches: int, traced: int, recorded: list[int]
) -> None:
    folder = tmp_path / "profile"
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        callbacks=[Trace(folder, batches=2)],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
    )
    with caplog.at_level(logging.INFO, "cryotorch"):
        trainer.fit(Counting(batches))
    name = f"iteration_{traced + 1:03d}"
    files = (
        {name: recorded}
        if len(recorded) == batches
        else {name: recorded[:-1], f"{name}_end": recorded[-1:]}
    )
    ends = (".pt.trace.json.gz", ".txt")
    assert {p.name for p in folder.iterdir()} == {f + end for f in files for end in ends}
    for file, numbers in files.items():
        events = json.loads(gzip.open(folder / f"{file}{ends[0]}").read())["traceEvents"]
        found = {e["name"] for e in events if str(e.get("name")).startswith("epoch")}
        assert found == {f"epoch {traced} batch {i}" for i in numbers}
    assert any("mm" in str(e.get("name")) for e in events)
    assert "aten::" in (folder / f"{name}.txt").read_text()
    (line,) = [r.message for r in caplog.records if "Trace" in r.message]
    assert f"iteration {traced + 1}" in line and "perfetto" in line and str(folder) in line
    assert ("first 2 batches, and the last" in line) == (batches > 3)
