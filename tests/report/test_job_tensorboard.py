"""TensorBoard runs of jobs without a trainer: what is written is what TensorBoard reads."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cryotorch.report.job_tensorboard import LiveBoard, write_tensorboard
from cryotorch.report.style import Picture

CURVES = {"tight": torch.tensor([1.0, 0.75, 0.25]), "no_mask": torch.tensor([1.0, 0.5, 0.0])}


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), {"images": 0, "scalars": 0})
    found.Reload()
    return found


def test_numbers_pictures_and_curves(tmp_path: Path) -> None:
    picture = Picture(b"\x89PNG of mine", 320, 200)
    write_tensorboard(tmp_path, {"resolution/tight": 3.5}, {"fsc": picture}, CURVES)
    found = events(tmp_path)
    assert found.Tags()["images"] == ["plots/fsc"]
    (image,) = found.Images("plots/fsc")
    assert image.encoded_image_string == picture[0]  # as it is, not compressed anew
    assert (image.width, image.height, image.step) == (320, 200, 0)
    (number,) = found.Scalars("resolution/tight")
    assert (number.value, number.step) == (3.5, 0)
    curve = found.Scalars("fsc/tight")
    assert [(e.step, e.value) for e in curve] == [(0, 1.0), (1, 0.75), (2, 0.25)]


def test_settings_are_text(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("job: sharpen\nout: a*b*\n")
    write_tensorboard(tmp_path / "tensorboard", {}, {}, {})
    (text,) = events(tmp_path / "tensorboard").Tensors("settings/text_summary")
    assert text.tensor_proto.string_val[0] == b"    job: sharpen\n    out: a*b*"


def test_a_board_that_grows(tmp_path: Path) -> None:
    """All numbers, and pictures as long as drawing them takes a small part of the time."""
    drawn: list[int] = []

    def draw(step: int) -> dict[str, Picture]:
        drawn.append(step)
        time.sleep(0.05)
        return {"start": Picture(b"\x89PNG", 1, 1)}

    board = LiveBoard(tmp_path, share=0.1)
    for step in (1, 2, 3):
        board.add(step, {"score": step / 2}, lambda step=step: draw(step))
    assert [(e.step, e.value) for e in events(tmp_path).Scalars("score")] == [
        (1, 0.5),
        (2, 1.0),
        (3, 1.5),
    ]
    assert drawn == [1]
    board.share = 1e9
    board.add(4, {}, lambda: draw(4))
    board.close()
    assert [event.step for event in events(tmp_path).Images("plots/start")] == [1, 4]


def test_curves_are_read_as_they_were_written(tmp_path: Path) -> None:
    from cryotorch.report.job_tensorboard import read_curves, write_curves

    curves = {"corrected": torch.linspace(1, 0, 9), "tight": torch.rand(9)}
    write_curves(tmp_path, curves)
    found = read_curves(tmp_path)
    assert {name: pytest.approx(c.tolist()) for name, c in curves.items()} == found
    (path,) = tmp_path.glob("events*")
    path.write_bytes(path.read_bytes()[:-5])  # killed while it wrote
    assert len(read_curves(tmp_path)["tight"]) == 8
    assert read_curves(tmp_path / "none") == {}
