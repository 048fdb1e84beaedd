"""One line per iteration, for log.txt and the terminal."""

from __future__ import annotations

import logging
import math

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from cryotorch.report.run_log import LOGGER
from cryotorch.report.sentences import line
from cryotorch.report.summary import median, seconds_of
from cryotorch.results import IterationResult, told


def iteration_line(result: IterationResult) -> str:
    """``Iteration  7   7.84 Å   (no mask 9.60 Å)   rotation 1.24°   shift 0.41 Å   5.3 s, 377 particles/s``: medians of the changes.

    Where nothing is claimed, no curve's own resolution stands beside that.
    """
    parts = [f"Iteration {result.iteration:2d}", f"{told(result.resolution):>8}"]
    if "no_mask" in result.resolutions and math.isfinite(result.resolution):
        parts.append(f"(no mask {result.resolutions['no_mask']:.2f} Å)")
    for name, values, unit in (
        ("rotation", result.rotation_change, "°"),
        ("shift", result.shift_change, " Å"),
    ):
        change = median(values)
        parts.append(f"{name} {change:5.2f}{unit}" if math.isfinite(change) else f"{name} new")
    seconds = seconds_of(result)
    taken = result.history[-1].get("particles", 0.0) if result.history else 0.0
    rate = f", {taken / seconds:,.0f} particles/s" if taken and seconds > 0 else ""
    parts.append(f"{seconds:6.1f} s{rate}")
    return "   ".join(parts)


class IterationLog(Callback):
    """Logs ``iteration_line`` and the messages of ``pl_module.result`` after each iteration, on rank 0."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        result = getattr(pl_module, "result", None)
        if not trainer.is_global_zero or result is None:
            return
        log = logging.getLogger(LOGGER)
        log.info(iteration_line(result))
        for message in result.messages:
            log.info("    %s", line(message))
