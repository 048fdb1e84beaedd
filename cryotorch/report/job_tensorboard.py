"""TensorBoard runs: pictures, curves over the shell, and numbers, for jobs that have no trainer."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

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


def read_curves(folder: Path) -> dict[str, list[float]]:
    """The inverse of ``write_curves``: {} where nothing whole is found."""
    curves: dict[str, list[float]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for record in _records(path.read_bytes()):
            for value in Event.FromString(record).summary.value:
                if value.tag.startswith("fsc/"):
                    curves.setdefault(value.tag[4:], []).append(value.simple_value)
    return curves


def _records(raw: bytes) -> Iterator[bytes]:
    """Of a TFRecord file: each is its length (8 bytes), a checksum (4), itself, a checksum (4); a last one that is cut off is left out."""
    place = 0
    while place + 12 <= len(raw):
        (length,) = struct.unpack_from("<Q", raw, place)
        end = place + 12 + length
        if end + 4 > len(raw):
            return
        yield raw[place + 12 : end]
        place = end + 4


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
