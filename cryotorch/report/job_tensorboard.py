"""TensorBoard runs: pictures, curves over the shell, and numbers, for jobs that have no trainer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from cryotorch.report.style import Picture


def add_pictures(writer: SummaryWriter, pictures: Mapping[str, Picture], step: int) -> None:
    """Add figures as ``plots/<name>``; ``add_image`` would compress them once more."""
    for name, (png, width, height) in pictures.items():
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
        value = Summary.Value(tag=f"plots/{name}", image=image)
        writer.file_writer.add_summary(Summary(value=[value]), step)


def add_curves(writer: SummaryWriter, curves: Mapping[str, Tensor]) -> None:
    """Add FSC curves (s,) as scalars ``fsc/<name>`` over the shell."""
    for name, curve in curves.items():
        for shell, value in enumerate(curve.tolist()):
            writer.add_scalar(f"fsc/{name}", value, shell)


def add_settings(writer: SummaryWriter, folder: Path | None) -> None:
    """The ``config.yaml`` of a run's folder as text, where there is one."""
    try:
        text = (Path(folder or "") / "config.yaml").read_text(encoding="utf-8")
    except OSError:
        return
    indented = "\n".join(f"    {line}" for line in text.splitlines())  # as it stands, in Markdown
    writer.add_text("settings", indented, 0)


def add_hyperparameters(
    folder: Path, values: Mapping[str, str], metrics: Mapping[str, float]
) -> str:
    """What a run of a sweep differs in, and what came out, into its folder; the name of the new file."""
    before = set(folder.glob("events.out.tfevents.*"))
    named = {f"result/{name}": value for name, value in metrics.items()}
    with SummaryWriter(str(folder)) as run:
        for summary in hparams(dict(values), named):
            run.file_writer.add_summary(summary)  # pyright: ignore[reportOptionalMemberAccess]
        for tag, value in named.items():
            run.add_scalar(tag, value, 0)
    (new,) = set(folder.glob("events.out.tfevents.*")) - before
    return new.name


def write_tensorboard(
    folder: Path,
    scalars: Mapping[str, float],
    pictures: Mapping[str, Picture],
    curves: Mapping[str, Tensor],
) -> None:
    """One run with numbers and pictures (step 0) and FSC curves (step = shell)."""
    with SummaryWriter(str(folder)) as run:
        for tag, value in scalars.items():
            run.add_scalar(tag, value, 0)
        add_pictures(run, pictures, 0)
        add_curves(run, curves)
        add_settings(run, folder.parent)


class LiveBoard:
    """A run that grows while a job goes on.

    Args:
        share: most of the time since pictures were drawn last that drawing the next may take.
    """

    def __init__(self, folder: Path, share: float = 0.1) -> None:
        self.folder, self.share = folder, share
        self._rested, self._cost = time.perf_counter(), 0.0
        self._writer: SummaryWriter | None = None

    def add(
        self, step: int, scalars: Mapping[str, float], draw: Callable[[], Mapping[str, Picture]]
    ) -> None:
        """Numbers of a step, and the pictures that ``draw`` makes where there is time for them."""
        if self._writer is None:
            self._writer = SummaryWriter(str(self.folder))
            add_settings(self._writer, self.folder.parent)
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, step)
        start = time.perf_counter()
        if self._cost <= self.share * (start - self._rested):
            add_pictures(self._writer, draw(), step)
            self._rested = time.perf_counter()
            self._cost = self._rested - start
        self._writer.flush()

    def close(self) -> None:
        """Nothing more will come."""
        if self._writer is not None:
            self._writer.close()
