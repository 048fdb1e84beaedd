from __future__ import annotations

import io
import time
from types import SimpleNamespace

import lightning.pytorch as lightning
import pytest
import torch

from cryotorch.report.progress import IterationBar

pytestmark = pytest.mark.filterwarnings("ignore:.*num_workers:UserWarning")


class Stub(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.result = SimpleNamespace(resolution=7.84)

    def configure_optimizers(self):
        return None

    def train_dataloader(self):
        pack = lambda rows: SimpleNamespace(index=rows * 30)  # noqa: E731
        return torch.utils.data.DataLoader(range(5), num_workers=0, collate_fn=pack)

    def training_step(self, batch, batch_idx):
        time.sleep(0.06)  # bars are drawn ten times a second at most
        return None


def fit(bar: IterationBar) -> lightning.Trainer:
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        callbacks=[bar],
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    with pytest.warns(UserWarning, match="configure_optimizers"):
        trainer.fit(Stub())
    return trainer


def test_bar_counts_batches_and_tells_the_time_left() -> None:
    stream = io.StringIO()
    bar = IterationBar(stream, show=True)
    trainer = fit(bar)
    assert [type(c) for c in trainer.callbacks] == [IterationBar]  # Lightning added none of its own
    text = stream.getvalue()
    assert "Iteration 1 of at most 2" in text and "Iteration 2 of at most 2" in text
    assert "/5 batches" in text and " left" in text and "7.84 Å so far" in text
    assert " particles/s, 7.84 Å so far" in text


def test_bar_is_quiet_where_nobody_watches() -> None:
    stream = io.StringIO()
    fit(IterationBar(stream))
    assert stream.getvalue() == ""


def test_other_ranks_draw_no_bar() -> None:
    stream = io.StringIO()
    bar = IterationBar(stream, show=True)
    trainer = SimpleNamespace(is_global_zero=False, max_epochs=2, current_epoch=0)
    bar.on_train_epoch_start(trainer, SimpleNamespace(result=None))
    bar.on_train_batch_end(trainer, None, None, None, 0)
    assert stream.getvalue() == ""
